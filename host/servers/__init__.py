"""Servers that offer a device over TCP or a board over UDP."""
