"""The hierarchy file: read back whole, readable by others, and never trusted."""

import hashlib
import json
import math

import numpy as np
import pytest

from lhs.context.histograms import normalise
from lhs.errors import UserError
from lhs.hierarchy import Hierarchy
from lhs.hierarchy.clustering import cluster_class
from lhs.hierarchy.document import to_document
from lhs.hierarchy.label_clusters import from_label_clusters
from lhs.hierarchy.scene_names import from_scene_names
from lhs.hierarchy.titles import titled

from .test_hierarchy import CLASSES, cluster_hierarchy, scene_hierarchy


@pytest.mark.parametrize("make", [scene_hierarchy, cluster_hierarchy])
def test_saved_and_loaded_it_is_the_same(make, tmp_path):
    hierarchy = make()
    path = tmp_path / "hierarchy.json"
    hierarchy.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["hierarchy.json"]
    read = Hierarchy.load(path)
    assert read.digest == hierarchy.digest
    assert read.classes == hierarchy.classes
    assert read.made == hierarchy.made
    for one, two in zip(read.subclasses, hierarchy.subclasses, strict=True):
        assert (one.name, one.parent, one.count, one.scene) == (
            two.name, two.parent, two.count, two.scene,
        )  # fmt: skip
        if two.centre is not None:
            assert one.centre.dtype == np.float32
            np.testing.assert_array_equal(one.centre, two.centre)
    label_map = np.random.default_rng(0).choice([0, 1, 2, 3, 255], (30, 30)).astype(np.uint8)
    np.testing.assert_array_equal(
        read.relabel(label_map, "coast"), hierarchy.relabel(label_map, "coast")
    )
    second = tmp_path / "second.json"
    read.save(second)
    assert second.read_bytes() == path.read_bytes()


def test_centres_as_k_means_leaves_them(tmp_path):
    # scikit-learn centres the data first, so that an empty bin ends a little beside zero.
    rng = np.random.default_rng(0)
    rows = normalise(
        rng.multinomial(100, [0.6, 0.3, 0.1, 0, 0], 500) * (rng.random((500, 5)) > 0.3)
    )
    rows = rows[rows.any(axis=1)]
    found = cluster_class(rows, min_size=5, seed=0)
    hierarchy = from_label_clusters(
        dataset="toy", classes=CLASSES, counts=np.array([len(rows), 0, 0, 0, 1]),
        clusters={0: found}, rho=0.9, region=math.inf, k_scale=1.0, n_star=5, seed=0,
        backend="sklearn", max_fit_samples=1000,
    )  # fmt: skip
    hierarchy.save(tmp_path / "h.json")
    read = Hierarchy.load(tmp_path / "h.json")
    classes = np.zeros(len(rows), int)
    np.testing.assert_array_equal(read.subclass_of(classes, rows), found.labels)


def test_anyone_can_read_it(tmp_path):
    cluster_hierarchy().save(tmp_path / "h.json")
    content = json.loads((tmp_path / "h.json").read_text())
    assert content["classes"] == list(CLASSES)
    assert content["made"]["kind"] == "label_clusters"
    assert content["subclasses"][3]["name"] == "sea/1"
    digest = content.pop("digest")
    content["schema"] = 1
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == digest


def test_titles_are_in_the_file_and_not_in_the_digest(tmp_path):
    hierarchy = cluster_hierarchy()
    shares = np.full((len(hierarchy.subclasses), len(CLASSES)), 1 / len(CLASSES))
    named = titled(hierarchy, shares)
    named.save(tmp_path / "h.json")
    content = json.loads((tmp_path / "h.json").read_text())
    assert content["schema"] == 2
    assert content["subclasses"][0]["title"] == named.subclasses[0].title != ""
    assert content["digest"] == hierarchy.digest
    assert Hierarchy.load(tmp_path / "h.json").subclasses[0].title == named.subclasses[0].title


def test_files_of_schema_1_are_read(tmp_path):
    hierarchy = cluster_hierarchy()
    # As version 1 wrote it.
    content = to_document(hierarchy) | {"digest": hierarchy.digest}
    assert content["schema"] == 1
    (tmp_path / "h.json").write_text(json.dumps(content))
    read = Hierarchy.load(tmp_path / "h.json")
    assert read.digest == hierarchy.digest
    assert {subclass.title for subclass in read.subclasses} == {""}


def test_names_in_any_script(tmp_path):
    hierarchy = from_scene_names(
        dataset="städte", classes=["Straße", "空"], scene_names=["été"], counts=[[3, 1]], rho=0.5
    )
    hierarchy.save(tmp_path / "h.json")
    assert Hierarchy.load(tmp_path / "h.json").subclasses[0].name == "été+Straße"


def set_path(content, path, value):
    *parents, last = path
    for key in parents:
        content = content[key]
    content[last] = value


