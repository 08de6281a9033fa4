"""`lhs data import`: datasets as people have them, written as the plain folder layout."""
