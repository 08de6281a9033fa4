"""`LHS_FUZZ=10000 pytest tests/fuzz` tries so many inputs in every test."""

from tests.fuzz.guard import place

__all__ = ["place"]
