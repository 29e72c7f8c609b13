"""Better codes in the same format: what `tritllm-v2` does not look for."""