DELETE = object()
DAMAGES = {
    "no format": (["format"], DELETE, "format"),
    "another format": (["format"], "coco", "format"),
    "a newer schema": (["schema"], 3, "schema 3 .* newer"),
    "an unknown key": (["extra"], 1, "extra"),
    "no classes": (["classes"], [], "classes"),
    "a class twice": (["classes"], ["a", "a", "b", "c", "d"], "stands there 2 times"),
    "a class that is no text": (["classes", 0], 5, "classes.0"),
    "another void": (["void"], 254, "void is 254"),
    "void as text": (["void"], "255", "void"),
    "no subclasses": (["subclasses"], [], "subclasses"),
    "a subclass twice": (["subclasses", 1, "name"], "sky/1", "'sky/1' stands there 2 times"),
    "a parent that is not there": (["subclasses", 0, "parent"], 5, "parents"),
    "a negative parent": (["subclasses", 0, "parent"], -1, "subclasses.0.parent"),
    "a parent as a truth value": (["subclasses", 0, "parent"], True, "subclasses.0.parent"),
    "a class without a subclass": (["subclasses", 7, "parent"], 0, "parents"),
    "a negative count": (["subclasses", 0, "count"], -3, "subclasses.0.count"),
    "a huge count": (["subclasses", 0, "count"], 10**30, "subclasses.0.count"),
    "no centre": (["subclasses", 0, "centre"], DELETE, "subclasses.0.centre"),
    "a short centre": (["subclasses", 0, "centre"], [0.5], "1 of 5 numbers"),
    "a centre that is not finite": (["subclasses", 0, "centre", 2], float("nan"), "centre.2"),
    "a centre of text": (["subclasses", 0, "centre", 2], "0.5", "centre.2"),
    "a centre for a rare class": (["subclasses", 7, "centre"], [0.1] * 5, "subclasses.7.centre"),
    "a scene among clusters": (["subclasses", 0, "scene"], "coast", "subclasses.0.scene"),
    "another kind": (["made", "kind"], "magic", "made.kind"),
    "an even region": (["made", "region"], 4, "made.region is 4"),
    "no region": (["made", "region"], DELETE, "made.region is missing"),
    "rho out of range": (["made", "rho"], 1.5, "made.rho"),
    "a short list of counts": (["made", "class_counts"], [1], "class_counts has 1 of 5"),
    "a common class that is not there": (["made", "common_classes", 0], 9, "common_classes"),
    "a cluster no run made": (["made", "clusterings"], [], "clusterings"),
    "another digest": (["digest"], "0" * 64, "was changed"),
    "no digest": (["digest"], DELETE, "digest"),
    "a digest that is none": (["digest"], "abc", "digest"),
    "another name": (["subclasses", 0, "name"], "heaven", "was changed"),
    "another count": (["subclasses", 0, "count"], 1, "was changed"),
    "another centre": (["subclasses", 0, "centre", 0], 0.25, "was changed"),
    "another dataset": (["dataset"], "other", "was changed"),
    "another seed": (["made", "seed"], 1, "was changed"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_with_its_name_and_the_reason(damage, tmp_path):
    where, value, message = DAMAGES[damage]
    path = tmp_path / "hierarchy.json"
    cluster_hierarchy().save(path)
    content = json.loads(path.read_text())
    if value is DELETE:
        parent = content
        for key in where[:-1]:
            parent = parent[key]
        del parent[where[-1]]
    else:
        set_path(content, where, value)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as raised:
        Hierarchy.load(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "3", '"x"', "\x00", "{}", '{"format": []}', "9" * 5000,
        "[" * 100_000, '{"a":' * 100_000, "[" + "[]," * 1_000_001,
    ],
    ids=lambda text: text[:10],
)  # fmt: skip
def test_what_is_no_hierarchy_file_is_refused(text, tmp_path):
    path = tmp_path / "hierarchy.json"
    path.write_text(text)
    with pytest.raises(UserError, match="not a"):
        Hierarchy.load(path)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "hierarchy.json"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UserError, match="not a hierarchy file"):
        Hierarchy.load(path)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        Hierarchy.load(tmp_path / "none.json")
    with pytest.raises(UserError, match="cannot be read"):
        Hierarchy.load(tmp_path)


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
    from lhs.hierarchy import document

    monkeypatch.setattr(document, "LARGEST_FILE", 100)
    cluster_hierarchy().save(tmp_path / "h.json")
    with pytest.raises(UserError, match="at most 100 bytes"):
        Hierarchy.load(tmp_path / "h.json")


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        cluster_hierarchy().save(tmp_path / "none" / "h.json")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        cluster_hierarchy().save(tmp_path / "folder")
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_a_hierarchy_that_contradicts_itself_is_not_written(tmp_path):
    hierarchy = from_scene_names(
        dataset="toy",
        classes=["sky", "coast+sky", "x"],
        scene_names=["coast"],
        counts=[[8, 1, 1]],
        rho=0.5,
    )
    with pytest.raises(UserError, match=r"'coast\+sky' stands there 2 times"):
        hierarchy.save(tmp_path / "h.json")
    assert not list(tmp_path.iterdir())
