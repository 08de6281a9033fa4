"""One model over many images: batches, what is skipped, what travels, what is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from lhs.engine.pipeline import Outcome
from lhs.engine.runtime import model_pool
from lhs.engine.runtime.model_pool import (
    IMAGE,
    Arrays,
    ImageJob,
    StoredModel,
    groups,
    in_this_process,
    over_images,
    stored_model,
)
from lhs.engine.runtime.progress import opened
from lhs.engine.stages.evaluation import evaluation_settings, folder_files, png, predict_scenes
from lhs.engine.stages.pseudo_labels import pseudo_label_settings
from lhs.errors import UserError
from lhs.evaluation.metrics import confusion_counts
from lhs.evaluation.model import WEIGHTS, load_model, save_model
from lhs.evaluation.scoring import inference_network
from lhs.loading import build_config
from tests.evaluation.test_export import model_of

pytestmark = pytest.mark.ray

SQUEEZENET = {"name": "squeezenet", "weights": "none"}


@dataclass(frozen=True)
class Note(ImageJob):
    """Writes down who was beside whom in the model; a file per image."""

    folder: str

    schema = pa.schema([("name", pa.string()), ("state", pa.string()), ("text", pa.string())])

    def path(self, item: str) -> Path:
        return Path(self.folder) / f"{item}.txt"

    def done(self, item: str) -> bool:
        return self.path(item).exists()

    def read(self, item: str) -> Arrays:
        if item.startswith("bad"):
            raise UserError(f"{item}: unreadable")
        (Path(self.folder) / f"{item}.read").touch()
        return {IMAGE: np.full((2 + int(item[-1]) % 2, 3, 3), int(item[-1]), np.uint8)}

    def load(self, device: Any) -> str:
        (Path(self.folder) / "loaded").touch()
        return str(device)

    def compute(self, model: str, images: Sequence[Arrays]) -> list[Arrays]:
        # Sums over all that go through together: what a neighbour changes shows.
        total = sum(int(one[IMAGE].sum()) for one in images)
        return [{"total": np.array([total, len(images)])} for _ in images]

    def write(self, item: str, arrays: Arrays) -> dict[str, Any]:
        text = f"{arrays['total'].tolist()}"
        self.path(item).write_text(text)
        return {"name": item, "state": "made", "text": text}

    def write_done(self, item: str) -> dict[str, Any]:
        return {"name": item, "state": "kept", "text": self.path(item).read_text()}

    def accepts(self, error: UserError) -> bool:
        return True

    def write_failed(self, item: str, error: str) -> dict[str, Any]:
        return {"name": item, "state": "failed", "text": error}


def rows_of(folder: Path, items: list[str], batch: int) -> dict[str, tuple[str, str]]:
    folder.mkdir(exist_ok=True)
    with opened() as progress:
        job = Note(str(folder))
        rows = over_images(job, items, progress, batch=batch, gpu=False).take_all()
        assert progress.state().finished == len(items)
    assert len(rows) == len(items)
    return {row["name"]: (row["state"], row["text"]) for row in rows}


def test_images_of_one_size_go_together_or_each_alone() -> None:
    shapes = [(4, 5, 3), (4, 6, 3), (4, 5, 3)]
    assert groups(shapes, together=True) == [[0, 2], [1]]
    assert groups(shapes, together=False) == [[0], [1], [2]]
    assert groups([], together=True) == []


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of one size go together, as on CUDA; in this process, which runs the steps itself."""
    load = model_pool._ModelActor._load

    def loaded(self: Any) -> None:
        load(self)
        self.together = True

    monkeypatch.setattr(model_pool._ModelActor, "_load", loaded)


