"""Frames in and out of the word stream, and their CRCs."""
