"""Boards with memory: transport over UDP, DRAM levelling and stored matrices."""
