"""Ray Train: what comes out does not hang on how many workers share the work."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from lhs.engine import pipeline, worker
from lhs.engine.storage import Storage
from lhs.engine.training import training_slice
from lhs.errors import UserError
from tests.engine.conftest import tiny


def losses(storage: Path, workers: int) -> list[float]:
    """The loss of every step, with the paper's solver: AdamW's first steps make much of little."""
    phase = {"epochs": 1, "learning_rate": 0.001}
    config = tiny(
        storage,
        train__strategy="baseline",
        train__baseline={"new_layers": phase, "all_layers": {**phase, "epochs": 2}},
        train__workers=workers,
        train__solver="sgd",
        train__schedule="steps",
        report__baseline="none",
        report__scenes=0,
    )
    (outcome,) = pipeline.run(config, f"{workers} workers")
    return pd.read_parquet(f"{outcome.model.path}/history.parquet")["loss"].tolist()


@pytest.mark.ray
def test_two_workers_give_the_losses_of_one(cluster: None, tmp_path: Path) -> None:
    alone, together = (losses(tmp_path / str(workers), workers) for workers in (1, 2))
    assert len(alone) == 18
    assert together == pytest.approx(alone, rel=0, abs=1e-5)


def test_a_mistake_that_any_worker_meets_is_kept_and_not_met_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its rank: rank 0 would wait for the other's gradients, fail, and be tried again."""
    tries = []

    def train(*parts: object) -> None:
        tries.append(parts)
        raise UserError("a.jpg: truncated")

    monkeypatch.setattr(worker, "_train", train)
    work = SimpleNamespace(target=str(tmp_path))
    parts = {"work": work, "storage": Storage(str(tmp_path)), "progress": None}
    for _ in range(2):
        worker.train_worker(parts)
    assert len(tries) == 1
    assert json.loads((tmp_path / "facts.json").read_text()) == {"mistake": "a.jpg: truncated"}


def test_a_model_depends_on_what_the_weights_file_holds(tmp_path: Path) -> None:
    def slices(name: str) -> tuple[object, object]:
        network = {"weights": "file", "weights_file": str(tmp_path / name)}
        return training_slice(tiny(tmp_path, network=network), "scenes", None, None)

    with pytest.raises(UserError, match=r"weights_file = .*one: no such file"):
        slices("one")
    for name, content in (("one", b"a"), ("same", b"a"), ("two", b"b")):
        (tmp_path / name).write_bytes(content)
    before = slices("one")
    assert before == slices("same")
    assert before != slices("two")
    (tmp_path / "one").write_bytes(b"b")
    assert before != slices("one")
