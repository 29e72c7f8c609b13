"""Stream buffer, and cells with one form per FPGA family."""
