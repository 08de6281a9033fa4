"""Label histograms against one np.bincount a window."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lhs.context import histograms as module
from lhs.context.histograms import (
    from_sparse,
    label_histograms,
    normalise,
    pixel_histograms,
    to_sparse,
)
from lhs.errors import UserError

REGIONS = st.one_of(
    st.integers(0, 30).map(lambda i: 2 * i + 1), st.just(math.inf), st.just(1_000_001)
)
LABEL_MAPS = npst.arrays(
    np.uint8,
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    elements=st.sampled_from([0, 1, 2, 4, 255]),
)


def one_by_one(label_map, centres, region, num_classes, void):
    rows = []
    for y, x in centres:
        if math.isinf(region):
            window = label_map
        else:
            half = int(region) // 2
            window = label_map[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
        rows.append(np.bincount(window[window != void], minlength=num_classes))
    return np.array(rows, np.int64).reshape(len(rows), num_classes)


def all_pixels(label_map):
    return np.argwhere(np.ones(label_map.shape, bool))


@settings(deadline=None)
@given(LABEL_MAPS, REGIONS, st.randoms(use_true_random=False))
def test_counts_equal_a_bincount_of_every_window(label_map, region, random):
    height, width = label_map.shape
    corners = [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1)]
    inside = [(random.randrange(height), random.randrange(width)) for _ in range(6)]
    centres = np.array(corners + inside)
    found = label_histograms(label_map, centres, region, 6, 255)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, one_by_one(label_map, centres, region, 6, 255))


@settings(deadline=None, max_examples=50)
@given(LABEL_MAPS, REGIONS)
def test_pixel_counts_equal_a_bincount_of_every_window(label_map, region):
    present, counts = pixel_histograms(label_map, region, 6, 255)
    assert present.tolist() == sorted(set(label_map.ravel().tolist()) - {255})
    full = np.zeros((*label_map.shape, 6), np.int64)
    full[:, :, present] = counts
    truth = one_by_one(label_map, all_pixels(label_map), region, 6, 255)
    np.testing.assert_array_equal(full.reshape(-1, 6), truth)


def test_above_255_classes():
    label_map = np.array([[300, 300, 65535], [2, 299, 300]], np.uint16)
    found = label_histograms(label_map, np.array([[0, 0]]), 3, 301, 65535)
    assert found[0, [2, 299, 300]].tolist() == [1, 1, 2]
    assert found.sum() == 4


def test_an_all_void_map_and_no_centres():
    label_map = np.full((3, 4), 255, np.uint8)
    assert not label_histograms(label_map, np.array([[1, 1]]), 3, 5, 255).any()
    assert label_histograms(label_map, np.zeros((0, 2)), 3, 5, 255).shape == (0, 5)
    present, counts = pixel_histograms(label_map, 3, 5, 255)
    assert len(present) == 0
    assert counts.shape == (3, 4, 0)


@pytest.mark.parametrize("region", [0, -3, 2, 128, 1.5, math.nan, -math.inf, "129", None, True])
def test_a_region_that_is_not_odd_is_refused(region):
    label_map = np.zeros((3, 3), np.uint8)
    for count in (
        lambda: label_histograms(label_map, np.array([[1, 1]]), region, 2, 255),
        lambda: pixel_histograms(label_map, region, 2, 255),
    ):
        with pytest.raises(UserError, match=r"hierarchy\.region.*odd"):
            count()


def test_an_id_that_is_no_class_is_refused():
    with pytest.raises(UserError, match="found id 7, allowed are 0 to 4 and 255"):
        label_histograms(np.array([[7]], np.uint8), np.array([[0, 0]]), 1, 5, 255)
    with pytest.raises(UserError, match="found id -1"):
        pixel_histograms(np.array([[-1]]), 1, 5, 255)


@pytest.mark.parametrize("centre", [(-1, 0), (0, -1), (3, 0), (0, 4)])
def test_a_centre_outside_is_refused(centre):
    with pytest.raises(ValueError, match="outside"):
        label_histograms(np.zeros((3, 4), np.uint8), np.array([centre]), 3, 2, 255)


def test_normalised_rows_have_length_one_and_zeros_stay():
    counts = np.array([[3, 4, 0], [0, 0, 0], [2**30, 0, 2**30]], np.int32)
    rows = normalise(counts)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows[0], [0.6, 0.8, 0], rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 0, 1], rtol=1e-6)
    np.testing.assert_allclose(normalise(rows), rows, rtol=1e-6)


@given(
    npst.arrays(
        np.int32,
        st.tuples(st.integers(0, 8), st.integers(1, 8)),
        elements=st.sampled_from([0, 0, 0, 1, 70_000]),
    )
)
def test_sparse_and_back(counts):
    sparse = to_sparse(counts)
    assert sparse.bins.dtype == np.uint16
    assert (sparse.counts > 0).all()
    assert sparse.offsets[0] == 0
    assert sparse.offsets[-1] == len(sparse.bins) == len(sparse.counts)
    bins, dense = from_sparse(sparse)
    assert bins.tolist() == np.flatnonzero(counts.any(axis=0)).tolist()
    np.testing.assert_array_equal(dense, counts[:, bins])


def test_five_times_faster_than_a_bincount_a_window():
    rng = np.random.default_rng(0)
    label_map = rng.integers(0, 6, (8, 8)).repeat(32, 0).repeat(32, 1).astype(np.uint8)
    centres = rng.integers(0, 256, (218, 2))

    def quickest(count):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            count(label_map, centres, 129, 33, 255)
            times.append(time.perf_counter() - start)
        return min(times)

    # Measured at 25 times; benchmarks/samples.py holds the bound on real label maps.
    assert quickest(one_by_one) > 5 * quickest(label_histograms)


def test_the_examples_in_the_documentation():
    import doctest

    assert doctest.testmod(module).failed == 0
