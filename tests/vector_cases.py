"""The whole set of vectors, made once a process."""

from functools import cache

from scripts.vectors.vector_set import build

__all__ = ["all_vectors"]


@cache
def all_vectors():
    """Files by path."""
    return build()
