"""Tests of lhs.data."""
