"""Soak: random jobs on simulated devices over bad links; every row is compared with golden."""
