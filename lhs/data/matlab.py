"""Read one variable of a MATLAB file: numbers, text or cells, after a check of its structure.

scipy's reader uses the type numbers in a file as memory indices without a check (scipy pull request
25349), and a damaged file ends the process. So the types are checked here first, in the order in
which that reader reads them. The format: MathWorks, MAT-File Format, chapter 1 (level 5).
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from lhs.data.images import MAX_PIXELS
from lhs.errors import BadImageError, UserError

MOST_BYTES = 8 * MAX_PIXELS + 2**20
"""Of a variable: a label map as doubles, and its headers."""
HEADER = 128
MATRIX, COMPRESSED, SIZES = 14, 15, (5, 6)
DATA = frozenset({1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 16, 17, 18})
"""Types of numbers and text."""
CELL, CHAR, NUMBERS, OPAQUE = 1, 4, range(6, 16), 17
"""Classes of variables."""
MOST_SIZES, DEEPEST, PIECE = 32, 8, 2**16
"""Dimensions that scipy's reader allows; levels of nested cells; bytes inflated at a time."""


def read_variable(path: Path, name: str) -> np.ndarray:
    """Read a variable of a `.mat` file (level 4 or 5).

    Parameters
    ----------
    path
        The file.
    name
        Of an array of numbers or characters, or a cell array of such.

    Returns
    -------
    ndarray
        As `scipy.io.loadmat` gives it.

    Raises
    ------
    BadImageError
        If the file is missing or damaged, has no such variable, or one of another kind or of more
        than `MOST_BYTES`.
    """
    # Imported late: scipy.io takes a fifth of a second that `lhs --help` would pay.
    from scipy.io import loadmat

    try:
        content = path.read_bytes()
        # Level 4 looks its types up in a list.
        if 0 not in content[:4]:
            content = _alone(content, name.encode())
        found = loadmat(io.BytesIO(content), variable_names=[name])
    except FileNotFoundError:
        raise BadImageError(f"{path}: label file is missing") from None
    except UserError:
        raise
    # A damaged .mat file makes scipy raise nearly anything, as with images.
    except Exception as error:
        raise BadImageError(f"{path}: unreadable label file: {error or repr(error)}") from error
    if name not in found:
        raise BadImageError(f"{path}: the .mat file has no variable {name!r}")
    return np.asarray(found[name])


def list_arrays(path: Path) -> dict[str, tuple[int, ...]]:
    """List the arrays of numbers in a `.mat` file (level 4 or 5), without reading them.

    Returns
    -------
    dict of str to tuple of int
        Their shapes by name; structures, text, cells and sparse arrays are left out.

    Raises
    ------
    BadImageError
        If the file is missing or damaged.
    """
    from scipy.io import whosmat

    try:
        content = path.read_bytes()
        if 0 in content[:4]:
            return {
                name: shape
                for name, shape, kind in whosmat(io.BytesIO(content))
                if kind not in ("char", "sparse")
            }
        heads = [reader.head() for *_, reader in _matrices(content)]
    except FileNotFoundError:
        raise BadImageError(f"{path}: label file is missing") from None
    except Exception as error:
        raise BadImageError(f"{path}: unreadable label file: {error or repr(error)}") from error
    return {
        name.decode("latin-1"): shape for flags, shape, name in heads if flags & 0xFF in NUMBERS
    }


def _alone(content: bytes, wanted: bytes) -> bytes:
    """A file with the wanted variable alone, if it is there.

    Raises
    ------
    ValueError
        If the structure of it, or of the start of one before it, is wrong.
    """
    for start, end, reader in _matrices(content):
        if reader.variable(wanted):
            return content[:HEADER] + content[start:end]
    return content[:HEADER]


def _matrices(content: bytes) -> Iterator[tuple[int, int, _Elements]]:
    """Start and end of each variable of a file of level 5, and its elements."""
    if content.startswith(b"MATLAB 7.3"):
        raise ValueError("MATLAB 7.3's format; needed is an earlier one: save(..., '-v7')")
    order = "<" if content[126:128] == b"IM" else ">"
    place = HEADER
    while place + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        start, place = place, place + 8 + size
        body = memoryview(content)[start + 8 : place]
        if kind == COMPRESSED:
            reader = _Elements(order, _inflated(body))
            kind, size = reader.numbers(2)
        else:
            reader = _Elements(order, iter([body]))
        if kind != MATRIX or size == 0:
            raise ValueError(f"an element of type {kind} and {size} bytes, expected a matrix")
        yield start, place, reader


