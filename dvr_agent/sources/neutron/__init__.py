"""Router documents from a neutron-server: notifications of its message bus and answers of its L3 plugin become events.

The folder of a function says which thread runs it; ``tests/replay/test_threads.py`` checks it on a running daemon.

============  =======================================  ===========================================================
folder        job                                      thread
============  =======================================  ===========================================================
``wire``      oslo.messaging: RPC client, endpoints    threads of oslo.messaging, and threads that only wait for it
``fetch``     asks the server for routers and ports    ``neutron-fetch``
``store``     makes documents, caches them on disk     ``neutron-fetch``
``report``    reports agent state and statuses         ``neutron-report``
``crossing``  objects in which threads meet            any thread: each object has a lock of its own
============  =======================================  ===========================================================

Of the modules here ``source`` is the daemon's side (its main and worker threads), ``fallback`` has a thread of its own
(``neutron-fallback``), ``documents``, ``api`` and ``options`` are values and pure functions, for any thread.  ``open``
makes the source from the configuration, ``one_shot`` uses it once for ``dvrctl fetch``.

A cast ``routers_updated`` goes ``wire.endpoint`` → ``crossing.notification_handler`` → ``crossing.fetch_inbox`` →
``fetch.fetcher``, which asks the server (``fetch.chunked_fetch``, ``wire.rpc_client``) → ``fetch.answers``, which
completes the router (``fetch.enrichment``) → ``store.document_builder`` → ``crossing.router_store``, which parses the
document → ``crossing.event_queue`` → ``source.poll``, called by ``dvr_agent.daemon.source_reader``.  A full sync enters
at ``crossing.fetch_inbox`` too (``FetchInbox.sync``) and is made by ``fetch.full_sync``.

Imports go down only: ``source`` → ``fetch``, ``report``, ``wire`` (which do not import each other) → ``store`` →
``crossing`` → ``documents``, ``options``, ``api``.
"""
