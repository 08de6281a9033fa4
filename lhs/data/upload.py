"""A finished folder of this machine, copied to an object store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from lhs.data.archive import file_errors
from lhs.data.layout import files_below
from lhs.data.progress import shown
from lhs.data.remote import UNFINISHED, RemotePath, asked, located
from lhs.errors import UserError

THREADS = 16
"""Files at a time: most of the time is waiting."""


def check_target(address: str) -> None:
    """Refuse a URI that `put_folder` could not copy to; before the work that makes the folder.

    Raises
    ------
    UserError
        If it is no URI of a store, can't be reached, or files lie there; those of an interrupted
        copy do not count.
    """
    target = _remote(address)
    target.refresh()
    if target.exists() and not (target / UNFINISHED).exists():
        raise UserError(f"{target}: files lie there already; name another place, or delete them")


def put_folder(source: Path, address: str) -> None:
    """Copy a folder to a store, so that it opens as a dataset only once it is whole.

    Parameters
    ----------
    source
        A local folder. Links are followed, hidden files left out.
    address
        A URI such as `s3://BUCKET/FOLDER`. What lies there under the same names is replaced.

    Raises
    ------
    UserError
        As of `check_target`, and if a file of the folder can't be read.
    """
    target = _remote(address)
    files = sorted(files_below(source))

    def put(path: PurePosixPath) -> None:
        content = (source / path).read_bytes()
        asked(target, lambda: write(path, content))

    def write(path: PurePosixPath, content: bytes) -> None:
        filesystem, place = target.place()
        with filesystem.open_output_stream(f"{place}/{path}") as stream:
            stream.write(content)

    def finish() -> None:
        filesystem, place = target.place()
        filesystem.delete_file(f"{place}/{UNFINISHED}")

    mark = PurePosixPath(UNFINISHED)
    asked(target, lambda: write(mark, b"lhs is copying a dataset here\n"))
    with (
        file_errors(f"copying {source} to {target}"),
        ThreadPoolExecutor(THREADS) as pool,
        shown(f"copying to {target}, files", len(files)) as show,
    ):
        for number, _ in enumerate(pool.map(put, files), start=1):
            show(number)
    asked(target, finish)
    target.refresh()


def _remote(address: str) -> RemotePath:
    target = located(address)
    if not isinstance(target, RemotePath):
        raise UserError(f"{address}: no URI of an object store, such as s3://BUCKET/FOLDER")
    return target
