"""The truth in numpy: tritllm-v2 quantizer, trit codec, packed checkpoints, integer product."""
