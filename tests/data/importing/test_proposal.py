"""Proposed settings follow the rules that docs/datasets.md states."""

from __future__ import annotations

from pathlib import Path

import pytest

from lhs.data.importing.formats import FORMATS, OF_FORMATS
from lhs.data.importing.proposal import proposed
from lhs.loading import load_config
from lhs.names import IMPORT_FORMATS

GIB = 2**30


def settings(sizes: list[tuple[int, int]], images: int, memory: int = 64 * GIB) -> dict[str, str]:
    return {name: value for name, value, _ in proposed(sizes, images, 20, memory)}


def test_they_are_those_of_the_packaged_recipes_for_their_data() -> None:
    """SIFTFlow (2488 of 256 x 256) and Stanford Background (572 of about 320 x 240)."""
    for recipe, sizes, images in (
        ("siftflow-lite-s-lc", [(256, 256)], 2488),
        ("stanford-lite-s-lc", [(240, 320)], 572),
    ):
        expected = load_config(recipe).dotted()
        found = settings(sizes, images)
        assert {name: str(expected[name]) for name in found} == found


def test_large_images_are_scaled_down() -> None:
    assert "data.long_side" not in settings([(1024, 768)], 100)
    found = settings([(1024, 2048)], 2975)
    assert found["data.long_side"] == "1024"
    assert (found["train.crop_height"], found["train.crop_width"]) == ("448", "512")


def test_small_images_and_few_of_them() -> None:
    found = settings([(20, 40)], 3)
    assert (found["train.crop_height"], found["train.crop_width"]) == ("32", "32")
    assert found["train.sequential.class_all_layers.epochs"] == "100"
    assert found["train.baseline.all_layers.epochs"] == "200"


@pytest.mark.parametrize(("memory", "batch"), [(64 * GIB, 8), (GIB // 2, 4), (1, 2)])
def test_the_batch_fits_the_memory(memory: int, batch: int) -> None:
    assert settings([(256, 256)], 100, memory)["train.batch_size"] == str(batch)


def test_the_recipe_is_the_papers() -> None:
    config, lite = load_config("folder"), load_config("siftflow-lite-s-lc")
    assert config.data.dataset == "folder"
    assert (config.hierarchy.rho, config.hierarchy.region) == (0.93, 129)
    assert config.train == lite.train
    assert config.hierarchy == lite.hierarchy


def test_formats_and_their_names_agree() -> None:
    names = [name for name, _ in FORMATS]
    assert names == [name for name in IMPORT_FORMATS if name in names]
    assert {name for users in OF_FORMATS.values() for name in users} <= set(IMPORT_FORMATS)
    for _, module in FORMATS:
        assert module.recognise.__annotations__["return"] == "str | None"
        assert Path(module.__file__ or "").parent.name == "importing"
