"""Image clusters: which images go together, the subclasses they make, and their file."""

import json

import numpy as np
import pytest

from lhs.data.scenes import Scene
from lhs.errors import UserError
from lhs.hierarchy import Hierarchy
from lhs.hierarchy.image_clusters import cluster_images, from_image_clusters

from .test_document import DELETE, set_path
from .test_hierarchy import CLASSES, SCENE_COUNTS, scene_hierarchy

IMAGES = {"b": 1, "a/x.y": 0, "c": 2, "d": 0}
CENTRES = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def image_hierarchy(kind: str = "image_clusters") -> Hierarchy:
    """That of scene names, but for what stands for the scenes."""
    return from_image_clusters(
        kind=kind,
        dataset="toy",
        classes=CLASSES,
        counts=SCENE_COUNTS,
        images=IMAGES,
        centres=CENTRES,
        rho=0.95,
        described_by="gist",
        seed=3,
        backend="sklearn",
    )


class Unread(Scene):
    """A scene of which only its names count."""

    def image(self):
        raise NotImplementedError

    def label_map(self):
        raise NotImplementedError


def scene(name: str, scene_name: str | None = "coast") -> Scene:
    return Unread(id=name, split="train", num_classes=len(CLASSES), name=scene_name)


def test_images_that_look_alike_go_together_the_largest_cluster_first():
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.repeat([0, 1, 2], [10, 40, 20]))
    corners = 9 * np.eye(3, 6)
    described = corners[truth] + rng.normal(0, 0.1, (70, 6))
    labels, centres = cluster_images(described, 3, seed=0)
    assert np.bincount(labels).tolist() == [40, 20, 10]
    assert centres.dtype == np.float32
    for cluster, group in enumerate([1, 2, 0]):
        np.testing.assert_array_equal(labels == cluster, truth == group)
        np.testing.assert_allclose(centres[cluster], described[truth == group].mean(0), atol=1e-4)
    again, _ = cluster_images(described, 3, seed=0)
    np.testing.assert_array_equal(again, labels)


def test_more_clusters_than_images_that_differ_are_refused():
    described = np.repeat(np.eye(3), 5, axis=0)
    assert len(cluster_images(described, 3, seed=0)[1]) == 3
    with pytest.raises(UserError, match=r"hierarchy\.image_clusters = 4: only 3 training images"):
        cluster_images(described, 4, seed=0)


@pytest.mark.parametrize("kind", ["image_clusters", "image_embedding"])
def test_only_pairs_that_occur_and_rare_classes_whole(kind):
    hierarchy = image_hierarchy(kind)
    assert hierarchy.kind == kind
    assert [(s.name, s.parent, s.count, s.scene) for s in hierarchy.subclasses] == [
        ("cluster1+sky", 0, 50, "cluster1"),
        ("cluster2+sky", 0, 30, "cluster2"),
        ("cluster1+sea", 1, 40, "cluster1"),
        ("cluster2+tree", 2, 45, "cluster2"),
        ("cluster3+tree", 2, 9, "cluster3"),
        ("moon", 3, 0, None),
        ("cow", 4, 4, None),
    ]
    assert hierarchy.common.tolist() == [0, 2, 1]


def test_an_image_s_cluster_decides_not_its_scene_name():
    hierarchy, by_name = image_hierarchy(), scene_hierarchy()
    label_map = np.random.default_rng(0).choice([0, 1, 2, 3, 4, 255], (20, 30)).astype(np.uint8)
    names = ["coast", "forest", "street"]
    for image, cluster in IMAGES.items():
        given = hierarchy.scene_of(scene(image, None))
        assert given == hierarchy.scene_of(scene(image)) == f"cluster{cluster + 1}"
        found = hierarchy.relabel(label_map, given)
        np.testing.assert_array_equal(found, by_name.relabel(label_map, names[cluster]))
        labels = np.array([0, 1, 2, 4])
        np.testing.assert_array_equal(
            hierarchy.subclass_of(labels, scene_names=[str(given)] * 4),
            by_name.subclass_of(labels, scene_names=[names[cluster]] * 4),
        )
    assert by_name.scene_of(scene("anything")) == "coast"


def test_other_images_have_no_cluster():
    with pytest.raises(UserError, match="other: not one of the 4 training images of toy"):
        image_hierarchy().scene_of(scene("other"))
    with pytest.raises(UserError, match="needs the image's scene name"):
        image_hierarchy().relabel(np.zeros((2, 2), np.uint8))


def test_saved_and_loaded_it_is_the_same(tmp_path):
    hierarchy = image_hierarchy()
    hierarchy.save(tmp_path / "h.json")
    read = Hierarchy.load(tmp_path / "h.json")
    assert read.digest == hierarchy.digest
    assert read.made == hierarchy.made
    assert read.scene_of(scene("a/x.y")) == "cluster1"
    stored = read.made["image_centres"]
    np.testing.assert_array_equal(
        np.array([stored[f"cluster{n}"] for n in (1, 2, 3)], np.float32), CENTRES
    )


DAMAGES = {
    "no images": (["made", "images"], DELETE, "made.images is missing"),
    "no centres": (["made", "image_centres"], DELETE, "made.image_centres is missing"),
    "no word on what": (["made", "described_by"], DELETE, "made.described_by is missing"),
    "an image in a cluster that is none": (["made", "images", "b"], "cluster9", "'cluster9'"),
    "a subclass of one": (["subclasses", 0, "scene"], "cluster9", "'cluster9'"),
    "no scene": (["subclasses", 0, "scene"], DELETE, "subclasses.0.scene"),
    "centres of two lengths": (["made", "image_centres", "cluster1"], [0.5], "one length"),
    "a centre that is not finite": (
        ["made", "image_centres", "cluster1", 0], float("inf"), "image_centres.cluster1.0",
    ),
    "a centre of text": (["made", "image_centres", "cluster1", 0], "1", "image_centres.cluster1.0"),
    "a cluster as a number": (["made", "images", "b"], 1, "made.images.b"),
    "another cluster": (["made", "images", "b"], "cluster1", "was changed"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused(damage, tmp_path):
    where, value, message = DAMAGES[damage]
    path = tmp_path / "h.json"
    image_hierarchy().save(path)
    content = json.loads(path.read_text())
    if value is DELETE:
        parent = content
        for key in where[:-1]:
            parent = parent[key]
        del parent[where[-1]]
    else:
        set_path(content, where, value)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        Hierarchy.load(path)
