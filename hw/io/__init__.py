"""The device behind a UART or behind AXI4-Stream."""
