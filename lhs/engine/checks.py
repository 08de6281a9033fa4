"""Mistakes in paths and addresses, told before Ray starts."""

from __future__ import annotations

from collections.abc import Iterable

from lhs.config import Config
from lhs.data import open_dataset
from lhs.engine.runtime.cluster import set_quiet
from lhs.engine.storage import opened_storage
from lhs.hierarchy.given import given_sources
from lhs.networks.weights import weights_digest


def check_places(configs: Iterable[Config], *, trained: bool = True) -> None:
    """Refuse experiments whose storage, dataset, hierarchy file, weights or tracking server are not
    there.

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

    def first(part: str) -> bool:
        new = part not in seen
        seen.add(part)
        return new

    for config in configs:
        if first(config.storage):
            storage = opened_storage(config.storage)
            if trained:
                check_store(tracking_uri(storage))
        if first(config.data.model_dump_json()):
            open_dataset(config.data)
        if first(f"hierarchy {config.hierarchy.model_dump_json()}"):
            given_sources(config.hierarchy)
        if trained and first(config.network.model_dump_json()):
            weights_digest(config.network)
