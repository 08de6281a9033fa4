"""Trained models at work: `lhs predict`, `lhs export`, where models and images come from."""
