"""Tables of README and docs, out of the reports that the repository keeps."""
