"""Label hierarchies: which classes are split into which subclasses, and the hierarchy file."""

from lhs.hierarchy.model import Hierarchy, Subclass

__all__ = ["Hierarchy", "Subclass"]
