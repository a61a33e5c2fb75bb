"""``make bench-neutron``: dvr-agent and neutron-l3-agent in turn as the L3 agent of the same real cloud."""
