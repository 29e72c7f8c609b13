"""The whole set of vectors, made once a process."""

import json
from functools import cache

from tritstream.scripts.assurance.vectors.vector_set import build

__all__ = ["all_vectors", "described", "paths", "session_bytes"]


@cache
def all_vectors():
    """Files by path."""
    return build()


def described(path):
    """A JSON file."""
    return json.loads(all_vectors()[path])


def paths(start, end=".json"):
    """Return the paths with this prefix and suffix."""
    return [path for path in all_vectors() if path.startswith(start) and path.endswith(end)]


def session_bytes(path):
    """Requests and answers of the session whose JSON has this path."""
    start = path.removesuffix(".json")
    return all_vectors()[f"{start}.requests.bin"], all_vectors()[f"{start}.answers.bin"]
