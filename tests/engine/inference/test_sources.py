"""Which images a person means, and what their results are called."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lhs.engine.inference.sources import Source, find_sources
from lhs.errors import BadImageError, UserError
from tests.data.builders import noise_image, save_image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b/c.PNG", "b/d/e.webp", "b/.hidden.png"):
        save_image(tmp_path / "photos" / name)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


def names(given: list[str]) -> list[str]:
    return [source.name for source in find_sources(given)]


def test_a_folder_gives_all_images_below_it(photos: Path) -> None:
    assert names([str(photos)]) == ["a", "b/c", "b/d/e"]
    assert names([str(photos / "b")]) == ["c", "d/e"]


def test_patterns(photos: Path) -> None:
    assert names([str(photos / "*.jpg")]) == ["a"]
    assert names([str(photos / "**" / "*.[jP]*")]) == ["a", "c"]


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    path = save_image(tmp_path / "x[1].png")
    assert find_sources([str(path)]) == [Source(str(path), "x[1]")]


def test_a_uri_of_a_folder_and_of_a_file(photos: Path) -> None:
    assert names([photos.as_uri()]) == ["a", "b/c", "b/d/e"]
    (one,) = find_sources([(photos / "b" / "c.PNG").as_uri()])
    np.testing.assert_array_equal(one.read(), Source(str(photos / "b/c.PNG"), "c").read())


def test_the_same_image_twice_is_one(photos: Path) -> None:
    path = str(photos / "a.jpg")
    assert names([path, path]) == ["a"]


def test_missing_files_are_refused(photos: Path) -> None:
    there, missing = str(photos / "a.jpg"), [str(photos / f"no{n}.jpg") for n in range(7)]
    with pytest.raises(UserError, match=r"^no such file: \S+/no0\.jpg$"):
        find_sources([there, missing[0]])
    with pytest.raises(UserError, match=r"no4\.jpg and 2 more$"):
        find_sources(missing)


def test_a_missing_file_is_reported_when_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match=r"no\.jpg: image file is missing"):
        Source(str(tmp_path / "no.jpg"), "no").read()
    (missing,) = find_sources([(tmp_path / "no.jpg").as_uri()])
    with pytest.raises(BadImageError, match=r"no\.jpg"):
        missing.read()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{}/empty", "no image there"),
        ("{}/*.jpg", "no image there"),
        ("gopher://x/y.png", "allowed are files, folders"),
    ],
)
def test_mistakes(tmp_path: Path, given: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        find_sources([given.format(tmp_path)])


def test_photos_are_turned_upright(tmp_path: Path) -> None:
    pixels = noise_image(5, 12, 20)
    exif = Image.Exif()
    exif[0x0112] = 6  # To be shown turned clockwise by 90 degrees.
    for suffix in ("png", "webp"):
        path = tmp_path / f"turned.{suffix}"
        Image.fromarray(pixels).save(path, exif=exif, lossless=True)
        np.testing.assert_array_equal(Source(str(path), "x").read(), np.rot90(pixels, -1))
        np.testing.assert_array_equal(Source(path.as_uri(), "x").read(), np.rot90(pixels, -1))
