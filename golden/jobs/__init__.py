"""Long jobs that resume after a kill: journal, output directory, and runners of steps."""
