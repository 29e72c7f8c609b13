"""Fuzzing of the RTL: streams of frames, whole and damaged, against a model of the protocol."""
