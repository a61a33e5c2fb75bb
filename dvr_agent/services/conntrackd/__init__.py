"""One conntrackd for each HA router: the hosts of the router tell each other of its tracked connections."""
