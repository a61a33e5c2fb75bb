"""The agent's side of dvr-vrrp: opens the sockets of a virtual router, describes it, and hands both over."""
