"""The truth: tritllm-v2 quantizer, trit codec, packed checkpoints and the integer GEMV, in numpy."""
