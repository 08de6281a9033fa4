"""Stages: keys, reuse, and runs that die half way."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhs.config import Config
from lhs.engine import graph
from lhs.engine.cache import SUCCESS, Stages
from lhs.engine.stage import stage_key
from lhs.engine.storage import Storage
from lhs.errors import UserError
from lhs.loading import load_config
from tests.engine.conftest import declared, isolated, pretend

VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4), st.floats(0, 1))
SETTINGS = st.dictionaries(
    st.text(max_size=3), st.one_of(VALUES, st.lists(VALUES, max_size=3)), max_size=4
)
INPUTS = st.dictionaries(
    st.sampled_from(["scenes", "samples", "model"]), st.text("0123456789abcdef")
)
NAMES = st.sampled_from(["scenes", "samples", "model"])
VERSIONS = st.integers(1, 4)
PARTS = st.tuples(NAMES, VERSIONS, SETTINGS, INPUTS)


def canonical(tree: Any) -> str:
    return json.dumps(tree, sort_keys=True)


@given(PARTS, PARTS)
def test_key_is_that_of_its_parts_only(a: tuple[Any, ...], b: tuple[Any, ...]) -> None:
    same = canonical(a) == canonical(b)
    assert (stage_key(*a) == stage_key(*b)) is same


@given(NAMES, VERSIONS, SETTINGS, INPUTS)
def test_key_forgets_order_and_follows_the_version(
    name: str, version: int, settings: dict[str, Any], inputs: dict[str, str]
) -> None:
    key = stage_key(name, version, settings, inputs)
    turned = dict(reversed(settings.items())), dict(reversed(inputs.items()))
    assert stage_key(name, version, *turned) == key
    assert stage_key(name, version + 1, settings, inputs) != key


def test_key_takes_no_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        stage_key("samples", 1, {"rho": float("nan")}, {})


@pytest.mark.parametrize(
    ("recipe", "keys"),
    [
        ("siftflow-overfeat-baseline", ["e4ef55d9c920a163", None, None, "b5535720d90043cf"]),
        ("siftflow-overfeat-s-lc",
         ["e4ef55d9c920a163", "bb43c153fd13f964", "f998b05c2a4c91bb", "5dcc5e503dc2c787"]),
        ("siftflow-overfeat-s-sn",
         ["e4ef55d9c920a163", None, "32b039566e48ea4b", "619c8992bf079f6d"]),
        ("siftflow-overfeat-h-lc",
         ["e4ef55d9c920a163", "bb43c153fd13f964", "f998b05c2a4c91bb", "afcf5ed9b0c5f0cd"]),
        ("siftflow-fcn16s-h-lc",
         ["e4ef55d9c920a163", "bb43c153fd13f964", "f998b05c2a4c91bb", "260d7f668468ef27"]),
    ],
)  # fmt: skip
def test_keys_stay_what_they_were(
    recipe: str, keys: list[str | None], checked_stages: Stages
) -> None:
    """Finished results are found again; who changes a key on purpose raises a version."""
    settings = ["hierarchy.backend=sklearn", "network.weights=none", "train.gpu=false"]
    config = load_config(recipe, settings)
    stages = checked_stages
    hierarchy = stages.key(graph.HIERARCHY, config).digest
    if graph.has_hierarchy(config):
        # Its digest is its key here, as it was where the keys above were written down.
        pretend(stages, graph.HIERARCHY, config, digest=hierarchy)
    digests = {
        stage.name: key.digest[:16]
        for stage, its_config, key in stages.needed(graph.MODEL, config)
        if its_config == config or stage.name != "model"
    }
    assert "pseudo_labels" not in digests
    names = ("samples", "histograms", "hierarchy", "model")
    assert [digests.get(name) for name in names] == keys


class Builder:
    """Writes one file, counts its calls."""

    facts: ClassVar[dict[str, Any]] = {"samples": 3, "per": {"a": [1, 2.5, None]}, "text": "é"}

    def __init__(self, storage: Storage) -> None:
        self.storage, self.calls = storage, 0

    def __call__(self, path: str) -> dict[str, Any]:
        self.calls += 1
        self.storage.write(f"{path}/rows/part", b"rows")
        return self.facts


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "results"))


@pytest.fixture
def build(storage: Storage) -> Builder:
    builder = Builder(storage)
    storage.make_folder(storage.path())

    def call(path: str) -> dict[str, Any]:
        storage.make_folder(f"{path}/rows")
        return builder(path)

    call.builder = builder  # type: ignore[attr-defined]
    return call  # type: ignore[return-value]


def folders(storage: Storage, name: str = "samples") -> list[str]:
    return storage.list(storage.path("stages", name))


def test_built_once_then_reused_with_its_facts(storage: Storage, build: Any) -> None:
    first = Stages(storage).make(declared(build, {"size": 1}, {"scenes": "a"}), Config())
    stages = Stages(storage)
    second = stages.make(declared(build, {"size": 1}, {"scenes": "a"}), Config())
    assert build.builder.calls == 1
    assert (first.reused, second.reused) == (False, True)
    assert second.facts == first.facts == Builder.facts
    assert (second.key, second.path, second.seconds) == (first.key, first.path, first.seconds)
    assert stages.done == [second]
    assert stages.seconds() == {"samples": first.seconds}
    assert storage.read(f"{second.path}/rows/part") == b"rows"
    success = storage.read_json(f"{second.path}/{SUCCESS}")
    assert (success["settings"], success["inputs"]) == ({"size": 1}, {"scenes": "a"})
    assert folders(storage) == [first.key]
    stages.make(declared(build, {"size": 2}, {"scenes": "a"}), Config())
    assert build.builder.calls == 2


def test_a_build_that_raises_leaves_nothing(storage: Storage, build: Any) -> None:
    def fail(path: str) -> dict[str, Any]:
        build(path)
        raise UserError("no such thing")

    with pytest.raises(UserError, match="no such thing"):
        Stages(storage).make(declared(fail), Config())
    assert folders(storage) == []
    assert Stages(storage).find(declared(build), Config()) is None
    assert not Stages(storage).make(declared(build), Config()).reused


@pytest.mark.parametrize("content", [b'{"stage": "sam', b'{"stage": "samples"}', b"null", b"\xff"])
def test_a_damaged_success_is_told_and_the_stage_made_again(
    storage: Storage, build: Any, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = Stages(storage).make(declared(build), Config()).path
    storage.write(f"{path}/{SUCCESS}", content)
    assert Stages(storage).find(declared(build), Config()) is None
    with caplog.at_level("INFO", "lhs"):
        result = Stages(storage).make(declared(build), Config())
    assert (result.reused, build.builder.calls) == (False, 2)
    assert f"samples: {path}/{SUCCESS} is damaged: made again" in caplog.messages
    assert Stages(storage).make(declared(build), Config()).reused


KILLED = """
import os, signal, sys
from lhs.config import Config
from lhs.engine import cache as stages
from lhs.engine.storage import Storage

