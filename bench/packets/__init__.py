"""``make bench-packets``: what a packet costs in a router, by packet filter and number of floating IPs."""
