"""Conformance vectors: packed files, words, frames, sums and results that never change."""

from scripts.vectors.command import vectors

__all__ = ["vectors"]
