"""Recipes and settings of every kind become a configuration, or one clear message."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lhs.config import Config
from lhs.loading import load_config, recipes
from tests.fuzz.guard import edited, edits, ends_well, fuzzed

MEGABYTES = 50
KEYS = sorted(Config().dotted())
TEXTS = [path.read_bytes() for path in recipes().values()]

pieces = st.sampled_from(
    ["\n", "\n  ", "\n    ", ": ", "- ", "? ", "[", "]", "{", "}", ", ", "&a ", "*a", "<<: ",
     "!!int ",
     "!!float ", "!!binary ", "!!timestamp ", "!!set ", "!!omap ", "!!pairs ", "!!null ", "!x ",
     "|\n",
     ">\n", "'", '"', "#", "%YAML 1.1\n", "---\n", "...\n", "\t", "0x", "1:2:3", "1e400", "-.inf",
     ".nan", "2001-99-99", "9" * 5000, "0b" + "1" * 3000, "[" * 50, "{a: " * 50, "\\x00", "\\ud800",
     "true", "null", "~", "x" * 3000, "=", "\u2028", "\x85", "é", "a: [1, 2]\n"]
    + [part for key in KEYS for part in key.split(".")]
) | st.text(max_size=5)  # fmt: skip
texts = st.lists(pieces, max_size=15).map("".join)
keys = st.sampled_from(KEYS) | st.lists(pieces, max_size=4).map("".join)


def check(recipe: str, settings: list[str]) -> None:
    config = ends_well(lambda: load_config(recipe, settings), MEGABYTES)
    if config is not None:
        text = config.yaml()
        text.encode()
        assert Config.model_validate(yaml.safe_load(text)) == config


@fuzzed(40)
@given(texts)
def test_yaml(place: Path, text: str) -> None:
    path = place / "recipe.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    check(str(path), [])


@pytest.mark.thorough
@fuzzed(40)
@given(st.sampled_from(TEXTS), edits)
def test_damaged_recipes(place: Path, text: bytes, changes: list) -> None:
    path = place / "recipe.yaml"
    path.write_bytes(edited(text, changes))
    check(str(path), [])


@fuzzed(40)
@given(st.lists(st.tuples(keys, texts).map("=".join) | texts, min_size=1, max_size=3))
def test_settings(settings: list[str]) -> None:
    check("demo", settings)


@fuzzed(20)
@given(st.text() | texts)
def test_names(name: str) -> None:
    check(name, [])
