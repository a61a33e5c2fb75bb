"""Sources of router documents: ``directory`` reads files, ``neutron`` asks a server; ``api`` is their interface."""
