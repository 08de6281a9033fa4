"""Algorithm 1 against the bare k-means fits that it must make.

300,000 label histograms of 33 bins, all different, made by a seeded generator after the look of
real ones: a sample sees two to six classes, mixed as its kind of scene mixes them. Algorithm 1
(`lhs.hierarchy.clustering.choose_cluster_count`) may cost at most 1.1 times the same
scikit-learn fits called directly. The two take turns; the quickest round of each counts.
"""

from __future__ import annotations

import time
import warnings

import numpy as np
from reporting import options, report
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from lhs.hierarchy.clustering import choose_cluster_count, search_cluster_counts

SAMPLES, CLASSES, SEED, N_STAR = 300_000, 33, 0, 4000


def label_histograms(samples: int, classes: int, seed: int) -> np.ndarray:
    """(N, L) float32 normalised histograms, few bins not zero, no two rows equal."""
    rng = np.random.default_rng(seed)
    kinds = 12
    popularity = rng.dirichlet(np.full(classes, 0.5)) + 1e-6
    popularity /= popularity.sum()
    mixtures = np.zeros((kinds, classes))
    for mixture in mixtures:
        seen = rng.choice(classes, rng.integers(3, 7), replace=False, p=popularity)
        mixture[seen] = rng.dirichlet(np.full(len(seen), 1.5))
    drawn = samples * 5 // 4  # some come out equal and are dropped
    kind = rng.choice(kinds, drawn, p=rng.dirichlet(np.full(kinds, 4.0)))
    shares = rng.gamma(mixtures[kind] * 8 + 1e-12)
    shares[shares < 0.02 * shares.sum(axis=1, keepdims=True)] = 0
    counts = np.rint(shares / shares.sum(axis=1, keepdims=True) * 129 * 129)
    histograms = (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)
    _, first = np.unique(histograms.view(f"V{histograms.itemsize * classes}"), return_index=True)
    return histograms[np.sort(first)[:samples]]


def bare_fits(histograms: np.ndarray, counts: list[int]) -> None:
    """The fits, called directly, on one thread as a task has it."""
    with threadpool_limits(1):
        for clusters in counts:
            KMeans(
                clusters, init="k-means++", n_init=1, max_iter=100, algorithm="lloyd",
                random_state=SEED,
            ).fit(histograms)  # fmt: skip


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    histograms = label_histograms(chosen.samples, CLASSES, SEED)
    min_size = N_STAR * chosen.samples // SAMPLES
    # Also warms both sides up: the libraries' threads, the allocator.
    search = search_cluster_counts(histograms, min_size, SEED)
    counts = [trial.clusters for trial in search.trace]
    print(f"{len(histograms)} histograms, fits with {counts[0]} to {counts[-1]} clusters")

    def algorithm() -> None:
        choose_cluster_count(histograms, min_size, SEED)

    def bare() -> None:
        bare_fits(histograms, counts)

    seconds: dict[str, list[float]] = {"algorithm": [], "bare": []}
    sides = [("algorithm", algorithm), ("bare", bare)]
    for number in range(chosen.rounds):
        for name, side in sides if number % 2 == 0 else sides[::-1]:
            start = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - start)
            print(f"round {number + 1}: {name} {seconds[name][-1]:.2f} s", flush=True)
    # The quickest round of each is the one that least else on the machine disturbed.
    ratio = min(seconds["algorithm"]) / min(seconds["bare"])
    report(
        "clustering",
        {
            "histograms": len(histograms),
            "bins": CLASSES,
            "bins_not_zero": float((histograms > 1e-3).sum(axis=1).mean()),
            "n_star": min_size,
            "clusters": search.count,
            "fits": len(counts),
            "iterations": [trial.iterations for trial in search.trace],
            "seconds_algorithm": [round(value, 3) for value in seconds["algorithm"]],
            "seconds_bare_fits": [round(value, 3) for value in seconds["bare"]],
            "ratio": round(ratio, 4),
        },
        {"algorithm / bare fits": (round(ratio, 4), "<=", 1.1)},
    )


if __name__ == "__main__":
    main()
