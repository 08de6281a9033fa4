"""Label hierarchies: which classes are split into which subclasses, and the file that says so."""

from lhs.hierarchy.model import Hierarchy, Subclass

__all__ = ["Hierarchy", "Subclass"]
