"""The datasets that `lhs data get` knows: addresses, digests, and the counts they must have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lhs.data.dataset import Dataset
from lhs.data.stanford import open_stanford
from lhs.data.superparsing import TEST_LIST, open_superparsing

if TYPE_CHECKING:
    from lhs.config import DataConfig

GB = 10**9


def _stanford(folder: Path, config: DataConfig) -> Dataset:
    setting = config.stanford
    return open_stanford(folder, fold=setting.fold, split=setting.split, seed=config.seed)


def _superparsing(folder: Path, config: DataConfig) -> Dataset:
    # Of the three, SIFTFlow alone has scene names.
    return open_superparsing(config.dataset, folder, scene_names=config.dataset == "siftflow")


@dataclass(frozen=True, kw_only=True)
class Known:
    """A dataset in its official layout.

    Attributes
    ----------
    title, citation
        For messages; both datasets and papers ask to be cited.
    address
        The archive at the dataset's own home.
    sha256
        Digests of right archives. Without `only_known`, others are accepted with a warning.
    only_known
        Whether any other archive is refused.
    train, test, num_classes
        What the paper's Table 1 gives (METHOD, section 1).
    max_bytes
        Above this, an unpacked archive can't be this dataset.
    needed
        Files and folders that stand side by side in the dataset's folder.
    reader
        Opens the folder, given the data settings.
    """

    title: str
    citation: str
    address: str
    sha256: tuple[str, ...] = ()
    only_known: bool = False
    train: int
    test: int
    num_classes: int
    max_bytes: int
    needed: tuple[str, ...] = ("Images", "SemanticLabels", TEST_LIST)
    reader: Callable[[Path, DataConfig], Dataset] = _superparsing


_TIGHE = "http://www.cs.unc.edu/~jtighe/Papers/ECCV10"

KNOWN: dict[str, Known] = {
    "siftflow": Known(
        title="SIFTFlow",
        citation="Liu, Yuen, Torralba, CVPR 2009; split of Tighe, Lazebnik, ECCV 2010",
        address=f"{_TIGHE}/siftflow/SiftFlowDataset.zip",
        # A .tar.gz with the same scenes, labels and split; the home's .zip has another digest.
        sha256=("38625a0f375693306c5afa35a03fcb5af4281b7ef860534ea61bd5f022f35fa6",),
        train=2488,
        test=200,
        num_classes=33,
        max_bytes=4 * GB,
    ),
    "stanford": Known(
        title="Stanford Background",
        citation="Gould, Fulton, Koller, ICCV 2009",
        address="http://dags.stanford.edu/data/iccv09Data.tar.gz",
        sha256=("eb99034c8f22021b78d6617f51309d4526322d8e47ee6449e00f9ce964d94f65",),
        only_known=True,
        needed=("images", "labels"),
        train=572,
        test=143,
        num_classes=8,
        max_bytes=2 * GB,
        reader=_stanford,
    ),
    "barcelona": Known(
        title="Barcelona",
        citation="Tighe, Lazebnik, ECCV 2010",
        address=f"{_TIGHE}/barcelona/BarcelonaDataset.zip",
        train=13370,
        test=279,
        num_classes=170,
        max_bytes=40 * GB,
    ),
    "lmsun": Known(
        title="LM+Sun",
        citation="Tighe, Lazebnik, IJCV 2013",
        address=f"{_TIGHE}/LMSun/LMSunDataset.zip",
        train=45176,
        test=500,
        num_classes=232,
        max_bytes=200 * GB,
    ),
}  # fmt: skip