def passed(folder: Path, items: list[str], batch: int) -> list[dict]:
    """The three steps, batch after batch, without Ray Data."""
    import ray

    folder.mkdir(exist_ok=True)
    with opened() as progress:
        work = model_pool._Work(Note(str(folder)), [ray.put(items)], batch, progress)
        actor = model_pool._ModelActor(Note(str(folder)), 1)
        rows = []
        for number in range(-(-len(items) // batch)):
            rows += work.write(actor(work.read(pa.table({"batch": [number]})))).to_pylist()
    return rows


ITEMS = [f"i{number}" for number in range(8)]


def test_a_resumed_run_is_the_undisturbed_one(
    cluster: None, together: None, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = {row["name"]: row["text"] for row in passed(whole, ITEMS, 4)}
    # Of 0 to 3, the even ones and the odd ones are of one size each.
    assert expected["i0"] == expected["i2"] == f"[{2 * 3 * 3 * (0 + 2)}, 2]"
    assert expected["i1"] == expected["i3"] == f"[{3 * 3 * 3 * (1 + 3)}, 2]"
    # The first batch is done, of the second only the last image.
    passed(killed, ITEMS, 4)
    for name in ("i4", "i5", "i6"):
        (killed / f"{name}.txt").unlink()
    for path in killed.glob("*.read"):
        path.unlink()
    (killed / "i7.txt").write_text("as it was")
    again = {row["name"]: (row["state"], row["text"]) for row in passed(killed, ITEMS, 4)}
    assert {name for name, (state, _) in again.items() if state == "made"} == {"i4", "i5", "i6"}
    for name in ("i4", "i5", "i6"):
        assert again[name][1] == expected[name], "its neighbours were the same"
    assert again["i7"] == ("kept", "as it was")
    # Nothing of the batch that was done was decoded; all of the other was.
    assert {path.stem for path in killed.glob("*.read")} == {"i4", "i5", "i6", "i7"}


def test_the_same_as_in_this_process_and_where_all_is_done_no_model_is_loaded(
    cluster: None, tmp_path: Path
) -> None:
    items = [*ITEMS, "bad0"]
    first = rows_of(tmp_path / "out", items, 3)
    assert first["bad0"] == ("failed", "bad0: unreadable")
    assert {state for name, (state, _) in first.items() if name != "bad0"} == {"made"}
    # On a CPU each went through alone.
    assert all(text.endswith(", 1]") for name, (_, text) in first.items() if name != "bad0")
    (tmp_path / "here").mkdir()
    here = in_this_process(Note(str(tmp_path / "here")), items, lambda _: None, batch=3)
    assert {row["name"]: (row["state"], row["text"]) for row in here} == first
    (tmp_path / "out" / "loaded").unlink()
    second = rows_of(tmp_path / "out", ITEMS, 3)
    assert set(second.values()) == {("kept", first[name][1]) for name in ITEMS}
    assert not (tmp_path / "out" / "loaded").exists()


def test_damaged_weights_of_a_stage_are_named_by_its_folder(tmp_path: Path) -> None:
    made = model_of("lite")
    save_model(tmp_path, inference_network(made.scores.whole), made.description)
    files = folder_files(tmp_path)
    files[WEIGHTS] = files[WEIGHTS][:5000]
    with pytest.raises(UserError) as told:
        StoredModel(files, 1, "float32", "w", "there/stages/model/k").load(torch.device("cpu"))
    start = f"there/stages/model/k/model/{WEIGHTS}: does not fit model.json: "
    assert str(told.value).startswith(start)
    advice = "if it is damaged, delete the folder there/stages/model/k: it is made again"
    assert str(told.value).endswith(f"; {advice}")


def test_float32_keeps_the_keys_and_any_other_arithmetic_has_its_own() -> None:
    def slices(precision: str) -> list[dict[str, Any]]:
        config = build_config(
            {"train": {"gpu": False}, "evaluation": {"precision": precision}, "network": SQUEEZENET}
        )
        return [evaluation_settings(config), pseudo_label_settings(config)]

    plain = [{"stride": 1}, {"below": 0.9, "stride": 1}]
    assert slices("auto") == slices("float32") == plain
    assert slices("bfloat16") == [one | {"precision": "bfloat16"} for one in plain]
    with pytest.raises(UserError, match=r"evaluation\.precision = tf32: found device cpu"):
        slices("tf32")


def test_scenes_are_counted_as_numpy_counts_them(outcome: Outcome) -> None:
    """Also where the model's folder can't be seen by workers: its files travel."""
    folder = Path(outcome.model.path) / "model"
    scenes, dataset = outcome.scenes.split("test"), outcome.scenes.dataset
    stored = stored_model(folder_files(folder), 1, "float32")
    rows = predict_scenes(stored, dataset, scenes[::-1], gpu=False).to_pylist()
    assert [row["image"] for row in rows] == sorted(scene.id for scene in scenes)
    model = load_model(folder)
    for row in rows:
        image, truth = dataset.scene(row["image"]).load()
        predicted = model.predict(image).label_map
        assert row["png"] == png(predicted)
        counts = confusion_counts(predicted, truth, len(model.classes), dataset.void)
        assert row["counts"] == counts.ravel().tolist()
