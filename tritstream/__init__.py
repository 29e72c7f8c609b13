"""tritstream."""
