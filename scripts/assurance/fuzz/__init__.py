"""Fuzz of all parsers of external data: malformed files and responses."""
