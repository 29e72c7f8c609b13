"""GGUF files of llama.cpp as checkpoints in the manner of Hugging Face."""
