"""The daemon, an event loop around the reconciler: queue, worker thread, retries, audit, admin socket, signals.

Start reading at ``service.run``; ``service`` shows how the objects depend on each other.

``eventlet_shim`` is the only module of the project that imports eventlet.  Nothing is monkey-patched: calls that block
run in the one native thread of ``worker``, everything else runs in green threads and never blocks.
"""
