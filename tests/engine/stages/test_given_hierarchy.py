"""A hierarchy that the user gives, as a stage and in the rows of samples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lhs.config import Config
from lhs.data import Dataset, open_dataset
from lhs.engine import pipeline
from lhs.engine.cache import Stages
from lhs.engine.graph import HIERARCHY, MODEL, SAMPLE_INDEX, SCENES, data_alone
from lhs.engine.pipeline import Outcome
from lhs.engine.stage import StageResult
from lhs.engine.stages.given_hierarchy import check_maps
from lhs.engine.stages.hierarchy import digest_of, read_hierarchy
from lhs.engine.stages.sample_index import SampleIndexReader, counted_subclasses
from lhs.engine.storage import Storage
from lhs.errors import UserError
from lhs.hierarchy import Hierarchy
from lhs.hierarchy.export import VOC, export_dataset
from lhs.loading import build_config
from lhs.run import main
from lhs.training.decoded import TrainingScenes
from tests.engine.conftest import pretend, stage, tiny
from tests.hierarchy.test_making import blotched

CLUSTERS = {"rho": 0.95, "region": 25, "n_star": 3, "step": 6}


def tiny_dataset() -> Dataset:
    return open_dataset(tiny("nowhere").data)


def clusters_file(folder: Path, dataset: Dataset) -> tuple[Hierarchy, Path]:
    """A hierarchy of label clusters of the dataset's own label maps."""
    maps = [scene.label_map() for scene in dataset.split("train")[:6]]
    made = Hierarchy.from_label_maps(maps, dataset.classes, **CLUSTERS)
    made.save(folder / "given.json")
    return made, folder / "given.json"


def without_rule(hierarchy: Hierarchy, folder: Path) -> Path:
    """The same subclasses in a file that has no rule for them."""
    made = {key: hierarchy.made[key] for key in ("common_classes", "class_counts")}
    Hierarchy(
        hierarchy.dataset, hierarchy.classes, hierarchy.void,
        tuple(type(s)(s.name, s.parent, s.count) for s in hierarchy.subclasses),
        {"kind": "subclass_maps", **made},
    ).save(folder / "ruleless.json")  # fmt: skip
    return folder / "ruleless.json"


def exported(hierarchy: Hierarchy, dataset: Dataset, folder: Path) -> Path:
    export_dataset(hierarchy, dataset.split("train"), folder / "exported")
    return folder / "exported" / VOC / "SegmentationClass"


def given(storage: Path, file: Path, maps: Path | None = None, **changes: Any) -> Config:
    return tiny(
        storage, hierarchy__kind="file", hierarchy__file=str(file),
        hierarchy__subclass_maps=None if maps is None else str(maps), **changes,
    )  # fmt: skip


# Without Ray


@pytest.mark.thorough
def test_samples_get_the_subclass_of_their_pixel_in_the_variant(tmp_path: Path) -> None:
    dataset = tiny_dataset()
    hierarchy, _ = clusters_file(tmp_path, dataset)
    scenes = dataset.split("train")[:2]
    training = TrainingScenes(scenes, hierarchy, cache_mb=1)
    rows, expected = [], []
    for place, scene in enumerate(scenes):
        for number in range(2):
            _, label_map, subclass_map = training.variant(place, number, seed=5, void=255)
            for y, x in np.argwhere(label_map != 255)[::97].tolist():
                rows.append({"image": scene.id, "variant": number, "y": y, "x": x})
                rows[-1]["label"] = int(label_map[y, x])
                expected.append(subclass_map[y, x])
    found = counted_subclasses(hierarchy, pa.Table.from_pylist(rows), dataset.scene, 5)
    assert found.tolist() == expected
    assert len(set(expected)) > len({row["label"] for row in rows})


