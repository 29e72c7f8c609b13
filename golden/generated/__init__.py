"""Checkpoints that are computed by rule: random weights, and files made on demand."""
