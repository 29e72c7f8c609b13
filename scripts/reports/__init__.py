"""Developer commands that measure and draw: benchmarks, tables, plots."""
