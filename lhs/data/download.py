"""Fetching a dataset's archive from its own home, going on where an earlier try ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from lhs import __version__
from lhs.data.archive import file_errors
from lhs.data.progress import Progress
from lhs.errors import UserError

TIMEOUT_SECONDS = 30
ATTEMPTS = 4
_CHUNK = 1 << 18
_WAIT_SECONDS = 2.0


def download(address: str, target: Path) -> None:
    """Download a file; `target` appears only when it is complete.

    What has arrived is kept beside it as `NAME.part`, and a later call asks for the rest. If the
    file at the address has changed since, it begins anew.

    Parameters
    ----------
    address
        http or https.
    target
        The file to make; its folder is made too.

    Raises
    ------
    UserError
        If the address can't be reached or refuses, or if there is no space or no permission.
    """
    if urlsplit(address).scheme not in ("http", "https"):
        raise UserError(f"address {address!r}; allowed: http and https")
    with file_errors(f"downloading {address} to {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        for attempt in range(1, ATTEMPTS + 1):
            before = _size(part)
            try:
                _fetch(address, part)
                break
            # urllib's errors are OSErrors, which `file_errors` would take for the disk's.
            except urllib.error.HTTPError as error:
                raise UserError(f"{address}: the server answers {error.code} {error.reason}") from (
                    error
                )
            except (
                urllib.error.URLError,
                http.client.HTTPException,
                ConnectionError,
                TimeoutError,
            ) as error:
                progressed = _size(part) > before
                if attempt == ATTEMPTS or not (progressed or before):
                    reason = getattr(error, "reason", None) or error
                    raise UserError(
                        f"{address} can't be reached or broke off ({reason}); without a network, "
                        "give the archive with --archive FILE. What has arrived is kept, the same "
                        "command goes on from there"
                    ) from error
                time.sleep(_WAIT_SECONDS)
        part.replace(target)
        _notes(part).unlink(missing_ok=True)


def _fetch(address: str, part: Path) -> None:
    """Ask for what is missing of the file and append it."""
    have, notes = _size(part), _read_notes(part)
    headers = {"User-Agent": f"lhs/{__version__}", "Accept-Encoding": "identity"}
    if have and notes.get("address") == address and notes.get("validator"):
        # With If-Range a changed file comes whole instead of as a tail that does not fit.
        headers |= {"Range": f"bytes={have}-", "If-Range": notes["validator"]}
    request = urllib.request.Request(address, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 416 or "Range" not in headers:
                raise
            if have and error.headers.get("Content-Range") == f"bytes */{have}":
                return None
        part.unlink()
        return _fetch(address, part)
    with answer:
        start = _start(answer, have)
        length = int(answer.headers.get("Content-Length") or 0)
        total = start + length if length else 0
        free = shutil.disk_usage(part.parent).free
        if length > free:
            raise UserError(
                f"{address}: needs {length / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free "
                f"at {part.parent}"
            )
        validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        if not start:
            weak = validator.startswith("W/")
            notes = {"address": address, "validator": "" if weak else validator}
            _notes(part).write_text(json.dumps(notes), encoding="utf-8")
        progress = Progress(f"downloading {part.stem}", total)
        progress.add(start)
        with part.open("ab" if start else "wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                progress.add(len(chunk))
        progress.end()
    if total and _size(part) != total:
        raise ConnectionError(f"{_size(part)} of {total} bytes arrived")
    return None


def _start(answer: http.client.HTTPResponse, have: int) -> int:
    """Tell at which byte of the file the answer begins."""
    if answer.status != 206:
        return 0
    match = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range") or "")
    if not match or int(match[1]) != have:
        raise ConnectionError("the server sent another part than asked for")
    return have


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _notes(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_notes(part: Path) -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError):
        notes = json.loads(_notes(part).read_text(encoding="utf-8"))
        if isinstance(notes, dict):
            return notes
    return {}
