"""Conformance vectors: packed files, words, frames, sums and results that never change."""

from tritstream.scripts.assurance.vectors.command import vectors

__all__ = ["vectors"]
