"""Tools for RTL: Verilog export, synthesis, area reports and formal proofs."""
