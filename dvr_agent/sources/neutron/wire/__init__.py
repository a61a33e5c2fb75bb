"""The message bus, by oslo.messaging (extra ``dvr-agent[neutron]``).

Threads: those of oslo.messaging run ``endpoint`` (one per topic, so notifications of a topic stay in order) and notify
``listener`` of a new channel; ``neutron-listen``, ``neutron-stop`` and ``neutron-close`` open and close connections,
which may hang while the broker cannot be reached; each call to the server runs in a thread ``rpc-<method>``.

Threads of ``fetch`` and ``report`` enter by the methods of ``rpc_client.L3PluginClient`` only, and wait there for the
``rpc-`` thread at a queue of the call's own, for a bounded time.  The daemon's threads enter by ``oslo_bus.OsloBus``.
Notifications leave by the ``notify`` function that ``OsloBus.listen`` is given.
"""
