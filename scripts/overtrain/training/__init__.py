"""Checkpoints, and their modification by training."""
