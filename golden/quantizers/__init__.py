"""Quantizers with less error than `tritllm-v2`, in the same format."""
