"""The wire protocol: frames, records, answers and exchanges."""
