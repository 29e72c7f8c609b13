"""Placement of the matrices of a model on devices and memory channels, and what it yields."""
