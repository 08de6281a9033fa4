"""Scenes: images, label maps, splits and scene names of every dataset."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from lhs.data.archive import file_errors
from lhs.data.catalogue import KNOWN
from lhs.data.dataset import Dataset
from lhs.data.file_cache import set_bound
from lhs.data.folder import open_folder
from lhs.data.layout import find_base
from lhs.data.remote import UNFINISHED, RemotePath, located
from lhs.data.resizing import resized_dataset
from lhs.data.scenes import Scene, void_of
from lhs.errors import UserError
from lhs.names import DATASETS

if TYPE_CHECKING:
    from lhs.config import DataConfig

__all__ = ["Dataset", "Scene", "open_dataset", "void_of"]

logger = logging.getLogger(__name__)


def open_dataset(name_or_config: str | DataConfig, data_root: str | Path | None = None) -> Dataset:
    """Open a dataset; its images are read later, one by one.

    Parameters
    ----------
    name_or_config
        "siftflow", "stanford", "barcelona", "lmsun", "synthetic" with default settings, or the
        data settings of a configuration.
    data_root
        The folder that holds one folder for each dataset; where None, the settings' own.

    Returns
    -------
    Dataset
        With `.classes` and `.split("train" | "test")`.

    Raises
    ------
    UserError
        If the dataset is unknown, is not there (the message names the command that gets it), or
        is another dataset.

    Examples
    --------
    >>> dataset = open_dataset("siftflow", "~/lhs-data")  # doctest: +SKIP
    >>> image = dataset.split("test")[0].image()  # doctest: +SKIP
    """
    config = settings(name_or_config, data_root)
    with file_errors(f"opening the dataset {config.dataset!r}"):
        dataset = _open(config)
    if isinstance(config.held_out, int):
        dataset = dataset.held_out(config.held_out, seed=config.seed)
    if config.max_train is not None or config.max_test is not None:
        dataset = dataset.subset(config.max_train, config.max_test, seed=config.seed)
    return dataset if config.long_side is None else resized_dataset(dataset, config.long_side)


def settings(name_or_config: str | DataConfig, data_root: str | Path | None = None) -> DataConfig:
    """The data settings of a dataset's name, or the given ones, with another data root if given."""
    from lhs.config import DataConfig

    if isinstance(name_or_config, str):
        if name_or_config not in DATASETS:
            raise UserError(
                f"dataset {name_or_config!r} is unknown; allowed: {', '.join(DATASETS)}"
            )
        config = DataConfig.model_validate({"dataset": name_or_config})
    else:
        config = name_or_config
    return config if data_root is None else config.model_copy(update={"root": str(data_root)})


def undivided(config: DataConfig) -> DataConfig:
    """The settings of the whole dataset as it lies in its files, also where a run takes a part of
    it or resizes it."""
    held_out = "val" if config.held_out == "val" else None
    return config.model_copy(
        update={"max_train": None, "max_test": None, "held_out": held_out, "long_side": None}
    )


def dataset_folder(config: DataConfig) -> Path:
    """The folder of the dataset of these settings, whether it is there or not."""
    if config.dataset == "folder":
        return located(os.path.expanduser(config.folder.path))
    return located(os.path.expanduser(config.root)) / config.dataset


def _listed_folder(config: DataConfig) -> Path:
    """The folder of the dataset; of an object store, listed anew."""
    folder = dataset_folder(config)
    if isinstance(folder, RemotePath):
        set_bound(config.cache_gb)
        folder.refresh()
        if (folder / UNFINISHED).exists():
            raise UserError(
                f"{folder}: copying a dataset there was interrupted; start that command again"
            )
    return folder


def _open(config: DataConfig) -> Dataset:
    if config.dataset == "folder":
        return _open_folder(config)
    if config.held_out == "val":
        raise UserError(
            f"data.held_out is 'val': {config.dataset} has no validation list; allowed: a number "
            "of training images (val is for folders with splits/val.txt)"
        )
    if config.dataset != "synthetic":
        return _open_known(config)
    from lhs.data.synthetic import synthetic_dataset

    return synthetic_dataset(**config.synthetic.model_dump())


def _open_folder(config: DataConfig) -> Dataset:
    if not config.folder.path:
        raise UserError("data.dataset is 'folder': set data.folder.path to the folder's path")
    folder = _listed_folder(config)
    if not folder.is_dir():
        raise UserError(f"data.folder.path {str(folder)!r} is not a folder")
    setting = config.folder
    return open_folder(
        folder,
        void=setting.void,
        ids_from=setting.ids_from,
        held_out="val" if config.held_out == "val" else "test",
        scenes=setting.scenes,
        seed=config.seed,
        labels_follow_exif=setting.labels_follow_exif,
        value_range=setting.range,
    )


def _open_known(config: DataConfig) -> Dataset:
    name, known = config.dataset, KNOWN[config.dataset]
    folder = _listed_folder(config)
    command = f"`lhs data get {name} [--archive FILE]`"
    if not folder.exists():
        raise UserError(f"{known.title} is not in {folder}; get it with {command}")
    base = find_base(folder, known.needed) if folder.is_dir() else None
    if base is None:
        raise UserError(
            f"{folder} is not {known.title}: it lacks {', '.join(known.needed)} side by side; "
            f"remove it and get the dataset with {command}"
        )
    dataset = known.reader(base, config)
    if not len(dataset):
        raise UserError(
            f"{base} holds no images of {known.title}; remove it and get it with {command}"
        )
    if len(dataset) != known.train + known.test:
        logger.warning(
            "%s: %d images, where %s has %d; `lhs data check %s` lists what is wrong",
            base, len(dataset), known.title, known.train + known.test, name,
        )  # fmt: skip
    return dataset
