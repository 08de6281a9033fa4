"""Stands in for cuML on a machine without a card, where this folder's parent is on the path."""
