"""Control of requests: checks, loads, GEMV, responses and counters."""
