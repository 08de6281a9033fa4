"""Small real runs of the program, and what is compared of their results."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import yaml
from PIL import Image

from lhs.data import open_dataset
from lhs.loading import build_config
from tests.data.builders import (
    noise_image,
    plain,
    save_image,
    save_labels,
    save_mat,
    stripes,
    superparsing,
)
from tests.faults.cases import PHASES, STEPS

PROJECT = Path(__file__).parents[2]
TRAIN, TEST = 12, 4
SCENES, RECIPE, SWEEP, ARCHIVE, INPUTS = "scenes", "tiny.yaml", "mine.py", "set.tar.gz", "in"
LIMIT = 900.0
"""Seconds after which a run counts as standing still."""

SWEEP_FILE = """
from lhs.sweeps import Sweep
SWEEP = Sweep(name="mine", recipe={recipe!r}, trials=[{{"train.seed": 0}}, {{"train.seed": 1}}])
"""


class Run:
    """One command with places of its own: its data, its storage.

    Parameters
    ----------
    command
        A strategy (`lhs run`), `hierarchy`, `predict`, `sweep` or `unpack`.
    data
        The folder that `make_data` filled.
    storage
        Where results go.
    model
        The model folder that `predict` takes.
    """

    def __init__(self, command: str, data: Path, storage: Path, model: Path | None = None) -> None:
        self.command, self.data, self.storage, self.model = command, data, storage, model
        # The archive is no true SIFTFlow: the check that follows says so.
        self.code = 1 if command == "unpack" else 0

    def arguments(self, again: bool = False) -> list[str]:
        """Of `lhs`; `again` where it goes on with what was stopped."""
        if self.command == "unpack":
            archive = str(self.data / ARCHIVE)
            return ["data", "get", "siftflow", "--archive", archive, "--data-root",
                    str(self.storage)]  # fmt: skip
        if self.command == "predict":
            return ["predict", str(self.model), str(self.data / INPUTS), "--out",
                    str(self.storage / "out")]  # fmt: skip
        changes = [f"storage={self.storage}", f"data.folder.path={self.data / SCENES}"]
        if self.command == "sweep":
            words = ["sweep", str(self.data / SWEEP), *["--resume"] * again]
            changes.append("train.strategy=baseline")
        elif self.command == "hierarchy":
            words = ["hierarchy", str(self.data / RECIPE)]
        else:
            words = ["run", str(self.data / RECIPE)]
            changes.append(f"train.strategy={self.command}")
        return words + [word for change in changes for word in ("--set", change)]

    def start(
        self, log: Path, halt: tuple[str, int, Path], again: bool, held: int = 0, **more: str
    ) -> subprocess.Popen[bytes]:
        """Start it; what it says goes to the file `log`."""
        target, call, marker = halt
        with log.open("ab") as stream:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.faults.halting", target, str(call), str(marker),
                 str(held), *self.arguments(again)],
                stdout=stream, stderr=subprocess.STDOUT, cwd=PROJECT, env=environment(**more),
                start_new_session=True,
            )  # fmt: skip

    def results(self) -> dict[str, str]:
        """What must be equal: digests by name."""
        if self.command in ("unpack", "predict"):
            root = self.storage / {"unpack": "siftflow", "predict": "out"}[self.command]
            return {
                str(path.relative_to(root)): _sha(path.read_bytes())
                for path in sorted(root.rglob("*"))
                if path.is_file() and not path.name.startswith(".")
            }
        found = {}
        for name in ("samples", "histograms"):
            for path in self._finished(name):
                found[f"{name} {path.name}"] = _rows(path / "rows")
        for path in self._finished("hierarchy"):
            digest = json.loads((path / "hierarchy.json").read_text())["digest"]
            found[f"hierarchy {path.name}"] = digest
        if self.command == "hierarchy":
            return found
        for path in self._finished("model"):
            weights = path / "model" / "weights.safetensors"
            found[f"weights {path.name}"] = _sha(weights.read_bytes())
            losses = pd.read_parquet(path / "history.parquet")["loss"].tolist()
            found[f"losses {path.name}"] = _sha(json.dumps(losses).encode())
        for path in self._finished("evaluation"):
            found[f"counts {path.name}"] = _sha((path / "counts.npy").read_bytes())
            found[f"label maps {path.name}"] = _sha((path / "predictions.parquet").read_bytes())
        if self.command == "sweep":
            table = pd.read_csv(self.storage / "sweeps" / "mine" / "summary.csv")
            found["summary"] = table.drop(columns="run_id").to_json()
        return found

    def _finished(self, stage: str) -> list[Path]:
        return sorted(
            path.parent for path in self.storage.glob(f"stages/{stage}/[!.]*/_SUCCESS.json")
        )


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _rows(folder: Path) -> str:
    """Digest of all rows, in an order that does not hang on who wrote which file."""
    table = pq.read_table(folder).sort_by([(name, "ascending") for name in ("image", "variant",
                                                                          "y", "x")])  # fmt: skip
    return _sha(json.dumps(table.to_pylist()).encode())


def environment(**more: str) -> dict[str, str]:
    """Of processes that must not find another Ray, tracking store or results folder."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "MLFLOW_", "LHS_"))
    }
    own = {"RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return {**kept, **own, **more}


def make_data(folder: Path) -> None:
    """All that the runs read: a dataset as files, a recipe, a sweep, an archive, images."""
    whole = open_dataset(
        build_config(
            {"data": {"synthetic": {"train": TRAIN, "test": TEST, "height": 64, "width": 80}}}
        ).data
    )
    splits = {name: whole.split(name) for name in ("train", "test")}
    (folder / SCENES / "images").mkdir(parents=True)
    root = plain(
        folder / SCENES, [], classes=whole.classes,
        splits={name: [scene.id for scene in scenes] for name, scenes in splits.items()},
    )  # fmt: skip
    for scene in [*splits["train"], *splits["test"]]:
        Image.fromarray(scene.image()).save(root / "images" / f"{scene.id}.png")
        save_labels(root, scene.id, scene.label_map())
    tree = {
        "data": {"dataset": "folder", "folder": {"path": str(root), "void": whole.void}},
        "context": {"superpixel_size": 100, "variants": 1},
        "hierarchy": {"n_star": 20, "region": 33},
        "network": {"channels": 16},
        "train": {
            "batch_size": 4, "crop_height": 64, "crop_width": 64, "checkpoint_steps": 1,
            # Every image is read at every use.
            "cache_mb": 0,
            **{s: {phase: {"steps": STEPS} for phase in phases} for s, phases in PHASES.items()},
        },
        "report": {"baseline": "none", "scenes": 0},
    }  # fmt: skip
    (folder / RECIPE).write_text(yaml.safe_dump(tree))
    (folder / SWEEP).write_text(SWEEP_FILE.format(recipe=str(folder / RECIPE)))
    for number in range(12):
        path = folder / INPUTS / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noise_image(number, 60, 72)).save(path)
    names = [f"all/coast_{number}" for number in range(30)]
    packed = superparsing(folder / "packed", names[:20], names[20:])
    for number, name in enumerate(names):
        # Not to be read in one go: an archive that is cut is to be met half-way.
        save_image(packed / "Images" / f"{name}.jpg", noise_image(number, 120, 160))
        save_mat(packed / "SemanticLabels" / f"{name}.mat", stripes(3, 120, 160))
    with tarfile.open(folder / ARCHIVE, "w:gz") as tar:
        tar.add(packed, "SiftFlowDataset")
    shutil.rmtree(packed)


def images_of(stage: str, data: Path) -> Path:
    """The image that is spoiled: the last one that the stage reads."""
    if stage == "unpack":
        return data / ARCHIVE
    if stage == "prediction":
        return sorted((data / INPUTS).iterdir())[-1]
    split = "test" if stage == "evaluation" else "train"
    last = (data / SCENES / "splits" / f"{split}.txt").read_text().split()[-1]
    return data / SCENES / "images" / f"{last}.png"
