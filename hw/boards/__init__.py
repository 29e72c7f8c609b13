"""Boards with a serial line: catalog, PLLs, top level and builds."""
