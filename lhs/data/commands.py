"""The commands `lhs data get`, `check` and `show`; they print text for people."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from lhs.config import DataConfig
from lhs.data import dataset_folder, open_dataset, settings
from lhs.data.archive import file_errors, sha256_of, unpack
from lhs.data.catalogue import KNOWN, Known
from lhs.data.checking import inspect_dataset
from lhs.data.download import download
from lhs.data.file_cache import cache_folder
from lhs.data.remote import UNFINISHED, RemotePath
from lhs.data.statistics import Statistics, describe
from lhs.data.upload import put_folder
from lhs.errors import UserError


def get(name: str, archive: str | Path | None = None, root: str | Path | None = None) -> int:
    """Download (or take) a dataset's archive, verify it, unpack it and check the dataset.

    Parameters
    ----------
    name
        "siftflow", "stanford", "barcelona" or "lmsun".
    archive
        The archive file; where None it is downloaded from the dataset's own home.
    root
        The data root; where None, the configuration's.

    Returns
    -------
    int
        Exit code: 0, or 1 if the check finds errors.

    Raises
    ------
    UserError
        If the archive is not what it should be, can't be reached or can't be unpacked.
    """
    known = KNOWN[name]
    config = settings(name, root)
    folder = dataset_folder(config)
    remote = isinstance(folder, RemotePath)
    with file_errors(f"getting {known.title}"):
        if isinstance(folder, RemotePath):
            folder.refresh()
        there = folder.exists() and not (folder / UNFINISHED).exists()
    if there:
        print(f"{known.title} is already in {folder}; remove that folder to get it again")
        return check(config)
    # For a bucket it is unpacked here first.
    made = cache_folder() / "getting" / name if remote else folder
    if archive is None:
        path = made.parent / ".downloads" / known.address.rsplit("/", 1)[-1]
        if not path.exists():
            download(known.address, path)
    else:
        path = Path(os.path.expanduser(archive))
        if not os.path.isfile(path):
            raise UserError(f"archive {str(path)!r} is not a file")
    _verify(known, path, downloaded=archive is None)
    if remote:
        shutil.rmtree(made, ignore_errors=True)
    unpack(path, made, needed=known.needed, max_bytes=known.max_bytes)
    if remote:
        put_folder(made, str(folder))
        shutil.rmtree(made)
    if archive is None:
        with file_errors(f"removing {path}"):
            path.unlink()
    print(f"{known.title} is in {folder}; cite {known.citation}")
    return check(config)


def check(config: DataConfig) -> int:
    """Read every file of a dataset and print all that is wrong.

    Parameters
    ----------
    config
        The data settings.

    Returns
    -------
    int
        Exit code: 0, or 1 if anything is wrong. Notes alone give 0.
    """
    findings = inspect_dataset(config)
    for error in findings.errors:
        print(f"error: {error}")
    for note in findings.notes:
        print(f"note: {note}")
    result = f"{len(findings.errors)} errors" if findings.errors else "nothing is wrong"
    print(f"{config.dataset}: {result}, {len(findings.notes)} notes")
    return 1 if findings.errors else 0


def show(config: DataConfig, *, as_json: bool = False) -> int:
    """Print the statistics of a dataset.

    Parameters
    ----------
    config
        The data settings.
    as_json
        Whether to print them once more, as JSON on the last line.

    Returns
    -------
    int
        Exit code 0.
    """
    statistics = describe(open_dataset(config))
    print("\n".join(_table(statistics)))
    if as_json:
        print(json.dumps(statistics.as_dict()))
    return 0


def _verify(known: Known, path: Path, *, downloaded: bool) -> None:
    """Compare the archive's digest with the known ones; a wrong download is removed."""
    digest = sha256_of(path)
    if digest in known.sha256:
        return
    if known.only_known:
        if downloaded:
            path.unlink()
        raise UserError(
            f"{path} is not the archive of {known.title}, or is damaged: sha256 {digest}, "
            f"needed {' or '.join(known.sha256)}"
        )
    print(
        f"warning: {path}: sha256 {digest} is not one this program knows for {known.title}; "
        "it is unpacked safely and checked file by file",
        file=sys.stderr,
    )


def _table(statistics: Statistics) -> list[str]:
    train, test = statistics.splits["train"], statistics.splits["test"]
    lines = [
        f"{statistics.name}: {statistics.images} images, {train.images} / {test.images} "
        "(train / test)",
        f"sizes (width x height): {_sizes(statistics)}",
        f"labelled pixels: {statistics.labelled_share:.1%}",
    ]
    for name, split in statistics.splits.items():
        line = f"labelled {name} pixels: {split.labelled_share:.1%} of {split.pixels:,}"
        if split.unlabelled_images:
            line += f" ({split.unlabelled_images} images without any label)"
        lines.append(line)
    names = statistics.scene_names
    counts = [f"{n} {train.scene_names.get(n, 0)} / {test.scene_names.get(n, 0)}" for n in names]
    lines += [
        f"{len(names)} scene names (train / test): {', '.join(counts)}"
        if names
        else "scene names: none",
        f"{len(statistics.classes)} classes, share of the labelled pixels, images they are in:",
        f"{'id':>5}  {'class':<20} {'train':>9} {'test':>9} {'train':>7} {'test':>6}",
    ]
    for j in sorted(range(len(statistics.classes)), key=lambda j: -train.class_pixels[j]):
        shares = [split.class_pixels[j] / max(split.labelled, 1) for split in (train, test)]
        lines.append(
            f"{j:>5}  {statistics.classes[j]:<20} {shares[0]:>9.3%} {shares[1]:>9.3%} "
            f"{train.class_images[j]:>7} {test.class_images[j]:>6}"
        )
    return lines


def _sizes(statistics: Statistics) -> str:
    sizes = list(statistics.sizes.items())
    text = ", ".join(f"{width} x {height} ({count})" for (height, width), count in sizes[:5])
    rest = sum(count for _, count in sizes[5:])
    return text + (f", {len(sizes) - 5} more ({rest})" if rest else "")
