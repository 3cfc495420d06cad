"""The hub, or a folder: what is there at which commit, and its files."""
