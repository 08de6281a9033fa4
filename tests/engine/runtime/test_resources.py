"""What a training needs against what the cluster has."""

import pytest

from lhs.config import Config
from lhs.engine.runtime import resources
from lhs.engine.runtime.devices import QUERY_SHARE, booked_share
from lhs.engine.runtime.resources import (
    clustering_backend,
    models_at_once,
    preflight,
    shares_of,
    training_workers,
    trainings_that_fit,
)
from lhs.errors import UserError
from lhs.hierarchy.kmeans import CumlProbe
from lhs.loading import build_config


def config(**train: object) -> Config:
    return build_config({"train": train})


@pytest.fixture
def cluster_of(monkeypatch):
    """A cluster of so much: the only part of Ray that is made up here."""

    def make(**there: float) -> None:
        monkeypatch.setattr(resources.ray, "cluster_resources", lambda: there)

    return make


@pytest.mark.parametrize(
    ("there", "train", "count"),
    [
        ({"CPU": 2}, {}, 1),
        ({"CPU": 1}, {}, 1),
        ({"CPU": 8}, {}, 4),
        ({"CPU": 8}, {"workers": 2}, 2),
        ({"CPU": 8, "GPU": 4}, {}, 4),
        ({"CPU": 8, "GPU": 4}, {"workers": 3}, 1),
        ({"CPU": 8, "GPU": 4}, {"gpu": False}, 4),
        ({"CPU": 8, "GPU": 4, "accelerator_type:A100": 1}, {"accelerator": "A100"}, 4),
        ({"CPU": 8}, {"workers": "auto"}, 4),
        ({"CPU": 8, "GPU": 4}, {"workers": "auto"}, 1),
        ({"CPU": 2}, {"threads": 1}, 2),
        ({"CPU": 8}, {"threads": 2, "workers": 2}, 2),
        ({"CPU": 2}, {"threads": 4}, 1),
        ({"CPU": 2, "GPU": 1}, {"threads": 4}, 1),
        ({"CPU": 8, "GPU": 1}, {"gpu_share": 0.125}, 8),
        ({"CPU": 8, "GPU": 4}, {"gpu_share": 0.3}, 12),
        ({"CPU": 8, "GPU": 4}, {"gpu_share": 0.3, "gpu": False}, 4),
    ],
)
def test_so_many_fit(cluster_of, there, train, count) -> None:
    cluster_of(**there)
    assert trainings_that_fit(config(**train)) == count


@pytest.mark.parametrize(
    ("there", "train", "message"),
    [
        ({"CPU": 2}, {"workers": 3}, r"workers = 3: needs 2.7 CPUs, the cluster has 2; .* up to 2"),
        ({"CPU": 2}, {"gpu": True}, "workers = 1: needs 1 GPUs, the cluster has 0"),
        ({"CPU": 9, "GPU": 1}, {"workers": 2}, "needs 2 GPUs, the cluster has 1; .* up to 1"),
        ({"CPU": 2, "GPU": 1}, {"accelerator": "A100"}, "accelerator = A100: the cluster has none"),
        (
            {"CPU": 2, "GPU": 1, "accelerator_type:T4": 1},
            {"accelerator": "A100"},
            "accelerator = A100: the cluster has T4",
        ),
    ],
)
def test_what_never_fits_is_reported_with_its_numbers(cluster_of, there, train, message) -> None:
    cluster_of(**there)
    with pytest.raises(UserError, match=message):
        trainings_that_fit(config(**train))


@pytest.mark.parametrize(
    ("there", "train", "count"),
    [
        ({"CPU": 8}, {"workers": "auto"}, 1),
        ({"CPU": 8, "GPU": 4}, {"workers": "auto"}, 4),
        ({"CPU": 8, "GPU": 4}, {"workers": "auto", "batch_size": 3}, 3),
        ({"CPU": 8, "GPU": 4}, {"workers": "auto", "gpu": False}, 1),
        ({"CPU": 8, "GPU": 4}, {"workers": 2}, 2),
        ({"CPU": 8, "GPU": 4}, {"workers": "auto", "gpu_share": 0.5}, 1),
    ],
)
def test_workers(cluster_of, there, train, count) -> None:
    cluster_of(**there)
    assert training_workers(config(**train)) == count


def test_shares_of_as_many_trainings_as_fit_leave_room_for_who_only_looks() -> None:
    for share in (0.5, 0.25, 0.125, 0.1):
        left = 1 - shares_of(1, share) * booked_share(share)
        assert left >= 2 * QUERY_SHARE
    assert booked_share(1) == 1