def checked(hierarchy: Hierarchy, folder: Path, images: Sequence[str]) -> list[dict[str, Any]]:
    return check_maps(
        pa.Table.from_pylist([{"id": name} for name in images]), Storage(str(folder)),
        f"{folder}/maps", hierarchy, tiny("nowhere").data, None,
        SimpleNamespace(add=lambda finished: None),  # type: ignore[arg-type]
    ).to_pylist()  # fmt: skip


@pytest.mark.thorough
def test_maps_are_checked_and_copied(tmp_path: Path) -> None:
    dataset = tiny_dataset()
    hierarchy, _ = clusters_file(tmp_path, dataset)
    maps = exported(hierarchy, dataset, tmp_path)
    ruleless = Hierarchy.load(without_rule(hierarchy, tmp_path), subclass_maps=maps)
    names = [scene.id for scene in dataset.split("train")[:3]]
    (maps / f"{names[1]}.png").unlink()
    (maps / f"{names[2]}.png").write_bytes((maps / f"{names[0]}.png").read_bytes())
    good, missing, wrong = checked(ruleless, tmp_path / "stored", names)
    assert (good["problem"], len(good["digest"])) == ("", 64)
    assert "is missing" in missing["problem"]
    assert f"subclass map of {names[2]}: " in wrong["problem"]
    # As the stage's folder, read by a training.
    without_rule(hierarchy, tmp_path / "stored").rename(tmp_path / "stored" / "hierarchy.json")
    read = read_hierarchy(Storage(str(tmp_path)), str(tmp_path / "stored"))
    label_map = dataset.scene(names[0]).label_map()
    np.testing.assert_array_equal(
        read.relabel(label_map, image_id=names[0]), hierarchy.relabel(label_map)
    )
    # Variants show the subclasses of the whole image, as of random ones.
    training = TrainingScenes([dataset.scene(names[0])], read, cache_mb=1)
    _, labels, subclasses = training.variant(0, 1, seed=3, void=255)
    labelled = labels != 255
    np.testing.assert_array_equal(read.parents[subclasses[labelled]], labels[labelled])
    assert (subclasses[~labelled] == read.void_subclass).all()


def test_later_stages_depend_on_the_maps_too() -> None:
    def key(**facts: str) -> str:
        return digest_of(StageResult("hierarchy", "", "", facts, 0.0, False))

    found = {
        key(digest="a"),
        key(digest="a", subclass_maps="b"),
        key(digest="a", subclass_maps="c"),
    }
    assert len(found) == 3
    assert key(digest="a") == "a"


def test_keys_depend_on_the_content_alone(checked_stages: Stages, tmp_path: Path) -> None:
    dataset = tiny_dataset()
    hierarchy, path = clusters_file(tmp_path, dataset)
    (tmp_path / "other").mkdir()
    hierarchy.save(tmp_path / "other" / "copy.json")
    changed = Hierarchy.from_label_maps([blotched(1)], list("abcd"), **CLUSTERS)
    changed.save(tmp_path / "changed.json")

    def key(file: Path, **settings: object) -> str:
        tree = {"hierarchy": {"kind": "file", "file": str(file), **settings}}
        return checked_stages.key(HIERARCHY, build_config(tree)).digest

    first = key(path)
    assert key(tmp_path / "other" / "copy.json") == first
    assert key(path, rho=0.5, seed=7, region=33) == first
    assert key(tmp_path / "changed.json") != first
    config = build_config(
        {
            "hierarchy": {"kind": "file", "file": str(path)},
            "network": {"weights": "none"},
            "train": {"strategy": "sequential", "gpu": False},
        }
    )
    names = [stage.name for stage, _, _ in checked_stages.needed(MODEL, config)]
    assert names == ["scenes", "hierarchy", "model"]


# With Ray


def scenes_there(storage: Path, config: Config) -> Stages:
    stages = Stages(Storage(str(storage)))
    classes = len(open_dataset(config.data).classes)
    pretend(stages, SCENES, data_alone(config), problems={}, class_pixels=[9] * classes)
    return stages


