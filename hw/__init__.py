"""RTL of the device in Amaranth, its boards, and tools for export, synthesis and proofs."""
