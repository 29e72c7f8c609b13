"""Transports: simulation, serial line, TCP, worker thread."""
