"""dvr-vrrp: the process that speaks VRRP version 2 for all HA routers of the host (``[dvr_agent] ha_vrrp = builtin``).

It has no part in the agent's process: an agent that restarts, or is busy, must be no fail-over.  The agent opens the
sockets in a router's namespace and hands them over with all that the state of VRRP decides about, ready to be sent:
netlink messages and frames.  Both are in systemd's file descriptor store (``control.fd_store``), so that a crash needs
no agent.  So this process knows no routers, and imports neither pyroute2 nor anything of ``kernel``.

``advert`` is the packet, ``instance`` the state machine of one router (both pure), ``addresses`` takes and releases
addresses and routes, ``speaker`` joins these with the sockets, ``loop`` waits for sockets and timers, ``control``
answers the agent, ``protocol`` describes their messages, ``main`` is the process.
"""
