"""Reads recipes and single settings into a `Config`; every mistake becomes one clear line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from lhs.config import Config
from lhs.errors import UserError


def recipes() -> dict[str, Path]:
    """The packaged recipes: name to file."""
    folder = Path(str(resources.files("lhs") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_config(recipe: str = "demo", settings: Sequence[str] = ()) -> Config:
    """Read a recipe and put single settings over it.

    Parameters
    ----------
    recipe
        The name of a packaged recipe, or the path of a YAML file.
    settings
        `key=value` texts, the key dotted, the value in YAML.

    Raises
    ------
    UserError
        For an unknown recipe, an unknown key or a value out of range.
    """
    known = recipes()
    path = known.get(recipe) or Path(recipe).expanduser()
    if recipe not in known and not path.is_file():
        near = difflib.get_close_matches(recipe, known, n=3)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise UserError(
            f"unknown recipe {recipe!r}: {hint}allowed are {', '.join(known)}, "
            "or the path of a YAML file"
        )
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"recipe {path}: not readable as YAML: {error}") from None
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise UserError(f"recipe {path}: found {type(tree).__name__}, allowed is a mapping of keys")
    for setting in settings:
        _put(tree, setting)
    return build_config(tree, source=f"recipe {recipe}")


def build_config(tree: Mapping[str, Any], source: str = "configuration") -> Config:
    """Validate a nested mapping; every mistake becomes one line of a UserError."""
    try:
        return Config.model_validate(_merged(Config().model_dump(), tree))
    except ValidationError as error:
        told: dict[str, list[str]] = {}
        for problem in error.errors():
            found, allowed = _explain(dict(problem))
            told.setdefault(found, []).append(allowed)
        lines = [f"  {found}: {' or '.join(allowed)}" for found, allowed in told.items()]
        raise UserError("\n".join([f"{source}:", *lines])) from None


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(below, value) if both else value  # type: ignore[arg-type]
    return merged


def _put(tree: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {setting}: allowed is key=value, as in hierarchy.rho=0.93")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {setting}: the value {text!r} is not readable as YAML") from None
    *parents, last = key.strip().split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(f"--set {setting}: {parent!r} is a single setting, not a section")
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
        return f"unknown key {name!r}", f"allowed are {', '.join(allowed)}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    found = name if isinstance(problem["input"], Mapping) else f"{name} = {problem['input']!r}"
    return found, f"{message[0].lower()}{message[1:]}"
