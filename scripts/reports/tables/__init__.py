"""Tables of README and docs, made from the reports in the repository."""
