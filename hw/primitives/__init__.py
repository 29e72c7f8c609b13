"""Stream buffer, and cells with an implementation per FPGA family."""
