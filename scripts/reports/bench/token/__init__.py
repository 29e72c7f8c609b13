"""One decoded token of a model of any size through the cycle-accurate RTL."""
