"""Layout of a matrix for a device, and the cost of a product."""
