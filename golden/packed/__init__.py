"""Packed checkpoints: planning, packing, reading, verifying and exporting."""
