"""Algorithm 1 worked by hand on a k-means that does what the case says, and on real k-means."""

import logging

import numpy as np
import pytest
from sklearn.cluster import KMeans

from lhs.errors import UserError
from lhs.hierarchy import clustering
from lhs.hierarchy.clustering import (
    choose_cluster_count,
    cluster_class,
    count_from_trace,
    scaled_count,
    search_cluster_counts,
)
from lhs.hierarchy.distinct import distinct_rows
from lhs.hierarchy.kmeans import KMeansFit

ROWS = np.random.default_rng(0).random((1000, 4)).astype(np.float32)


def scripted(monkeypatch, steps: dict[int, tuple[int, int]], default=(5, 100)) -> list[int]:
    """Replace k-means: for i clusters, (iterations, samples of the smallest cluster)."""
    asked = []

    def fit(histograms, clusters, *, seed, max_iterations, weights, backend):
        assert max_iterations == 100
        asked.append(clusters)
        iterations, smallest = steps.get(clusters, default)
        labels = np.full(len(histograms), clusters - 1, np.int32)
        labels[: smallest * (clusters - 1)] = np.repeat(np.arange(clusters - 1), smallest)
        return KMeansFit(np.zeros((clusters, 4), np.float32), labels, iterations, 0.0)

    monkeypatch.setattr(clustering, "fit_kmeans", fit)
    return asked


# min_size, {i: (iterations, smallest)} -> K, the last i that is tried
CASES = {
    "all are large enough": (49, dict.fromkeys(range(2, 16), (5, 50)), 15, 15),
    "too small at once": (50, {2: (5, 50)}, 2, 2),
    "exactly n* is not more than n*": (40, {2: (5, 90), 3: (5, 41), 4: (5, 40)}, 3, 4),
    "not converged goes on": (40, {2: (5, 90), 3: (100, 80), 4: (5, 60), 5: (5, 3)}, 4, 5),
    "not converged and too small goes on": (40, {3: (100, 1), 4: (5, 60), 5: (5, 3)}, 4, 5),
    "not converged, then too small": (40, {2: (5, 90), 3: (100, 80), 4: (5, 3)}, 2, 4),
    "nothing converges": (0, dict.fromkeys(range(2, 16), (100, 50)), 2, 15),
    "99 iterations have converged": (40, {2: (5, 90), 3: (99, 60), 4: (5, 3)}, 3, 4),
    "later ones are not looked at": (40, {2: (5, 90), 3: (5, 3), 4: (5, 90)}, 2, 3),
    "n* = 0": (0, dict.fromkeys(range(2, 16), (5, 1)), 15, 15),
}


@pytest.mark.parametrize("case", CASES)
def test_algorithm_1_by_hand(monkeypatch, case):
    min_size, steps, expected, last = CASES[case]
    asked = scripted(monkeypatch, steps, default=(5, 60))
    assert choose_cluster_count(ROWS, min_size, 0) == expected
    assert asked == list(range(2, last + 1))


@pytest.mark.parametrize("case", CASES)
def test_one_full_trace_serves_every_n_star(monkeypatch, case):
    min_size, steps, expected, last = CASES[case]
    scripted(monkeypatch, steps, default=(5, 60))
    trace = search_cluster_counts(ROWS, 0, 0).trace
    assert [trial.clusters for trial in trace] == list(range(2, 16))
    assert count_from_trace(trace, min_size) == expected
    partial = search_cluster_counts(ROWS, min_size, 0).trace
    assert partial == trace[: last - 1]
    assert count_from_trace(partial, min_size) == expected


def test_fewer_distinct_histograms_stop_with_a_warning(caplog):
    rows = np.repeat(np.eye(3, 5, dtype=np.float32), 40, axis=0)
    with caplog.at_level(logging.WARNING):
        search = search_cluster_counts(rows, 0, 0)
    assert search.count == 3
    assert [trial.clusters for trial in search.trace] == [2, 3]
    assert "3 distinct label histograms cannot make 4 clusters" in caplog.text


def test_one_distinct_histogram(caplog):
    rows = np.ones((9, 2), np.float32)
    with caplog.at_level(logging.WARNING):
        assert choose_cluster_count(rows, 0, 0) == 2  # K = 2 to begin with
    found = cluster_class(rows, min_size=0, seed=0)
    assert found.centres.tolist() == [[1, 1]]
    assert found.sizes.tolist() == [9]
    assert found.count == 2