@pytest.mark.parametrize("asked", ["auto", "cuml"])
def test_where_clusters_are_made_is_asked_of_a_gpu(cluster_of, monkeypatch, asked) -> None:
    cluster_of(CPU=8, GPU=1)
    monkeypatch.setattr(resources, "_cuml_on_a_gpu", lambda: CumlProbe("runs", ""))
    assert clustering_backend(asked) == "cuml"
    assert clustering_backend("sklearn") == "sklearn"


def test_a_gpu_that_the_cluster_does_not_count_makes_no_clusters(cluster_of, monkeypatch) -> None:
    cluster_of(CPU=8)
    monkeypatch.setattr("lhs.hierarchy.kmeans.probe_cuml", lambda: CumlProbe("runs", ""))
    assert clustering_backend("auto") == "sklearn"
    with pytest.raises(UserError, match="cannot run here: there is no GPU"):
        clustering_backend("cuml")


def test_a_broken_cuml_is_reported_once(cluster_of, monkeypatch, caplog) -> None:
    cluster_of(CPU=8, GPU=1)
    broken = CumlProbe("broken", "ImportError: libcublas.so.13")
    monkeypatch.setattr(resources, "_cuml_on_a_gpu", lambda: broken)
    assert [clustering_backend("auto") for _ in range(3)] == ["sklearn"] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "clustering by scikit-learn: cuML cannot run here: ImportError: libcublas.so.13"
    ]
    with pytest.raises(UserError, match=r"hierarchy\.backend: found 'cuml'.*libcublas"):
        clustering_backend("cuml")


def test_the_cluster_and_what_runs_where(cluster_of, monkeypatch) -> None:
    monkeypatch.setattr(
        resources.ray, "nodes", lambda: [{"Alive": n != 1, "Resources": {}} for n in range(3)]
    )
    cluster_of(CPU=8)
    baseline = config(strategy="baseline")
    assert preflight(baseline) == (
        "cluster: 2 nodes, 8 CPUs, 0 GPUs\ntraining by 1 worker on a CPU"
    )
    assert preflight(config(strategy="hierarchical")).splitlines()[1] == (
        "samples on 8 CPUs, clustering by sklearn on CPUs, training by 1 worker on a CPU"
    )
    for hierarchy, clusters in (
        ({"kind": "scene_names"}, False),
        ({"kind": "classes"}, False),
        ({"kind": "random"}, True),
        ({"kind": "random", "like": "scene_names"}, False),
    ):
        tree = {"train": {"strategy": "hierarchical"}, "hierarchy": hierarchy}
        assert ("clustering" in preflight(build_config(tree))) == clusters
    cluster_of(**{"CPU": 8, "GPU": 4, "accelerator_type:T4": 2})
    monkeypatch.setattr(resources, "_cuml_on_a_gpu", lambda: CumlProbe("runs", ""))
    assert preflight(config(strategy="hierarchical", workers="auto")).splitlines() == [
        "cluster: 2 nodes, 8 CPUs, 4 GPUs (T4)",
        "samples on 8 CPUs, clustering by cuml on GPUs, training by 4 workers on GPUs",
    ]
    assert preflight(config(strategy="baseline", gpu_share=0.125)).splitlines()[1] == (
        "training by 1 worker on 0.125 of a GPU"
    )
    wanted = build_config({"train": {"gpu": False}, "evaluation": {"precision": "tf32"}})
    with pytest.raises(UserError, match=r"evaluation\.precision = tf32: found device cpu"):
        preflight(wanted)


def test_a_model_labels_on_every_gpu_or_on_every_node_that_has_cores(
    cluster_of, monkeypatch
) -> None:
    cluster_of(CPU=8, GPU=4)
    assert models_at_once(gpu=True) == 4
    assert models_at_once(gpu=True, share=0.125) == 32
    # No share lies on two cards.
    assert models_at_once(gpu=True, share=0.6) == 4
    assert models_at_once(gpu=True, share=0.1) == 40
    nodes = [(True, {"CPU": 4}), (True, {"CPU": 4}), (False, {"CPU": 4}), (True, {"CPU": 0})]
    nodes_there = [{"Alive": alive, "Resources": there} for alive, there in nodes]
    monkeypatch.setattr(resources.ray, "nodes", lambda: nodes_there)
    assert models_at_once(gpu=False) == 2
