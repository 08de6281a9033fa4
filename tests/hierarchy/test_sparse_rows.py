"""Rows that are sparse, against the same rows dense."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lhs.context.histograms import from_sparse, normalise, to_sparse
from lhs.hierarchy.clustering import cluster_class
from lhs.hierarchy.sparse_rows import SparseRows


def counts_up_to(most: int) -> st.SearchStrategy[np.ndarray]:
    """(N, L), many of them zero."""
    shapes = st.tuples(st.integers(1, 12), st.integers(1, 9))
    return hnp.arrays(np.int32, shapes, elements=st.one_of(st.just(0), st.integers(0, most)))


@given(counts_up_to(2**31 - 1))
def test_counts_of_any_size_are_divided_by_their_norm(counts):
    _, dense = from_sparse(to_sparse(counts))
    np.testing.assert_allclose(SparseRows(to_sparse(counts))[:], normalise(dense), rtol=2e-7)


# The squares of nine such add up to less than 2**53: in any order to the same number.
@given(counts_up_to(30_000_000), st.data())
def test_rows_are_those_of_the_dense_form_to_the_last_bit(counts, data):
    bins, dense = from_sparse(to_sparse(counts))
    rows, expected = SparseRows(to_sparse(counts)), normalise(dense)
    np.testing.assert_array_equal(rows.bins, bins)
    assert rows.shape == expected.shape
    assert len(rows) == len(expected)
    np.testing.assert_array_equal(np.asarray(rows), expected)
    first, last = data.draw(st.tuples(st.integers(0, 14), st.integers(0, 14)))
    np.testing.assert_array_equal(
        rows[first : max(first, last)], expected[first : max(first, last)]
    )
    chosen = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1))), np.int64)
    np.testing.assert_array_equal(rows[chosen], expected[chosen])
    np.testing.assert_array_equal(rows.select(chosen)[:], expected[chosen])


def drawn(samples: int, repeats: int) -> np.ndarray:
    """(samples, 40) counts, most of them zero, each row `repeats` times."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 90, (6, 40)) * (rng.random((6, 40)) < 0.2)
    rows = rng.poisson(kinds[rng.integers(6, size=samples // repeats)]) + np.eye(1, 40, dtype=int)
    return rows.repeat(repeats, axis=0)


@pytest.mark.parametrize("repeats", [1, 4])
@pytest.mark.parametrize("most", [None, 300])
def test_the_clusters_of_a_class_are_those_of_its_dense_rows(repeats, most):
    """All fitted, or a sample, and all assigned; folded where rows repeat, or not."""
    counts = drawn(4000, repeats)
    bins, dense = from_sparse(to_sparse(counts))
    settings = {"min_size": 200, "seed": 0, "max_fit_samples": most, "num_classes": 40}
    found = cluster_class(SparseRows(to_sparse(counts)), bins=bins, **settings)
    expected = cluster_class(normalise(dense), bins=bins, **settings)
    assert found.fitted_on == expected.fitted_on == (4000 if most is None else 300)
    assert len(found.sizes) > 2
    np.testing.assert_array_equal(found.centres, expected.centres)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.sizes, expected.sizes)
