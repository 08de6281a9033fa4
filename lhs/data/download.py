"""Download a dataset's archive and resume where an earlier attempt ended, which pooch can't.

An archive may have tens of gigabytes, and two of the four have no known digest to give to pooch.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from lhs import __version__
from lhs.data.archive import check_space, file_errors
from lhs.data.progress import MB, shown
from lhs.errors import UserError

TIMEOUT_SECONDS = 30
ATTEMPTS = 4
_CHUNK = 1 << 18
_WAIT_SECONDS = 2.0
_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


def download(address: str, target: Path) -> None:
    """Download a file; `target` appears only when it is complete.

    Until then the bytes lie beside it as `NAME.part`, and a later call asks for the rest. If the
    file at the address has changed since, the download starts again.

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
    part, notes = (target.with_name(target.name + end) for end in (".part", ".part.json"))
    with file_errors(f"downloading {address} to {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _fetch(address, part, notes)
                break
            # urllib's errors are OSErrors, which `file_errors` would take for the disk's.
            except urllib.error.HTTPError as error:
                raise UserError(
                    f"{address}: the server answers {error.code} {error.reason}"
                ) from error
            except _BROKEN as error:
                if attempt == ATTEMPTS or not _size(part):
                    raise UserError(
                        f"{address} can't be reached or broke off "
                        f"({getattr(error, 'reason', None) or error}); without a network, give the "
                        "archive with --archive FILE. Received bytes are kept: the same command "
                        "resumes the download"
                    ) from error
                time.sleep(_WAIT_SECONDS)
        part.replace(target)
        notes.unlink(missing_ok=True)


def _fetch(address: str, part: Path, notes: Path) -> None:
    """Request the missing bytes of the file and append them."""
    have, known = _size(part), _read_notes(notes)
    headers = {"User-Agent": f"lhs/{__version__}", "Accept-Encoding": "identity"}
    if have and known.get("address") == address and known.get("validator"):
        # With If-Range the server sends a changed file whole, not a tail that does not fit.
        headers |= {"Range": f"bytes={have}-", "If-Range": known["validator"]}
    request = urllib.request.Request(address, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 416 or "Range" not in headers:
                raise
            if error.headers.get("Content-Range") == f"bytes */{have}":
                return
        part.unlink()
        _fetch(address, part, notes)
        return
    with answer:
        start = have if answer.status == 206 else 0
        if start and not (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
            raise ConnectionError("the server sent another part than requested")
        length = int(answer.headers.get("Content-Length") or 0)
        check_space(address, length, part.parent)
        if not start:
            validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
            # A weak one does not promise the same bytes.
            validator = "" if validator.startswith("W/") else validator
            notes.write_text(json.dumps({"address": address, "validator": validator}))
        total = (start + length if length else 0) // MB
        with (
            shown(f"downloading {part.stem}, MB", total) as show,
            part.open("ab" if start else "wb") as file,
        ):
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                show(file.tell() // MB)
    if length and _size(part) != start + length:
        raise ConnectionError(f"{_size(part)} of {start + length} bytes arrived")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _read_notes(path: Path) -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError):
        notes = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(notes, dict):
            return notes
    return {}
