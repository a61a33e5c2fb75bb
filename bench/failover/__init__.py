"""What a fail-over of an HA router costs: two network nodes of a real cloud, ours, the reference agent's, and mixed."""
