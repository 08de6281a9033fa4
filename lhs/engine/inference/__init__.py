"""Prediction and export with trained models: `lhs predict`, `lhs export`."""
