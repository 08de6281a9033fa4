"""The datasets that `lhs data get` knows: where they come from and what they must hold."""

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


@dataclass(frozen=True, kw_only=True)
class Known:
    """A dataset in its official layout.

    Attributes
    ----------
    title, citation
        For people; both datasets and papers ask to be cited.
    address
        The archive at the dataset's own home.
    sha256
        Archives known to be right. Without `only_known`, others are taken with a warning.
    only_known
        Whether any other archive is refused.
    needed
        Files and folders that stand side by side in the dataset's folder.
    train, test, num_classes
        What the paper's Table 1 gives (METHOD, section 1).
    max_bytes
        Above this, an unpacked archive can't be this dataset.
    reader
        Opens the folder, given the data settings.
    """

    title: str
    citation: str
    address: str
    sha256: tuple[str, ...] = ()
    only_known: bool = False
    needed: tuple[str, ...]
    train: int
    test: int
    num_classes: int
    max_bytes: int
    reader: Callable[[Path, DataConfig], Dataset]


def _stanford(folder: Path, config: DataConfig) -> Dataset:
    setting = config.stanford
    return open_stanford(folder, fold=setting.fold, split=setting.split, seed=config.seed)


def _siftflow(folder: Path, config: DataConfig) -> Dataset:
    return open_superparsing("siftflow", folder, scene_names=True)


def _barcelona(folder: Path, config: DataConfig) -> Dataset:
    return open_superparsing("barcelona", folder, scene_names=False)


def _lmsun(folder: Path, config: DataConfig) -> Dataset:
    return open_superparsing("lmsun", folder, scene_names=False)


_SUPERPARSING = ("Images", "SemanticLabels", TEST_LIST)
_TIGHE = "http://www.cs.unc.edu/~jtighe/Papers/ECCV10"

KNOWN: dict[str, Known] = {
    "siftflow": Known(
        title="SIFTFlow",
        citation="Liu, Yuen, Torralba, CVPR 2009; split of Tighe, Lazebnik, ECCV 2010",
        address=f"{_TIGHE}/siftflow/SiftFlowDataset.zip",
        # A .tar.gz with the same scenes, labels and split; the home's .zip has another digest.
        sha256=("38625a0f375693306c5afa35a03fcb5af4281b7ef860534ea61bd5f022f35fa6",),
        needed=_SUPERPARSING,
        train=2488,
        test=200,
        num_classes=33,
        max_bytes=4 * GB,
        reader=_siftflow,
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
        needed=_SUPERPARSING,
        train=13370,
        test=279,
        num_classes=170,
        max_bytes=40 * GB,
        reader=_barcelona,
    ),
    "lmsun": Known(
        title="LM+Sun",
        citation="Tighe, Lazebnik, IJCV 2013",
        address=f"{_TIGHE}/LMSun/LMSunDataset.zip",
        needed=_SUPERPARSING,
        train=45176,
        test=500,
        num_classes=232,
        max_bytes=200 * GB,
        reader=_lmsun,
    ),
}
