"""k-means with cuML's names, fitted by scikit-learn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sklearn.cluster import KMeans as CPUKMeans
from threadpoolctl import threadpool_limits

from lhs.hierarchy.kmeans import TOLERANCE


class KMeans:
    """Takes what cuML's takes; one start, so that its clusters are those of the CPU's run.

    Each fit writes into the folder `LHS_TEST_FITS` which process made it.
    """

    def __init__(
        self,
        *,
        n_clusters: int,
        init: Any,
        n_init: int | str,
        max_iter: int,
        tol: float,
        random_state: int,
        output_type: str,
    ) -> None:
        assert output_type == "numpy"
        # cuML's tolerance is not relative to the variance: this is what it stands for.
        assert 0 < tol < 1
        self.own = CPUKMeans(
            n_clusters, init=init, n_init=1, max_iter=max_iter, tol=TOLERANCE,
            algorithm="lloyd", random_state=random_state,
        )  # fmt: skip

    def fit(self, rows: Any, sample_weight: Any = None) -> CPUKMeans:
        with (Path(os.environ["LHS_TEST_FITS"]) / str(os.getpid())).open("a") as file:
            file.write(f"{os.environ.get('CUDA_VISIBLE_DEVICES', '')}\n")
        with threadpool_limits(1):
            return self.own.fit(rows, sample_weight=sample_weight)
