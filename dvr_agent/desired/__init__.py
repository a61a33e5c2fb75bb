"""Compute the desired state of a router's namespaces, as ``docs/dataplane.md`` describes it.  Pure.

Input: the router (``model``), settings of the host, values that the host allocated.  ``build.desired_router`` is the
entrance, called by ``reconcile/draft.py``; ``host_view`` decides which parts are built here, and ``qrouter``, ``fip``
and ``central`` (SNAT, and legacy routers as a whole) compute one namespace each.
"""
