"""Memory-mapped core: engines behind AXI4 masters, with AXI4-Lite registers."""
