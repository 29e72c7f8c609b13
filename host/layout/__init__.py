"""How a matrix is laid out for a device, and what a product costs."""
