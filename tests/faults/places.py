"""Storages that can be filled and closed: a small tmpfs, which only root can mount."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MEGABYTES = 400


class Disk:
    """A folder that is a filesystem of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Leave no block free."""
        handle = os.open(self.folder / ".filler", os.O_CREAT | os.O_WRONLY)
        try:
            for size in (2**20, 2**12):
                with suppress(OSError):
                    while True:
                        os.write(handle, bytes(size))
        finally:
            os.close(handle)

    def free(self) -> None:
        """Take away what fills it."""
        (self.folder / ".filler").unlink()

    def close(self) -> None:
        """Make it read-only for whoever opens a file from now on."""
        # Remounting is refused while files are open for writing; a mount over it is not.
        _mount("--bind", str(self.folder), str(self.folder))
        _mount("-o", "remount,bind,ro", str(self.folder))

    def open(self) -> None:
        """Let write again."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """Mount a small disk on a folder that is to be made, for as long as the block runs."""
    folder.mkdir(parents=True)
    _mount("-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder))
    try:
        yield Disk(folder)
    finally:
        while os.path.ismount(folder):
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def can_mount() -> bool:
    """Whether this user may mount."""
    return os.geteuid() == 0


def _mount(*options: str) -> None:
    done = subprocess.run(["mount", *options], capture_output=True, text=True)
    if done.returncode:
        raise OSError(errno.EPERM, f"mount {' '.join(options)}: {done.stderr.strip()}")
