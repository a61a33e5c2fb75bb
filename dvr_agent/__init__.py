"""dvr-agent: OpenStack distributed virtual routers, reconciled into Linux network namespaces."""

__version__ = "0.2.0"
