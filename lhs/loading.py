"""Reads recipes and single settings into a `Config`; every mistake becomes one clear line."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lhs.config import Config
from lhs.errors import UserError
from lhs.untrusted import MAX_DEPTH, MAX_YAML, parse_yaml, shortened

MAX_MISTAKES = 20
"""That one message tells."""
EXTENDS = "extends"
"""The key of a recipe that names the one it changes."""
REMOVED = {"train.features_gb": "features of frozen layers are computed at every step"}
"""Settings of earlier versions that recipes and stored runs may have, and what holds now."""


def recipes() -> dict[str, Path]:
    """The packaged recipes: name to file."""
    folder = Path(str(resources.files("lhs") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_config(recipe: str = "demo", settings: Sequence[str] = ()) -> Config:
    """Read a recipe and put single settings over it.

    Parameters
    ----------
    recipe
        The name of a packaged recipe, or the path of a YAML file. With `extends: RECIPE` in it, its
        settings are put over those of another, which extends none itself.
    settings
        `key=value` texts, the key dotted, the value in YAML.

    Raises
    ------
    UserError
        For an unknown recipe, an unknown key or a value out of range.
    """
    path = _recipe_path(recipe)
    tree = _read_recipe(path)
    if EXTENDS in tree:
        tree = _extended(path, tree)
    for setting in settings:
        _put(tree, setting)
    for name, now in REMOVED.items():
        section, _, key = name.partition(".")
        if isinstance(tree.get(section), dict) and key in tree[section]:
            logging.getLogger("lhs").warning("%s is no longer a setting: %s", name, now)
    return build_config(tree, source=f"recipe {recipe}")


def _recipe_path(recipe: str, beside: Path | None = None) -> Path:
    """The file of a recipe by its name or path; relative paths start at `beside`, if given."""
    known = recipes()
    if recipe in known:
        return known[recipe]
    path = Path(os.path.expanduser(recipe))
    if beside is not None:
        path = beside / path
    if not os.path.isfile(path):
        near = difflib.get_close_matches(recipe, known, n=3)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise UserError(
            f"unknown recipe {shortened(repr(recipe))}: {hint}allowed are {', '.join(known)}, "
            "or the path of a YAML file"
        )
    return path


def _read_recipe(path: Path) -> dict[str, Any]:
    try:
        # A byte more than is allowed is enough to refuse a file of any size.
        with path.open("rb") as file:
            content = file.read(4 * MAX_YAML + 1)
        tree = parse_yaml(content.decode("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"recipe {path}: not readable as YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"recipe {path}: found {type(tree).__name__}, allowed is a mapping of keys")
    return tree


def _extended(path: Path, tree: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's tree over that of the one it extends."""
    name = tree[EXTENDS]
    if not isinstance(name, str):
        raise UserError(
            f"recipe {path}: {EXTENDS} = {shortened(repr(name))}, allowed is the name or path of "
            "one recipe"
        )
    try:
        base_path = _recipe_path(name, path.parent)
        base = _read_recipe(base_path)
    except UserError as error:
        raise UserError(f"recipe {path}: {EXTENDS}: {error}") from None
    if EXTENDS in base:
        raise UserError(
            f"recipe {path}: extends {base_path}, which extends {shortened(repr(base[EXTENDS]))} "
            "itself; allowed is one level: extend that one, or write its settings out"
        )
    return _merged(base, {key: value for key, value in tree.items() if key != EXTENDS})


def build_config(tree: Mapping[str, Any], source: str = "configuration") -> Config:
    """Validate a nested mapping; every mistake becomes one line of a UserError.

    Settings that earlier versions had are left out.
    """
    merged = _merged(Config().model_dump(), tree)
    for section, _, key in (name.partition(".") for name in REMOVED):
        if isinstance(merged[section], dict):
            merged[section].pop(key, None)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        told: dict[str, list[str]] = {}
        problems = error.errors(include_url=False)
        for problem in problems[:MAX_MISTAKES]:
            found, allowed = _explain(dict(problem))
            told.setdefault(found, []).append(allowed)
        lines = [f"  {found}: {' or '.join(allowed)}" for found, allowed in told.items()]
        if len(problems) > MAX_MISTAKES:
            lines.append(f"  and {len(problems) - MAX_MISTAKES} more")
        raise UserError("\n".join([f"{source}:", *lines])) from None


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(below, value) if both else value  # type: ignore[arg-type]
    return merged


def _put(tree: dict[str, Any], setting: str) -> None:
    said = shortened(setting)
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {said}: allowed is key=value, as in hierarchy.rho=0.93")
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise UserError(
            f"--set {said}: the value {shortened(repr(text))} is not readable as YAML: {error}"
        ) from None
    *parents, last = key.strip().split(".")
    if len(parents) > MAX_DEPTH:
        raise UserError(f"--set {said}: unknown key, more than {MAX_DEPTH} sections deep")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(
                f"--set {said}: {shortened(parent)!r} is a single setting, not a section"
            )
        node = child
    node[last] = value


def _explain(problem: dict[str, Any]) -> tuple[str, str]:
    # A union's branches appear in the location behind the field's own name.
    location = [str(part) for part in problem["loc"]]
    known = list(Config().dotted())
    while location and not any(
        name == (dotted := ".".join(location)) or name.startswith(dotted + ".") for name in known
    ):
        if problem["type"] == "extra_forbidden":
            break
        location.pop()
    name = ".".join(location) or "the configuration"
    if problem["type"] == "extra_forbidden":
        near = [key for key in known if key.endswith(f".{name}")]
        near = near or difflib.get_close_matches(name, known, n=3)
        section = name.rpartition(".")[0]
        allowed = near or [key for key in known if key.rpartition(".")[0] == section] or known
        return f"unknown key {shortened(name)!r}", f"allowed are {', '.join(allowed)}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    value = shortened(repr(problem["input"]))
    found = name if isinstance(problem["input"], Mapping) else f"{name} = {value}"
    message = shortened(message, 1000)
    return found, f"{message[0].lower()}{message[1:]}"
