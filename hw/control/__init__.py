"""Request control: checks, loads, GEMV requests, answers and counters."""
