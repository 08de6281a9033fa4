"""Follows CONTRIBUTING.md in a copy of the package: makes its files, applies its changes, and uses
what was added. A step that is wrong or missing fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

TOP = Path(__file__).parents[1]
PAGE = (TOP / "CONTRIBUTING.md").read_text(encoding="utf-8")
STEP = re.compile(r"^(?:New file|Change) `([^`]+)`:$|^```(\w+)\n(.*?)^```", re.M | re.S)


def steps() -> list[tuple[str, str, str]]:
    """File, language and text of each block, in order."""
    found, path = [], ""
    for match in STEP.finditer(PAGE):
        if match[1]:
            path = match[1]
        elif match[2]:
            found.append((path, match[2], match[3]))
    return found


def changed(text: str, diff: str) -> str:
    """A file's text after a block of lines that stay (` `), come (`+`) and go (`-`)."""
    signed = [(line[:1], line[1:]) for line in diff.splitlines()]
    before = [line for sign, line in signed if sign != "+"]
    after = [line for sign, line in signed if sign != "-"]
    lines = text.splitlines()
    places = [i for i in range(len(lines)) if lines[i : i + len(before)] == before]
    assert before
    assert len(places) == 1, f"{len(places)} places for\n{diff}"
    [place] = places
    return "\n".join([*lines[:place], *after, *lines[place + len(before) :]]) + "\n"


