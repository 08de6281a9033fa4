"""The stages, one file each, in the order of the paper; `lhs.engine.graph` declares them."""
