"""Fuzz of the memory-mapped core: errors, restarts and nonsense, compared with the model."""
