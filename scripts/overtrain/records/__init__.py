"""Measurements as tidy tables, and where each came from."""
