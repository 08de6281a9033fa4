"""Mistakes in paths and addresses, told before Ray starts."""

from __future__ import annotations

from collections.abc import Iterable

from lhs.config import Config
from lhs.data import Dataset, open_dataset
from lhs.data.scenes import SPLITS
from lhs.engine.runtime.cluster import set_quiet
from lhs.engine.storage import opened_storage
from lhs.errors import UserError
from lhs.hierarchy.given import given_sources
from lhs.networks.weights import check_weights_file, weights_digest
from lhs.training.losses import class_weights


def check_places(configs: Iterable[Config], *, trained: bool = True) -> None:
    """Refuse experiments whose storage, dataset, hierarchy file, weights or tracking server are not
    there, or whose settings do not fit the dataset's lists.

    Parameters
    ----------
    configs
        The experiments; each place is looked at once.
    trained
        Whether networks are trained, and tracked in MLflow.

    Raises
    ------
    UserError
        With the setting or the variable that names the place.
    """
    set_quiet()
    from lhs.engine.tracking.tracker import check_store, tracking_uri

    seen: set[str] = set()
    datasets: dict[str, Dataset] = {}

    def first(part: str) -> bool:
        new = part not in seen
        seen.add(part)
        return new

    for config in configs:
        if first(config.storage):
            storage = opened_storage(config.storage)
            if trained:
                check_store(tracking_uri(storage))
        data = config.data.model_dump_json()
        if first(data):
            datasets[data] = open_dataset(config.data)
        _check_fits(config, datasets[data], trained=trained)
        if first(f"hierarchy {config.hierarchy.model_dump_json()}"):
            given_sources(config.hierarchy)
        if trained and first(config.network.model_dump_json()):
            weights_digest(config.network)
            check_weights_file(config.network)
            _check_encoder(config)


def _check_fits(config: Config, dataset: Dataset, *, trained: bool) -> None:
    """Refuse settings that the lists of a dataset, which are known before its files are read, do
    not fit."""
    for split in SPLITS:
        if not dataset.split(split):
            advice = (
                f"allowed is one image or more, listed in {dataset.folder}/splits/{split}.txt"
                if config.data.dataset == "folder"
                else "get the dataset again"
            )
            raise UserError(f"{dataset.name}: the {split} split holds no image; {advice}")
    kind = config.hierarchy.kind
    if kind == "random":
        kind = config.hierarchy.like
    made = not trained or config.train.strategy != "baseline"
    if made and kind == "scene_names" and not dataset.scene_names:
        raise UserError(
            f"hierarchy.kind = scene_names: {dataset.name} has no scene names; allowed there are "
            "label_clusters and image clusters"
            + "; or set data.folder.scenes"
            * (config.data.dataset == "folder")
        )
    if trained:
        class_weights(config.train.class_weights, [1] * len(dataset.classes))


def _check_encoder(config: Config) -> None:
    """Refuse an encoder that timm does not have: only with it the network can be built."""
    if config.network.name.startswith(("timm:", "smp:")):
        import torch

        from lhs.networks.build import build_network

        with torch.device("meta"):
            build_network(config.network, 2)
