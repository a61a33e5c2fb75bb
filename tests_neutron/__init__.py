"""dvr-agent against a real cloud: ``make test-neutron``.  A plain ``pytest`` does not collect this package."""
