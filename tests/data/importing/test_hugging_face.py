"""Hugging Face tables: rows, columns and splits, as `datasets` itself reads and writes them."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lhs.data.importing import hugging_face
from lhs.data.importing.found import Options
from lhs.errors import BadImageError, UserError
from tests.data.importing.pictures import NOTHING, by_id, photo, png, save

MASKS = [np.random.default_rng(n).integers(0, 200, (6, 8)).astype(np.uint8) for n in range(50)]
PHOTO = png(np.asarray(photo(6, 8)))
PICTURE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
FEATURES = {
    "image": {"_type": "Image"}, "label": {"_type": "Image"}, "sound": {"_type": "Audio"},
    "name": {"dtype": "string", "_type": "Value"},
}  # fmt: skip


def table(numbers: range, kind: pa.DataType = PICTURE, **more: Any) -> pa.Table:
    """Rows as `datasets` stores them."""

    def pictures(contents: list[bytes]) -> pa.Array:
        if kind == PICTURE:
            return pa.array([{"bytes": each, "path": "x.png"} for each in contents], kind)
        return pa.array(contents, kind)

    columns = {
        "name": pa.array([str(n) for n in numbers]),
        "image": pictures([PHOTO for _ in numbers]),
        "label": pictures([png(MASKS[n]) for n in numbers]),
        "sound": pictures([b"1" for _ in numbers]),
    }
    info = json.dumps({"info": {"features": FEATURES}})
    found = pa.table(columns).replace_schema_metadata({"huggingface": info})
    for name, column in more.items():
        found = found.set_column(found.schema.get_field_index(name), name, column)
    return found


def saved(folder: Path, content: pa.Table, rows: int = 10, **state: Any) -> Path:
    """What `save_to_disk` writes."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "data-00000-of-00001.arrow"
    with (
        pa.OSFile(str(folder / name), "wb") as file,
        pa.ipc.new_stream(file, content.schema) as out,
    ):
        out.write_table(content, max_chunksize=rows)
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))
    state = {"_data_files": [{"filename": name}], "_split": "train", **state}
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def parquet(path: Path, content: pa.Table, rows: int = 20) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(content, path, row_group_size=rows)
    return path


def splits(source: Path, kind: str) -> Path:
    if kind == "arrow":
        for split, numbers in (("train", range(40)), ("validation", range(40, 50))):
            saved(source / split, table(numbers))
        (source / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    elif kind == "hub":
        parquet(source / "data/train-00000-of-00002.parquet", table(range(25)))
        parquet(source / "data/train-00001-of-00002.parquet", table(range(25, 40)))
        parquet(source / "data/validation-00000-of-00001.parquet", table(range(40, 50)))
    else:
        parquet(source / "train/0.parquet", table(range(40), pa.binary()), rows=1000)
        parquet(source / "validation/0.parquet", table(range(40, 50), pa.large_binary()))
    return source


@pytest.mark.parametrize("kind", ["arrow", "hub", "folders"])
def test_it_is_read(tmp_path: Path, kind: str) -> None:
    found = hugging_face.read(splits(tmp_path, kind), Options(void=(3,)))
    items = by_id(found.items)
    assert len(items) == 50
    for number in (0, 24, 25, 39, 40, 49, 3):
        split, row = ("train", number) if number < 40 else ("validation", number - 40)
        item = items[f"{split}/{row:06d}"]
        assert item.split == {"train": "train", "validation": "val"}[split]
        labels = item.read()
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(labels, MASKS[number])
        assert callable(item.image)
        assert item.image() == PHOTO
    assert (found.names, found.void, found.colours) == (None, {3}, False)
    assert found.notes == ("images are the column 'image', label maps the column 'label'",)
    assert hugging_face.recognise(tmp_path, NOTHING)


@pytest.mark.parametrize("kind", ["arrow", "hub"])
def test_rows_in_any_order_and_from_threads(tmp_path: Path, kind: str) -> None:
    items = list(hugging_face.read(splits(tmp_path, kind), NOTHING).items)
    numbers = list(range(50)) * 2
    random.Random(0).shuffle(numbers)
    with ThreadPoolExecutor(4) as pool:
        for number, labels in zip(
            numbers, pool.map(lambda n: items[n].read(), numbers), strict=True
        ):
            np.testing.assert_array_equal(labels, MASKS[number])


def test_rows_in_order_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = hugging_face.read(splits(tmp_path, "hub"), NOTHING).items
    begun, batches = [], hugging_face._batches
    monkeypatch.setattr(
        hugging_face, "_batches", lambda *given: begun.append(given) or batches(*given)
    )
    for item in items:
        item.read()
        assert callable(item.image)
        item.image()
    assert len(begun) == 3


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["save_to_disk", "one split", "parquet"])
def test_it_reads_what_datasets_writes(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        image=datasets.Image(), annotation=datasets.Image(), scene=datasets.Value("string")
    )
    photos = [save(tmp_path / f"{n}.png", photo(6, 8)) for n in range(5)]
    whole = datasets.Dataset.from_dict(
        {
            "image": [str(path) for path in photos],
            "annotation": [{"bytes": png(mask), "path": None} for mask in MASKS[:5]],
            "scene": ["x"] * 5,
        },
        features=features,
    )
    source = tmp_path / "source"
    if kind == "save_to_disk":
        both = {"train": whole.select([4, 0, 2]), "test": whole.select([1])}
        datasets.DatasetDict(both).save_to_disk(source)
        expected = {"train/000000": 4, "train/000001": 0, "train/000002": 2, "test/000000": 1}
    elif kind == "one split":
        whole.save_to_disk(source, num_shards=2)
        expected = {f"all/{n:06d}": n for n in range(5)}
    else:
        source.mkdir()
        whole = whole.map(lambda row: {"image": {"bytes": PHOTO, "path": None}})
        whole.cast_column("image", datasets.Image()).to_parquet(source / "test.parquet")
        expected = {f"test/{n:06d}": n for n in range(5)}
    for path in photos:
        path.unlink()
    items = by_id(hugging_face.read(source, NOTHING).items)
    assert items.keys() == expected.keys()
    for id, number in expected.items():
        np.testing.assert_array_equal(items[id].read(), MASKS[number])
        image = items[id].image
        assert callable(image)
        assert image() == PHOTO


