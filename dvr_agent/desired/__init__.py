"""From a router to what its namespaces must hold: pure functions, the dataplane contract in code."""
