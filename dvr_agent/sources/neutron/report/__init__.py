"""Reports to neutron-server: that this agent is alive, and the statuses of its floating IPs.

Thread: ``neutron-report`` runs everything here; start reading at ``reporter.Reporter.run``.  Other threads reach it by
``crossing.report_inbox`` only.  It is not the fetch thread so that a long full sync does not make the agent look dead.
"""
