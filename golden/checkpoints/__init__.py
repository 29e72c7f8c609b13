"""Unquantized checkpoints: reading, writing and converting safetensors files."""
