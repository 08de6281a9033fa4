"""Common and rare classes against a loop over whole numbers and fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhs.errors import UserError
from lhs.hierarchy.classes import common_classes, largest_rare, least_size


def common_by_loop(counts: list[int], rho: Fraction) -> list[int]:
    common: list[int] = []
    for label in sorted(range(len(counts)), key=lambda label: (-counts[label], label)):
        if counts[label] == 0:
            break
        common.append(label)
        if Fraction(sum(counts[c] for c in common), sum(counts)) > rho:
            break
    return common


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(1, 100))
def test_common_classes_are_those_of_the_loop(counts, per_cent):
    found = common_classes(np.array(counts), per_cent / 100)
    assert found.tolist() == common_by_loop(counts, Fraction(per_cent, 100))


def test_the_class_that_crosses_is_common_and_an_exact_share_does_not_cross():
    counts = np.array([50, 40, 7, 3])
    assert common_classes(counts, 0.89).tolist() == [0, 1]
    assert common_classes(counts, 0.90).tolist() == [0, 1, 2]
    assert common_classes(counts, 0.97).tolist() == [0, 1, 2, 3]


def test_equal_counts_go_by_id_and_empty_classes_are_never_common():
    assert common_classes(np.array([5, 0, 5, 5]), 1.0).tolist() == [0, 2, 3]
    assert common_classes(np.array([5, 0, 5, 5]), 0.5).tolist() == [0, 2]
    assert common_classes(np.zeros(4, int), 0.5).tolist() == []


@pytest.mark.parametrize("rho", [0, -0.1, 1.5, 1.0000001, float("nan"), float("inf")])
def test_rho_out_of_range_is_refused(rho):
    with pytest.raises(UserError, match=r"hierarchy\.rho"):
        common_classes(np.array([1, 2]), rho)


def test_largest_rare():
    counts = np.array([50, 2, 40, 7, 0])
    assert largest_rare(counts, np.array([0, 2])) == 7
    assert largest_rare(counts, np.array([0, 2, 3, 1])) == 0
    assert largest_rare(counts, np.arange(5)) == 0


def test_n_star_as_a_setting():
    counts, common = np.array([50, 40, 7]), np.array([0, 1])
    assert least_size("largest_rare", counts, common) == 7
    assert least_size(0, counts, common) == 0
    assert least_size(1000, counts, common) == 1000
    for wrong in ("largest", -1, 2.5, True, None):
        with pytest.raises(UserError, match=r"hierarchy\.n_star"):
            least_size(wrong, counts, common)
