"""Device with a UART, and device with AXI4-Stream ports."""
