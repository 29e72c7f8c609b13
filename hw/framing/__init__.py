"""Framing: request frames from the word stream, response frames to it, and CRCs."""
