"""dvr-agent against a real cloud: ``make test-neutron``.  ``pytest`` without arguments does not collect this package."""
