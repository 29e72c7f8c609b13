"""A board with memory: the core in LiteX, fed from DRAM."""
