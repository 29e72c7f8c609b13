"""Commands of the hardware: Verilog, synthesis, boards, boards with memory."""
