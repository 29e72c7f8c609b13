"""Commands that create, convert and check packed checkpoints."""
