"""Checkpoints and runs, measured: noise, curvature, benchmarks, answers and who judges them."""
