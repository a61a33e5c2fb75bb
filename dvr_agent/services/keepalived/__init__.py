"""One keepalived for each HA router, in the namespace of its SNAT: it speaks VRRP and moves addresses and routes."""
