"""Commands that make packed checkpoints, and look at them."""
