"""Speakers of VRRP beside each other: one dvr-vrrp for all routers of a host, and a keepalived for each of them."""
