"""Boards with memory: the core as a LiteX peripheral that reads weights from DRAM."""
