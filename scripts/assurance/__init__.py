"""Developer commands that look for defects: vectors, fuzzing, soak."""
