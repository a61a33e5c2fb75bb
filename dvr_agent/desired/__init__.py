"""Pure functions that compute the desired state of a router's namespaces: ``docs/dataplane.md`` in code."""
