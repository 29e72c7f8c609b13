"""Hostile input for everything that reads bytes."""
