"""How ports reach their layer 2 networks: the interface (``api``) and its drivers, ``bridge`` and ``openvswitch``."""
