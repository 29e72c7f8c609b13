"""The command eval: perplexity and divergence of models."""
