"""Losses, phases and the loop that trains a network, in plain torch."""