def _inflated(body: memoryview) -> Iterator[bytes]:
    """What a compressed element holds, a piece at a time."""
    inflater = zlib.decompressobj()
    left: bytes | memoryview = body
    while left and not inflater.eof:
        yield inflater.decompress(left, PIECE)
        left = inflater.unconsumed_tail


class _Elements:
    """The elements of a variable, in the order in which scipy reads them.

    Parameters
    ----------
    order
        `<` or `>`: of bytes.
    pieces
        The content.
    """

    def __init__(self, order: str, pieces: Iterator[bytes | memoryview]) -> None:
        self.order, self.pieces = order, pieces
        self.piece = memoryview(b"")
        self.taken = 0

    def take(self, size: int) -> bytes:
        """The next bytes; of more than `PIECE`, all are skipped and only a part is returned."""
        self.taken += size
        if self.taken > MOST_BYTES:
            raise ValueError(f"a variable of more than {MOST_BYTES // 10**6} million bytes")
        found = b""
        while size:
            self.piece = self.piece or memoryview(next(self.pieces, b""))
            if not self.piece:
                raise ValueError("it ends within a variable")
            part, self.piece = self.piece[:size], self.piece[size:]
            size -= len(part)
            if len(part) + len(found) <= PIECE:
                found += bytes(part)
        return found

    def numbers(self, count: int) -> tuple[int, ...]:
        """The next unsigned numbers of four bytes."""
        return struct.unpack(f"{self.order}{count}I", self.take(4 * count))

    def element(self) -> tuple[int, bytes]:
        """The type and the bytes of the next element, of more than `PIECE` not all."""
        (kind,) = self.numbers(1)
        if kind >> 16:
            # A small one: its size is beside its type, its bytes are in the place of the size.
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise ValueError(f"a small element of {size} bytes; allowed are 4")
            return kind, self.take(4)[:size]
        (size,) = self.numbers(1)
        found = self.take(size)
        with suppress(ValueError):
            # The padding to eight bytes may be missing at the end.
            self.take(-size % 8)
        return kind, found

    def head(self) -> tuple[int, tuple[int, ...], bytes]:
        """Flags, shape and name of a variable; of an opaque one, the flags alone."""
        self.numbers(2)
        flags, _ = self.numbers(2)
        if flags & 0xFF == OPAQUE:
            return flags, (), b""
        kind, sizes = self.element()
        if kind not in SIZES or len(sizes) % 4 or len(sizes) > 4 * MOST_SIZES:
            raise ValueError(f"sizes of type {kind} in {len(sizes)} bytes")
        shape = struct.unpack(f"{self.order}{len(sizes) // 4}i", sizes)
        if min(shape, default=0) < 0:
            raise ValueError(f"sizes below 0: {shape}")
        _, name = self.element()
        return flags, shape, name

    def variable(self, wanted: bytes | None, depth: int = 0) -> bool:
        """Check a variable if it is the wanted one (None: any); return whether it is."""
        flags, shape, name = self.head()
        held = flags & 0xFF
        if wanted is not None and name != wanted:
            return False
        if held == CELL:
            self.cells(math.prod(shape), depth + 1)
        elif held == CHAR or held in NUMBERS:
            for _ in range(2 if flags >> 11 & 1 and held != CHAR else 1):
                kind, _ = self.element()
                if kind not in DATA:
                    raise ValueError(f"data of the unknown type {kind}")
        else:
            raise ValueError(f"a variable of class {held}; allowed are numbers, text and cells")
        return True

    def cells(self, count: int, depth: int) -> None:
        """Check `count` cells, nested in `depth` cells."""
        if depth > DEEPEST:
            raise ValueError(f"more than {DEEPEST} cells in each other")
        # Each takes at least eight bytes, also if empty.
        if 8 * count > MOST_BYTES:
            raise ValueError(f"{count} cells")
        for _ in range(count):
            kind, size = self.numbers(2)
            if kind != MATRIX:
                raise ValueError(f"a cell of type {kind}")
            if size:
                self.variable(None, depth)
