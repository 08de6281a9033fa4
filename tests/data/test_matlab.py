"""One variable of a .mat file: as scipy gives it, and never what ends scipy's reader."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.io import loadmat, savemat

from lhs.data.matlab import DATA, MOST_BYTES, read_variable
from lhs.errors import BadImageError


def element(kind: int, content: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(
    name: bytes, held: int, shape: tuple[int, ...], content: bytes, order: str = "<"
) -> bytes:
    """A variable by hand, as the format's description has it."""
    parts = (
        element(6, struct.pack(f"{order}II", held, 0), order)
        + element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
        + element(1, name, order)
    )
    return element(14, parts + content, order)


def file(*variables: bytes, order: str = "<") -> bytes:
    mark = struct.pack(f"{order}HH", 0x0100, 0x4D49)
    return b"MATLAB 5.0 MAT-file".ljust(124) + mark + b"".join(variables)


arrays = npst.arrays(
    st.sampled_from([np.uint8, np.int16, np.float32, np.float64, np.bool_, np.complex128]),
    npst.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=5),
)
texts = st.lists(st.text("abcäø漢 ", max_size=9), min_size=1, max_size=5)


@pytest.mark.thorough
@settings(deadline=None)
@given(arrays, texts, st.booleans(), st.sampled_from(["S", "names", "nothing"]))
def test_a_variable_is_as_scipy_gives_it(
    tmp_path_factory: pytest.TempPathFactory,
    array: np.ndarray,
    words: list[str],
    compressed: bool,
    name: str,
) -> None:
    path = tmp_path_factory.getbasetemp() / "a.mat"
    cells = np.array(words, object)
    # A kind that is not read stands in the way.
    content = {"before": {"a": 1}, "S": array, "names": cells}
    savemat(path, content, do_compression=compressed)
    whole = loadmat(path)
    if name == "nothing":
        with pytest.raises(BadImageError, match="no variable 'nothing'"):
            read_variable(path, name)
        return
    found = read_variable(path, name)
    assert (found.dtype, found.shape) == (whole[name].dtype, whole[name].shape)
    assert str(found.tolist()) == str(whole[name].tolist())


def test_level_4(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"S": np.arange(6.0).reshape(2, 3)}, format="4")
    np.testing.assert_array_equal(
        read_variable(tmp_path / "a.mat", "S"), np.arange(6.0).reshape(2, 3)
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_orders_of_bytes(tmp_path: Path, order: str) -> None:
    values = element(3, struct.pack(f"{order}3h", 1, 2, 300), order)
    (tmp_path / "a.mat").write_bytes(file(matrix(b"S", 10, (1, 3), values, order), order=order))
    assert read_variable(tmp_path / "a.mat", "S").tolist() == [[1, 2, 300]]


@pytest.mark.parametrize("held", [4, 6, 9])
@pytest.mark.parametrize("inside", [False, True])
def test_every_type_of_data_that_does_not_exist_is_reported(
    tmp_path: Path, held: int, inside: bool
) -> None:
    """scipy's reader ends the process for each of these."""
    path = tmp_path / "a.mat"
    for kind in {*range(65), 0xFFFF, 2**31} - DATA:
        one = matrix(b"" if inside else b"S", held, (1, 2), element(kind, bytes(8)))
        path.write_bytes(file(matrix(b"S", 1, (1, 1), one) if inside else one))
        with pytest.raises(BadImageError, match=r"unknown type|a small element|within"):
            read_variable(path, "S")


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        (matrix(b"S", 2, (1, 1), b""), "a variable of class 2"),
        (matrix(b"S", 1, (1, 1), element(9, bytes(8))), "a cell of type 9"),
        (matrix(b"S", 1, (1, 2), matrix(b"", 6, (1, 1), element(9, bytes(8)))), "ends within"),
        (matrix(b"S", 1, (2**30, 2**30), b""), f"{2**60} cells"),
        (matrix(b"S", 6, (1, -1), element(9, bytes(8))), "sizes below 0"),
        (matrix(b"S", 6, (1,) * 33, element(9, bytes(8))), "sizes of type 5 in 132 bytes"),
        (element(9, bytes(8)), "an element of type 9"),
        (element(14, b""), "of type 14 and 0 bytes"),
    ],
)
def test_errors_are_reported(tmp_path: Path, variable: bytes, message: str) -> None:
    (tmp_path / "a.mat").write_bytes(file(variable))
    with pytest.raises(BadImageError, match=f"unreadable label file: .*{message}"):
        read_variable(tmp_path / "a.mat", "S")


def test_cells_in_cells_have_an_end(tmp_path: Path) -> None:
    inner = matrix(b"", 6, (1, 1), element(9, bytes(8)))
    for _ in range(50):
        inner = matrix(b"", 1, (1, 1), inner)
    (tmp_path / "a.mat").write_bytes(file(matrix(b"S", 1, (1, 1), inner)))
    with pytest.raises(BadImageError, match="more than 8 cells in each other"):
        read_variable(tmp_path / "a.mat", "S")


@pytest.mark.thorough
@pytest.mark.parametrize("wanted", ["S", "other"])
def test_a_bomb_is_not_unpacked(tmp_path: Path, wanted: str) -> None:
    """A gigabyte of zeros, which deflate to a megabyte."""
    size = 2**30
    assert size > MOST_BYTES
    head = matrix(b"S", 9, (1, size), struct.pack("<II", 2, size))
    packer, out = zlib.compressobj(), io.BytesIO()
    out.write(packer.compress(struct.pack("<II", 14, len(head) - 8 + size) + head[8:]))
    for _ in range(size // 2**20):
        out.write(packer.compress(bytes(2**20)))
    out.write(packer.flush())
    packed = out.getvalue()
    (tmp_path / "a.mat").write_bytes(file(struct.pack("<II", 15, len(packed)) + packed))
    tracemalloc.start()
    message = "more than 641 million bytes" if wanted == "S" else "no variable 'other'"
    with pytest.raises(BadImageError, match=message):
        read_variable(tmp_path / "a.mat", wanted)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20 * 2**20