@pytest.mark.ray
def test_the_stage_takes_files_with_a_rule_and_without(cluster: None, tmp_path: Path) -> None:
    dataset = tiny_dataset()
    hierarchy, path = clusters_file(tmp_path, dataset)
    config = given(tmp_path / "storage", path)
    stages = scenes_there(tmp_path / "storage", config)
    result = stages.make(HIERARCHY, config)
    assert result.facts["digest"] == hierarchy.digest == digest_of(result)
    assert [one.name for one in stages.done] == ["scenes", "hierarchy"]
    maps = exported(hierarchy, dataset, tmp_path)
    by_map = given(tmp_path / "storage", without_rule(hierarchy, tmp_path), maps)
    result = stages.make(HIERARCHY, by_map)
    assert digest_of(result) != result.facts["digest"]
    read = read_hierarchy(stages.storage, result.path)
    for scene in dataset.split("train"):
        label_map = scene.label_map()
        np.testing.assert_array_equal(
            read.relabel(label_map, image_id=scene.id), hierarchy.relabel(label_map)
        )
    (maps / f"{dataset.split('train')[0].id}.png").unlink()
    with pytest.raises(UserError, match=r"1 of 24 maps do not fit:\n.*is missing"):
        Stages(Storage(str(tmp_path / "storage"))).make(HIERARCHY, by_map)
    other = given(tmp_path / "storage", tmp_path / "four.json")
    Hierarchy.from_label_maps([blotched(1)], list("abcd"), **CLUSTERS).save(tmp_path / "four.json")
    with pytest.raises(UserError, match="made for 4 classes"):
        stages.make(HIERARCHY, other)


@pytest.mark.ray
@pytest.mark.parametrize("rule", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_training_takes_the_subclasses_of_the_file(
    outcome: Outcome, trained_here: None, tmp_path: Path, rule: bool
) -> None:
    """The hierarchy of a run, given to another: the same one, and the same samples' subclasses."""
    assert outcome.hierarchy is not None
    dataset = open_dataset(outcome.config.data)
    made = read_hierarchy(outcome.stages.storage, outcome.hierarchy.path)
    made.save(tmp_path / "hierarchy.json")
    path, maps = tmp_path / "hierarchy.json", None
    if not rule:
        path, maps = without_rule(made, tmp_path), exported(made, dataset, tmp_path)
    config = given(tmp_path / "storage", path, maps, report__baseline="none")
    [again] = pipeline.run(config, "given")
    assert again.hierarchy is not None
    assert again.hierarchy.facts["subclasses"] == outcome.hierarchy.facts["subclasses"]
    model = stage(again.stages, "model")
    if rule:
        # Crops of the same subclass maps, from the same start.
        assert model.key == stage(outcome.stages, "model").key
    index = again.stages.make(SAMPLE_INDEX, config)
    reader = SampleIndexReader(again.stages.storage, f"{index.path}/rows")
    found = reader(0, reader.total)
    np.testing.assert_array_equal(made.parents[found.subclasses], found.labels)


@pytest.mark.ray
def test_the_command_exports(
    outcome: Outcome, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.yaml").write_text(tiny(folder).yaml())
    command = ["hierarchy", str(tmp_path / "small.yaml"), "--export", str(tmp_path / "new")]
    assert main([*command, "--json"]) == 0
    out = capsys.readouterr().out
    assert f"exported  {tmp_path / 'new'} (24 train, 8 val images)" in out
    tree = json.loads(out.splitlines()[-1])
    assert Hierarchy.load(tmp_path / "new" / "hierarchy.json").digest == tree["digest"]
    assert main(command) == 2
    assert "not empty" in capsys.readouterr().err
    arguments = ["--set", "hierarchy.kind=file", "--set", f"hierarchy.file={tree['path']}"]
    assert main(["hierarchy", str(tmp_path / "small.yaml"), "--json", *arguments]) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["digest"] == tree["digest"]
    assert "samples" not in again
    assert Path(again["page"]).is_file()
