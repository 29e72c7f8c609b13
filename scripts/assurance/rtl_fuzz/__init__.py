"""Fuzz of the RTL: valid and damaged frames, compared with the reference model."""
