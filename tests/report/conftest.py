"""A small report with everything that a page can show, and names that need to be escaped."""

import numpy as np
import pandas as pd
import pytest

from lhs.report.assemble import Examples, HierarchyArrays, ImageCounts, LearnedW, assemble
from lhs.report.compared import ComparedRun
from lhs.report.hierarchy import Patches
from lhs.report.side_by_side import SideBySide

NAMES = ["sky", "<b>road</b>", "car & co", "moon"]
COUNTS = np.array([[80, 10, 10, 0], [5, 40, 5, 0], [5, 0, 5, 0], [0, 0, 0, 0]])


def _arrays(**changes):
    patch = np.zeros((12, 12, 3), dtype=np.uint8), np.zeros((12, 12), dtype=np.uint8)
    given = {
        "classes": NAMES,
        "colours": np.arange(12, dtype=np.uint8).reshape(4, 3) * 20,
        "class_counts": np.array([90, 50, 10, 2]),
        "common": np.array([0, 1]),
        "names": ["sky/1", "sky/2", "<b>road</b>/1", "car & co", "moon"],
        "titles": ["sky alone: sky 97 %", "sky with <b>road</b>", "road", "car & co", "moon"],
        "counts": np.array([40, 50, 50, 10, 2]),
        "parents": np.array([0, 0, 1, 2, 3]),
        "shares": np.full((5, 4), 0.25),
        "patches": {
            0: (Patches([patch]), Patches([patch, patch])), 1: (Patches([patch]), Patches([])),
        },
        "description": "label-map clusters, R = 129",
    }  # fmt: skip
    return HierarchyArrays(**given | changes)


@pytest.fixture(scope="session")
def arrays():
    """Makes a hierarchy's arrays with some of them changed."""
    return _arrays


def _compared(title="one", seed=0, right=8, **changes):
    """A run with `right` of ten pixels of sky right in each of six images, and some road."""
    counts = np.zeros((6, 4, 4), dtype=np.int64)
    counts[:, 0, 0] = right + np.array([0, 1, -1, 0, 1, -1])
    counts[:, 0, 1] = 10 - counts[:, 0, 0]
    counts[::2, 1, 1], counts[::2, 1, 2] = 4, 1
    settings = {
        "train.strategy": "baseline", "train.seed": seed, "data.dataset": "synthetic",
        "network.name": "lite",
    }  # fmt: skip
    given = {
        "title": title,
        "dataset": "synthetic",
        "class_names": tuple(NAMES),
        "confusion": counts.sum(axis=0),
        "config": settings | changes.pop("settings", {}),
        "images": ImageCounts(ids=[f"<i>{n}" for n in range(6)], counts=counts),
        "run_id": f"{title}-in-mlflow",
        "href": f"../runs/{title}/report.html",
    }
    return ComparedRun(**given | changes)


@pytest.fixture(scope="session")
def compared():
    """Makes a finished run of a comparison."""
    return _compared


@pytest.fixture(scope="session")
def side_by_side():
    """Reads made-up images for a page."""

    def load(settings, ids):
        truth = np.zeros((12, 16), dtype=np.uint8)
        return SideBySide(
            ids=ids, images=[np.zeros((12, 16, 3), dtype=np.uint8)] * len(ids),
            truths=[truth] * len(ids),
            predictions={
                one.name: [truth ^ place] * len(ids) for place, one in enumerate(settings)
            },
            colours=np.arange(12, dtype=np.uint8).reshape(4, 3) * 20, void=255,
        )  # fmt: skip

    return load


@pytest.fixture(scope="session")
def report():
    image = np.zeros((12, 16, 3), dtype=np.uint8)
    truth = np.zeros((12, 16), dtype=np.uint8)
    truth[0] = 255
    some = Examples(
        ids=["<i>.jpg"], images=[image], truths=[truth], predictions=[np.zeros_like(truth)],
        baseline_predictions=[np.ones_like(truth)],
    )  # fmt: skip
    return assemble(
        title="demo <script>alert(1)</script>",
        subtitle="synthetic, 40 / 10 images",
        dataset="synthetic",
        strategy="hierarchical",
        class_names=NAMES,
        colours=np.arange(12, dtype=np.uint8).reshape(4, 3) * 20,
        void=255,
        confusion=COUNTS,
        baseline_confusion=COUNTS.T.copy(),
        hierarchy=_arrays(),
        images=ImageCounts(
            ids=["<i>.jpg", "b.jpg"],
            counts=np.array([COUNTS // 5, COUNTS - COUNTS // 5]),
            baseline=np.array([COUNTS // 5, COUNTS - COUNTS // 5])[:, ::-1, ::-1],
        ),
        examples=some,
        extremes=some,
        learned=LearnedW(np.ones((4, 5)), np.array([0, 0, 1, 2, 3]), ["a", "b", "c", "d", "e"]),
        history=pd.DataFrame(
            {
                "step": range(6),
                "phase": ["last"] * 3 + ["all"] * 3,
                "loss": [3.0, 2.0, 1.0, 1.0, 0.9, 0.8],
                "learning_rate": [0.1] * 6,
            }
        ),
        stages=[("samples", True, 0.2), ("training", False, 95.0)],
        config={"hierarchy": {"rho": 0.93}, "data": {"dataset": "synthetic"}},
        paths={"Model": "out/model <1>"},
        repeat={"command": "lhs run demo", "digest of data": "0123abc"},
        recipe="hierarchy: {rho: 0.93}\n",
        seeds=(0,),
        notes=("1 image was skipped: <broken>.jpg",),
    )
