"""Networks that score every pixel, and the weights they start from."""
