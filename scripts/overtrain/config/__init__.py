"""What is asked for: typed sections, files laid over one another, names that must agree, slices."""
