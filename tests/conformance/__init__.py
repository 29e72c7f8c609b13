"""Another implementation of format and protocol, written from the documents alone.

It imports nothing of the project and no numpy: whole numbers, and fractions where a rounding has to
be exact. It is slow, and it proves that docs/packed-format.md and docs/protocol.md say enough.
"""
