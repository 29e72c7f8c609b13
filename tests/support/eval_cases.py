"""Sizes of the tests of `tritstream eval`."""

__all__ = ["BUILDING", "CHUNKS", "CONTEXT", "SCORED"]

#: Tokens per chunk, and scored tokens per chunk.
CONTEXT = 64
SCORED = 31
CHUNKS = 5
#: Message before the first simulation.
BUILDING = "building the simulated device (half a minute the first time)\n"
