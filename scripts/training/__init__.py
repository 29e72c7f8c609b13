"""Training of the small shipped model."""
