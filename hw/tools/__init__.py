"""Verilog export, synthesis, area reports and proofs."""
