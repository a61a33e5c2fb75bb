"""Router documents from a neutron-server: notifications of its message bus and answers of its L3 plugin become events.

The folder of a function says which thread runs it; ``tests/replay/test_threads.py`` checks it on a running daemon.

============  =======================================  ===========================================================
folder        job                                      thread
============  =======================================  ===========================================================
``wire``      oslo.messaging: RPC client, endpoints    threads of oslo.messaging, and threads that only wait for it
``fetch``     asks the server for routers and ports    ``neutron-fetch``
``store``     makes documents, keeps them on disk      ``neutron-fetch``
``report``    reports agent state and statuses         ``neutron-report``
``crossing``  objects in which threads meet            any thread: each object has a lock of its own
============  =======================================  ===========================================================

Of the modules here ``source`` is the daemon's side (its main and worker threads), ``fallback`` has a thread of its own
(``neutron-fallback``), ``documents``, ``api`` and ``options`` are values and pure functions, for any thread.  ``open``
makes the source of the configuration, ``one_shot`` uses it once for ``dvrctl fetch``.

A cast goes ``wire.endpoint`` → ``crossing.fetch_inbox`` → ``fetch.fetcher`` → ``store.document_builder`` →
``crossing.router_store`` → ``crossing.event_queue`` → ``source.poll``.  Imports go down only: ``source`` → ``fetch``,
``report``, ``wire`` (which do not know each other) → ``store`` → ``crossing`` → ``documents``, ``options``, ``api``.
"""
