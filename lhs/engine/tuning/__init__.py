"""Sweeps: their plan, trials by Ray Tune, searches, results."""
