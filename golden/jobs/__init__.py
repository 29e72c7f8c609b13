"""Long jobs that survive a kill: journal, output directory, and how steps are run."""