storage = Storage(sys.argv[1])
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def build(work, path):
    storage.write(path + "/part", b"half")
    if sys.argv[2] == "build":
        die()
    return {}
if sys.argv[2] == "rename":
    Storage.write_json = die
stages.Stages(storage).make(stages.Stage(name="samples", build=build), Config())
"""


@pytest.mark.thorough
@pytest.mark.parametrize("moment", ["build", "rename"])
def test_a_killed_run_leaves_nothing_that_counts(storage: Storage, build: Any, moment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, storage.root, moment], env=isolated(), check=False
    )
    assert done.returncode == -9
    key = stage_key("samples", 1, {}, {})
    left = folders(storage)
    assert len(left) == 1
    assert (left[0] == key) is (moment == "rename")
    assert Stages(storage).find(declared(build), Config()) is None
    result = Stages(storage).make(declared(build), Config())
    assert not result.reused
    assert storage.list(result.path) == [SUCCESS, "rows"]
    assert Stages(storage).find(declared(build), Config()) is not None


def test_another_run_that_was_faster_wins(
    storage: Storage, build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an object store, which has no locks."""
    monkeypatch.setattr(Storage, "locked", lambda *_: contextlib.nullcontext())

    def slow(path: str) -> dict[str, Any]:
        Stages(storage).make(declared(build), Config())
        return build(path)

    result = Stages(storage).make(declared(slow), Config())
    assert folders(storage) == [result.key]
    assert Stages(storage).find(declared(build), Config()) is not None


@pytest.mark.parametrize("damaged", [False, True])
def test_what_another_run_made_while_this_one_waited_is_taken(
    storage: Storage, build: Any, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    if damaged:
        path = Stages(storage).make(declared(build), Config()).path
        storage.write(f"{path}/{SUCCESS}", b"null")
    before, waited = build.builder.calls, []

    def locked(self: Storage, *names: str) -> Any:
        if not waited:
            waited.append(names)
            Stages(storage).make(declared(build), Config())
        return contextlib.nullcontext()

    monkeypatch.setattr(Storage, "locked", locked)
    assert Stages(storage).make(declared(build), Config()).reused
    assert build.builder.calls == before + 1


def test_path_and_uri_are_the_same_storage(storage: Storage, build: Any) -> None:
    as_uri = Storage(f"file://{storage.root}")
    assert as_uri.root == storage.root
    made = Stages(as_uri).make(declared(build), Config())
    assert Stages(storage).make(declared(build), Config()).path == made.path
    assert build.builder.calls == 1