def blobs(kinds: int, each: int, seed: int = 0, repeat: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.eye(kinds, 8)
    rows = centres.repeat(each, axis=0) + rng.normal(0, 0.02, (kinds * each, 8))
    return rows.repeat(repeat, axis=0).astype(np.float32)


def algorithm_1(rows: np.ndarray, n_star: int, seed: int) -> int:
    k = 2
    for i in range(2, 16):
        fit = KMeans(i, init="k-means++", n_init=1, max_iter=100, random_state=seed).fit(rows)
        if fit.n_iter_ >= 100:
            continue
        if np.bincount(fit.labels_, minlength=i).min() > n_star:
            k = i
        else:
            break
    return k


@pytest.mark.parametrize("n_star", [0, 5, 60, 119, 120, 1000])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_count_is_that_of_the_plain_loop_over_scikit_learn(n_star, seed):
    rows = blobs(5, 120, seed)
    assert choose_cluster_count(rows, n_star, seed) == algorithm_1(rows, n_star, seed)


def test_equal_rows_are_folded_and_sizes_still_count_samples():
    rows = blobs(4, 10, repeat=30)
    folded = distinct_rows(rows)
    assert len(folded.values) == 40
    assert folded.samples == len(rows) == 1200
    np.testing.assert_array_equal(folded.values[folded.inverse], rows)
    found = cluster_class(rows, min_size=299, seed=0)
    assert found.count == 4
    assert found.sizes.tolist() == [300] * 4
    assert found.labels.shape == (1200,)
    np.testing.assert_array_equal(np.bincount(found.labels), found.sizes)


def test_weights_are_samples():
    rows = blobs(4, 10)
    weights = np.full(len(rows), 30)
    assert choose_cluster_count(rows, 299, 0, weights=weights) == 4
    assert choose_cluster_count(rows, 9, 0) == 4
    both = distinct_rows(rows.repeat(3, axis=0), weights.repeat(3))
    assert both.samples == 40 * 90


def test_rows_whose_hashes_collide_are_still_told_apart(monkeypatch):
    from lhs.hierarchy import distinct

    monkeypatch.setattr(distinct, "_hash", lambda values: np.zeros(len(values), np.uint64))
    rows = np.repeat(np.eye(3, 5, dtype=np.float32), 40, axis=0)
    folded = distinct_rows(rows)
    assert len(folded.values) == folded.distinct == 3
    np.testing.assert_array_equal(folded.values[folded.inverse], rows)


def test_minus_zero_is_zero():
    assert distinct_rows(np.array([[0.0], [-0.0], [0.0]], np.float32)).distinct == 1


def test_clusters_come_largest_first_with_the_nearest_centre():
    rows = np.concatenate([blobs(3, 50), np.eye(8, dtype=np.float32)[[1] * 30 + [2] * 70]])
    found = cluster_class(rows, min_size=20, seed=1)
    assert found.sizes.tolist() == sorted(found.sizes, reverse=True)
    np.testing.assert_array_equal(np.bincount(found.labels), found.sizes)
    distances = ((rows[:, None].astype(float) - found.centres[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(found.labels, distances.argmin(axis=1))
    assert found.fitted_on == len(rows)
    assert found.converged


def test_the_fit_of_algorithm_1_is_not_made_again(monkeypatch):
    made = []

    def counting(*arguments, **named):
        made.append(arguments[1])
        return fit(*arguments, **named)

    fit = clustering.fit_kmeans
    monkeypatch.setattr(clustering, "fit_kmeans", counting)
    rows = blobs(5, 60)
    found = cluster_class(rows, min_size=40, seed=0)
    assert made == [trial.clusters for trial in found.trace]
    made.clear()
    doubled = cluster_class(rows, min_size=40, k_scale=2, seed=0)
    assert made == [trial.clusters for trial in found.trace] + [2 * found.count]
    assert len(doubled.sizes) == 2 * doubled.count == 2 * found.count


@pytest.mark.parametrize(
    ("count", "k_scale", "expected"),
    [(5, 1, 5), (5, 0.5, 3), (3, 0.5, 2), (2, 0.2, 1), (2, 0.01, 1), (5, 1.1, 6), (15, 2, 30),
     (7, 0.35, 2), (9, 1.5, 14)],
)  # fmt: skip
def test_k_scale_rounds_halves_up_and_stays_above_zero(count, k_scale, expected):
    assert scaled_count(count, k_scale) == expected


@pytest.mark.parametrize("k_scale", [0, -1, float("nan"), float("inf")])
def test_k_scale_out_of_range_is_refused(k_scale):
    with pytest.raises(UserError, match=r"hierarchy\.k_scale"):
        scaled_count(3, k_scale)


def test_a_scaled_count_stops_at_the_distinct_histograms():
    rows = np.repeat(np.eye(3, 5, dtype=np.float32), 40, axis=0)
    assert len(cluster_class(rows, min_size=0, k_scale=9, seed=0).sizes) == 3


def test_above_the_limit_a_sample_is_fitted_and_all_are_assigned():
    rows = blobs(4, 500)
    found = cluster_class(rows, min_size=499, seed=0, max_fit_samples=200)
    assert found.fitted_on == 200
    assert found.count == 4  # 499 is compared with all samples, not with the 200
    assert found.sizes.tolist() == [500] * 4
    np.testing.assert_array_equal(found.labels, found.labels[::500].repeat(500))
    again = cluster_class(rows, min_size=499, seed=0, max_fit_samples=200)
    np.testing.assert_array_equal(found.centres, again.centres)
    other = cluster_class(rows, min_size=499, seed=1, max_fit_samples=200)
    assert not np.array_equal(np.sort(found.centres, axis=0), np.sort(other.centres, axis=0))


def test_the_sample_of_folded_rows_is_one_of_samples():
    rows = blobs(4, 500, repeat=3)
    found = cluster_class(rows, min_size=1499, seed=0, max_fit_samples=200)
    assert found.fitted_on == 200
    assert found.sizes.tolist() == [1500] * 4
    few_rows = cluster_class(blobs(4, 40, repeat=30), min_size=9, seed=0, max_fit_samples=200)
    assert few_rows.fitted_on == 4800  # 160 distinct rows are no work


def test_only_the_bins_that_occur():
    rows = blobs(3, 50)
    bins = np.array([1, 2, 3, 5, 8, 13, 21, 30])
    wide = np.zeros((len(rows), 33), np.float32)
    wide[:, bins] = rows
    narrow = cluster_class(rows, min_size=40, seed=0, bins=bins, num_classes=33)
    full = cluster_class(wide, min_size=40, seed=0)
    assert narrow.centres.shape == full.centres.shape == (3, 33)
    np.testing.assert_allclose(narrow.centres, full.centres, atol=1e-6)
    with pytest.raises(ValueError, match="num_classes"):
        cluster_class(rows, min_size=9, seed=0, bins=bins)


def test_a_class_without_samples_is_refused():
    with pytest.raises(ValueError, match="without samples"):
        cluster_class(np.zeros((0, 4), np.float32), min_size=0, seed=0)