USE = """
import json, sys
from pathlib import Path

import numpy as np
import torch

from lhs.config import NetworkConfig
from lhs.data import open_dataset
from lhs.engine.cache import SUCCESS, Stages
from lhs.engine.graph import BRIGHTNESS, SCENES, annotated_scenes, data_alone
from lhs.engine.storage import Storage
from lhs.loading import load_config, recipes
from lhs.networks.build import build_network
from lhs.report.assemble import assemble
from lhs.report.page import render_page
from lhs.run import main

folder = Path(sys.argv[1])
out = {"package": sys.modules["lhs"].__file__}

config = load_config("demo-wide")
out["recipe"] = ["demo-wide" in recipes(), config.hierarchy.region, config.train.strategy]

network = build_network(NetworkConfig(name="plain", weights="none"), 8).eval()
image = torch.rand(2, 3, 64, 96) * 255
out["network"] = [list(network(image).shape)]
network.reset_classifier(5)
out["network"] += [list(network(image).shape), list(network.pooled(image).shape)]

config = load_config("demo", [
    "data.synthetic.train=3", "data.synthetic.test=1", "data.synthetic.height=32",
    "data.synthetic.width=48", f"storage={folder}/storage",
])
stages = Stages(Storage(config.storage))
data = data_alone(config)
out["stage"] = {"pending": stages.key(BRIGHTNESS, config).pending}
# Ray reads the scenes of a real run: here they are left as read.
scenes = stages.storage.path("stages", "scenes", stages.key(SCENES, data).digest)
stages.storage.make_folder(scenes)
facts = {"problems": {}, "class_pixels": [9] * 8, "void_images": []}
stages.storage.write_json(f"{scenes}/{SUCCESS}", {"facts": facts, "seconds": 1.0})
made = stages.make(BRIGHTNESS, config)
expected = {s.id: s.image().mean() for s in annotated_scenes(stages, config).split("train")}
out["stage"] |= {
    "facts": made.facts,
    "written": stages.storage.read_json(f"{made.path}/brightness.json"),
    "expected": expected,
    "again": Stages(stages.storage).make(BRIGHTNESS, config).reused,
}

out["get"] = main(["data", "get", "town", "--archive", f"{folder}/town.tar.gz",
                   "--data-root", f"{folder}/data"])
town = open_dataset("town", folder / "data")
out["dataset"] = {
    "classes": town.classes,
    "train": [scene.id for scene in town.split("train")],
    "test": [scene.id for scene in town.split("test")],
    "label_map": town.split("train")[0].label_map().tolist(),
}

page = render_page(assemble(
    title="t", subtitle="s", dataset="d", strategy="baseline", class_names=["sky", "sea"],
    colours=np.zeros((2, 3), np.uint8), void=255, confusion=np.array([[5, 1], [2, 3]]),
    config={}, paths={}, seeds=[0],
))
out["page"] = page
print("\\n" + json.dumps(out))
"""


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process finds that uses a copy of the package in which all steps were followed."""
    folder = tmp_path_factory.mktemp("contributing")
    for part in ("lhs", "tests"):
        shutil.copytree(TOP / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(TOP / "pyproject.toml", folder)
    for path, language, text in steps():
        target = folder / path
        if language == "diff":
            target.write_text(changed(target.read_text(encoding="utf-8"), text), encoding="utf-8")
        else:
            assert not target.exists(), path
            target.write_text(text, encoding="utf-8")
    town(folder / "town.tar.gz")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
    environment |= {"PYTHONPATH": str(folder), "HOME": str(folder / "home")}
    done = subprocess.run(
        [sys.executable, "-c", USE, str(folder)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert Path(found["package"]).is_relative_to(folder)
    return found | {"folder": folder}


LABELS = np.repeat(np.array([0, 1, 2, 11], np.uint8), 4)[:, None].repeat(20, axis=1)


def town(archive: Path) -> None:
    """Write an archive in the layout of the dataset that the page adds."""
    root = archive.parent / "made"
    for split, count in (("train", 3), ("test", 2)):
        for kind in (split, f"{split}_labels"):
            (root / kind).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (16, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / f"{number}.jpg")
            Image.fromarray(LABELS).save(root / f"{split}_labels" / f"{number}.png")
    with tarfile.open(archive, "w:gz") as file:
        file.add(root, "town")


@pytest.mark.thorough
def test_a_recipe_is_added(used: dict[str, Any]) -> None:
    assert used["recipe"] == [True, 129, "hierarchical"]


@pytest.mark.thorough
def test_a_network_is_added(used: dict[str, Any]) -> None:
    assert used["network"] == [[2, 8, 8, 12], [2, 5, 8, 12], [2, 128]]


@pytest.mark.thorough
def test_the_added_network_passes_the_shared_test(used: dict[str, Any]) -> None:
    shared = "tests/networks/test_networks.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", shared, "-k", "plain"],
        cwd=used["folder"], env=os.environ | {"PYTHONPATH": str(used["folder"])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 10


@pytest.mark.thorough
def test_a_stage_is_added(used: dict[str, Any]) -> None:
    stage = used["stage"]
    assert stage["pending"] == ["scenes"]
    assert stage["facts"] == {"images": 3}
    assert stage["written"] == pytest.approx(stage["expected"])
    assert stage["again"]


@pytest.mark.thorough
def test_a_dataset_is_added(used: dict[str, Any]) -> None:
    assert used["get"] == 0
    dataset = used["dataset"]
    assert dataset["classes"] == ["sky", "house", "street"]
    assert dataset["train"] == ["train/0", "train/1", "train/2"]
    assert dataset["test"] == ["test/0", "test/1"]
    assert dataset["label_map"] == np.where(LABELS == 11, 255, LABELS).tolist()


@pytest.mark.thorough
def test_a_figure_is_added(used: dict[str, Any]) -> None:
    assert "Test pixels of each class" in used["page"]
    assert "Bar chart of the test pixels of 2 classes." in used["page"]


@pytest.mark.thorough
def test_what_was_added_and_changed_passes_the_linter(used: dict[str, Any]) -> None:
    files = sorted({path for path, _, _ in steps() if path.endswith(".py")})
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", *files],
            cwd=used["folder"], capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_section_that_adds_something_has_a_step() -> None:
    sections = re.split(r"^## ", PAGE, flags=re.M)
    adding = [text for text in sections if text.startswith("Add ")]
    assert [text.splitlines()[0] for text in adding] == [
        "Add a recipe", "Add a network", "Add a stage", "Add a dataset reader",
        "Add a figure to the report",
    ]  # fmt: skip
    assert all("New file" in text for text in adding)
    assert all(re.search(r"^```(?!\n|diff)", text, re.M) for text in adding)


@pytest.mark.parametrize("diff", ["+new\n", " twice\n+new\n", " absent\n+new\n"])
def test_a_change_without_one_place_is_refused(diff: str) -> None:
    with pytest.raises(AssertionError):
        changed("twice\ntwice\n", diff)
    assert changed("a\nb\n", " a\n+c\n-b\n") == "a\nc\n"
