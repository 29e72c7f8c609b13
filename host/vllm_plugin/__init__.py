"""Plug-in of vLLM for packed checkpoints. Only :mod:`.registration` is imported without vLLM."""
