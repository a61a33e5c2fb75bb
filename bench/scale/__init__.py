"""A model of neutron-server under many hosts (``simulate``), its check by the real source, and the limits of a host."""
