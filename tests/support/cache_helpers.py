"""Helpers for tests of caches."""

import os

import pytest

__all__ = ["files", "needs_root"]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


def files(path):
    """Return the names of the files in a directory, sorted."""
    return sorted(file.name for file in path.iterdir())
