"""The event loop around the reconciler: queue, worker thread, retries, audit, admin socket, signals.

``green`` is the only module of the project that imports eventlet.  Nothing is monkey-patched: everything that blocks
runs in the one native thread of ``worker``, everything else runs in green threads and never blocks.
"""
