"""Objects in which threads of the neutron source meet: any thread may call them.  ``shared`` builds them all.

===========================  =========================  ======================  ===================================
object                       written by                 read by                 safe because
===========================  =========================  ======================  ===================================
``fetch_inbox.FetchInbox``   bus (by                    neutron-fetch           one condition variable
                             ``notification_handler``),
                             neutron-report, worker
                             (``source.rescan``)
``report_inbox.ReportInbox`` neutron-fetch, main        neutron-report          one condition variable, frozen
                                                                                messages
``router_store.RouterStore`` neutron-fetch, bus,        all                     one lock; entries are frozen;
                             neutron-fallback, and                              documents are parsed outside it
                             neutron-report (``fail``)
``event_queue.EventQueue``   writers of RouterStore     main (``source.poll``)  one lock, one eventfd
``document_files``           neutron-fetch, and its     neutron-fallback, main  one lock; files are renamed into
                             timer (neutron-files)      (``problem``)           place
``gateway_port_refs``        neutron-report             neutron-fetch           one lock
``server_status``            neutron-fetch, -report     main                    one lock; values are replaced
===========================  =========================  ======================  ===================================

The only object that waits is an inbox, and only for its own thread (``FetchInbox.wait``, ``ReportInbox.wait``).
RouterStore puts events into EventQueue while it holds its lock, so that their order is that of the changes; no other
two locks are ever held together.
"""