def test_columns_are_asked_for(tmp_path: Path) -> None:
    content = table(range(3))
    parquet(tmp_path / "a.parquet", content.append_column("depth", content["image"]))
    # Without what datasets says of columns, all pictures are the same.
    parquet(tmp_path / "b/a.parquet", content.rename_columns(["name", "left", "right", "sound"]))
    with pytest.raises(UserError, match=r"--columns IMAGE,MASK; .*'left, right, sound'"):
        hugging_face.read(tmp_path / "b", NOTHING)
    with pytest.raises(UserError, match=r"--columns IMAGE,MASK"):
        hugging_face.read(tmp_path / "b", Options(columns=("left", "name")))
    found = hugging_face.read(tmp_path / "b", Options(columns=("left", "right")))
    np.testing.assert_array_equal(found.items[1].read(), MASKS[1])


def test_other_tables_are_not_recognised(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", pa.table({"x": [1], "image": [b"1"]}))
    assert hugging_face.recognise(tmp_path, NOTHING) is None
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    assert hugging_face.recognise(tmp_path, NOTHING) is None
    (tmp_path / "state.json").write_text("{}")
    assert hugging_face.recognise(tmp_path, NOTHING) is None
    with pytest.raises(UserError, match="no dataset saved by save_to_disk and no parquet file"):
        hugging_face.read(save(tmp_path / "b/a.png").parent, NOTHING)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"_data_files": [{"filename": "../../x.arrow"}]}, "leaves"),
        ({"_data_files": 5}, "state.json is damaged"),
        ({"_data_files": [{"filename": "lost.arrow"}]}, "lost.arrow: unreadable table"),
        ({"_indices_data_files": [{"filename": "x"}]}, "a selection of rows"),
    ],
)
def test_wrong_folders_are_refused(tmp_path: Path, state: dict[str, Any], message: str) -> None:
    saved(tmp_path, table(range(3)), **state)
    with pytest.raises(UserError, match=message):
        hugging_face.read(tmp_path, NOTHING)


def test_rows_without_a_picture_are_named(tmp_path: Path) -> None:
    save(tmp_path / "images/a.png", MASKS[7])
    paths = [None, "images/a.png", "../a.png", "lost.png"]
    masks = pa.array([{"bytes": None, "path": path} for path in paths], PICTURE)
    items = hugging_face.read(saved(tmp_path, table(range(4), label=masks)), NOTHING).items
    np.testing.assert_array_equal(items[1].read(), MASKS[7])
    for row, message in (
        (0, "row 0: no picture in column 'label'"),
        (2, "leaves"),
        (3, "lost.png"),
    ):
        with pytest.raises(UserError, match=message):
            items[row].read()


def test_pictures_that_are_no_masks_are_named(tmp_path: Path) -> None:
    content = table(range(2))
    parquet(tmp_path / "train.parquet", content.set_column(2, "label", content["image"]))
    (item, _) = hugging_face.read(tmp_path, NOTHING).items
    with pytest.raises(
        BadImageError, match=r"train\.parquet: row 0, column 'label': .*one channel"
    ):
        item.read()


@pytest.mark.parametrize("kind", ["arrow", "hub"])
def test_damaged_tables_are_named(tmp_path: Path, kind: str) -> None:
    splits(tmp_path, kind)
    path = next(iter(sorted([*tmp_path.rglob("*.arrow"), *tmp_path.rglob("*.parquet")])))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadImageError, match=rf"{path.name}: unreadable table"):
        hugging_face.read(tmp_path, NOTHING)


def test_tables_of_other_columns_are_refused(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", table(range(2)))
    parquet(tmp_path / "b.parquet", table(range(2)).drop(["label"]))
    with pytest.raises(UserError, match=r"b\.parquet: no column of images 'label'"):
        hugging_face.read(tmp_path, NOTHING)


def test_two_datasets_are_not_one(tmp_path: Path) -> None:
    for folder in ("full", "small"):
        parquet(tmp_path / folder / "train-00000-of-00001.parquet", table(range(2)))
    with pytest.raises(UserError, match=r"full and .*small both hold 'train'"):
        hugging_face.read(tmp_path, NOTHING)


def test_names_of_splits_name_no_other_folder(tmp_path: Path) -> None:
    found = hugging_face.read(saved(tmp_path, table(range(2)), _split="../x"), NOTHING)
    assert [item.id for item in found.items] == ["all/000000", "all/000001"]
