"""Reads recipes and single settings into a `Config`; every mistake becomes one clear line."""

from __future__ import annotations

import copy
import difflib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lhs.config import Config, dotted_names
from lhs.config.unused import unused
from lhs.errors import UserError
from lhs.untrusted import MAX_DEPTH, MAX_YAML, parse_yaml, shortened

logger = logging.getLogger("lhs")

MAX_MISTAKES = 20
"""Mistakes listed in one message."""
MAX_NEAREST = 8
"""Settings that a message suggests for an unknown one."""
STDIN = "-"
"""A recipe that is read from the standard input."""
EXTENDS = "extends"
"""The key of a recipe that names the one it changes."""
PATHS = (
    "storage", "data.root", "data.folder.path", "hierarchy.file", "hierarchy.subclass_maps",
    "network.weights_file",
)  # fmt: skip
"""Settings that name files and folders: relative ones in a recipe's file start at its folder."""
REMOVED = {"train.features_gb": "features of frozen layers are computed at every step"}
"""Settings of earlier versions that recipes and stored runs may have, and what holds now."""
RENAMED = {
    "evaluation.every": "evaluation.stride",
    "train.solver": "train.optimizer",
    "unlabelled.every": "unlabelled.stride",
    "unlabelled.train_on_filled": "unlabelled.train_on_pseudo_labels",
} | {
    name.removesuffix("enabled") + "run": name
    for name in Config().dotted()
    if name.endswith(".enabled")
}
"""Names of settings in earlier versions, and their names now."""
SCALE_JITTER = "train.scale_jitter"
"""In earlier versions crops were scaled by a factor within 1 +- this."""
RENAMED_VALUES = {("unlabelled.mode", "filled"): "pseudo_labels"}
"""Settings and their values in earlier versions, and these values now."""
EARLIER = {"network": {"head": "pyramid"}}
"""Settings that stored runs of earlier versions lack, and what these did."""


def recipes() -> dict[str, Path]:
    """The packaged recipes: name to file."""
    folder = Path(str(resources.files("lhs") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_config(recipe: str = "demo", settings: Sequence[str] = ()) -> Config:
    """Read a recipe and put single settings over it.

    Parameters
    ----------
    recipe
        The name of a packaged recipe, the path of a YAML file, or `-` for YAML from the standard
        input. With `extends: RECIPE` in it, its
        settings are put over those of another, which extends none itself. Relative paths in a file
        start at the file's folder.
    settings
        `key=value` texts, the key dotted, the value in YAML; relative paths start at the current
        folder.

    Raises
    ------
    UserError
        For an unknown recipe, an unknown key or a value out of range.
    """
    path = recipe_path(recipe)
    tree = _read_recipe(path)
    if EXTENDS in tree:
        tree = _extended(path, tree)
    given = [setting.partition("=")[0].strip() for setting in settings]
    for old in RENAMED.keys() & set(given):
        if RENAMED[old] in given:
            raise UserError(f"--set {old}: this is the old name of {RENAMED[old]}, also given")
    for setting in settings:
        put_setting(tree, setting)
    tree, warnings = _updated(tree, f"recipe {recipe}")
    for warning in warnings:
        _warn(warning)
    config = build_config(tree, source=f"recipe {recipe}")
    # Not a rule of `Config`: stored runs of earlier versions may break it.
    if config.train.sampling == "balanced" and not config.network.patches:
        raise UserError(
            f"train.sampling = 'balanced' has no effect on network.name = {config.network.name}, "
            "which trains on whole images; for rare classes set train.class_weights=inverse_root"
        )
    return config


def refuse_unused(settings: Sequence[str], configs: Sequence[Config]) -> None:
    """Refuse single settings without an effect on any of the configurations made with them.

    Not for those in recipes: these are for several networks and strategies.

    Parameters
    ----------
    settings
        As of `load_config`, which has accepted them.
    configs
        The configuration, or those of all trials of a sweep.

    Raises
    ------
    UserError
        With what makes each such setting one without effect.
    """
    tree: dict[str, Any] = {}
    for setting in settings:
        put_setting(tree, setting)
    given, _ = _updated(tree, "--set")
    found = [unused(config) for config in configs]
    lines = []
    for name in dotted_names(given):
        reasons = [
            next((why for key, why in one.items() if f"{name}.".startswith(f"{key}.")), None)
            for one in found
        ]
        if reasons and None not in reasons:
            lines.append(f"--set {name}: it has no effect with {reasons[0]}; leave it out")
    if lines:
        raise UserError("\n".join(lines))


@cache
def _warn(message: str) -> None:
    # Once per process: the trials of a sweep read the same recipe again and again.
    logger.warning(message)


def current_name(key: str) -> str:
    """The name of a setting now; a warning if it is given by its name in an earlier version."""
    if key in RENAMED:
        _warn(_rename_warning(key))
    return RENAMED.get(key, key)


def _updated(tree: Mapping[str, Any], source: str) -> tuple[dict[str, Any], list[str]]:
    """A tree without names and values of earlier versions, and a warning for each of them.

    Raises
    ------
    UserError
        If a setting is given by its old and its new name.
    """
    updated, warnings = copy.deepcopy(dict(tree)), []
    for name, now in REMOVED.items():
        section, key = _section(updated, name)
        if section.pop(key, None) is not None:
            warnings.append(f"{name} is no longer a setting: {now}")
    for old, new in RENAMED.items():
        section, key = _section(updated, old)
        if key not in section:
            continue
        name = new.rpartition(".")[2]
        if name in section:
            raise UserError(f"{source}: {old} is the old name of {new}: found both, allowed is one")
        section[name] = section.pop(key)
        warnings.append(_rename_warning(old))
    section, key = _section(updated, SCALE_JITTER)
    jitter = section.get(key)
    if isinstance(jitter, int | float):
        del section[key]
        section |= {"scale_min": 1 - jitter, "scale_max": 1 + jitter}
        warnings.append(
            f"{SCALE_JITTER}={jitter:g} is now train.scale_min={1 - jitter:g} and train.scale_max="
            f"{1 + jitter:g}; the next release will not read the old name"
        )
    for (name, old), value in RENAMED_VALUES.items():
        section, key = _section(updated, name)
        if section.get(key) == old:
            section[key] = value
            warnings.append(
                f"{name}={old} is now {name}={value}; the next release will not read the old value"
            )
    return updated, warnings


def _rename_warning(old: str) -> str:
    return f"{old} is now called {RENAMED[old]}; the next release will not read the old name"


def _section(tree: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """The section that a setting is in, empty if the tree has none, and its key there."""
    *parents, key = name.split(".")
    node: Any = tree
    for parent in parents:
        node = node.get(parent) if isinstance(node, dict) else None
    return (node if isinstance(node, dict) else {}), key


def recipe_path(recipe: str, folder: Path | None = None) -> Path:
    """The file of a recipe by its name or path; relative paths start at `folder`, if given.

    Raises
    ------
    UserError
        If there is none, with the names that are like it.
    """
    if recipe == STDIN and folder is None:
        return Path("/dev/stdin")
    known = recipes()
    if recipe in known:
        return known[recipe]
    path = Path(os.path.expanduser(recipe))
    if folder is not None:
        path = folder / path
    if recipe and os.path.isdir(path):
        raise UserError(f"recipe {recipe}: found a folder, needed is a YAML file")
    if not os.path.isfile(path):
        near = difflib.get_close_matches(recipe, known, n=3)
        near = near or difflib.get_close_matches(path.stem, known, n=3)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise UserError(
            f"unknown recipe {shortened(repr(recipe))}: {hint}allowed are {', '.join(known)}, "
            "or the path of a YAML file"
        )
    return path


def _read_recipe(path: Path) -> dict[str, Any]:
    try:
        tree = parse_yaml(_content(path).decode("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"recipe {path}: not readable as YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"recipe {path}: found {type(tree).__name__}, allowed is a mapping of keys")
    updated, warnings = _updated(tree, f"recipe {path}")
    for warning in warnings:
        _warn(warning)
    if path != recipe_path(STDIN):
        _start_paths_at(path.parent, updated)
    return updated


def _start_paths_at(folder: Path, tree: dict[str, Any]) -> None:
    for name in PATHS:
        section, key = _section(tree, name)
        value = section.get(key)
        # Neither URIs nor the home folder; what is no path is refused later.
        if isinstance(value, str) and value[:1] not in ("", "~") and "\0" not in value:
            section[key] = value if "://" in value else os.path.abspath(folder / value)


def _content(path: Path) -> bytes:
    # Reading a little more than is allowed is enough to refuse a file of any size.
    if path == recipe_path(STDIN):
        return _stdin()
    with path.open("rb") as file:
        return file.read(4 * MAX_YAML + 1)


@cache
def _stdin() -> bytes:
    # Once: the trials of a sweep read the same recipe again and again.
    return sys.stdin.buffer.read(4 * MAX_YAML + 1)


def _extended(path: Path, tree: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's tree over that of the one it extends."""
    name = tree[EXTENDS]
    if not isinstance(name, str):
        raise UserError(
            f"recipe {path}: {EXTENDS} = {shortened(repr(name))}, allowed is the name or path of "
            "one recipe"
        )
    try:
        base_path = recipe_path(name, path.parent)
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

    Stored configurations of earlier versions are read too: settings are renamed or left out.
    """
    updated, _ = _updated(tree, source)
    try:
        return Config.model_validate(_merged(Config().model_dump(), updated))
    except ValidationError as error:
        explained: dict[str, list[str]] = {}
        problems = error.errors(include_url=False)
        for problem in problems[:MAX_MISTAKES]:
            found, allowed = _explain(dict(problem))
            explained.setdefault(found, []).append(allowed)
        lines = [f"  {found}: {' or '.join(allowed)}" for found, allowed in explained.items()]
        if len(problems) > MAX_MISTAKES:
            lines.append(f"  and {len(problems) - MAX_MISTAKES} more")
        raise UserError("\n".join([f"{source}:", *lines])) from None


def stored_config(tree: Mapping[str, Any]) -> Config:
    """The configuration of a stored run, as `build_config`.

    A setting that its version did not know has the value that it stands for there, where that is
    not today's default.
    """
    return build_config(_merged(EARLIER, tree))


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(below, value) if both else value  # type: ignore[arg-type]
    return merged


def put_setting(tree: dict[str, Any], setting: str) -> None:
    """Put a `key=value` text, as in `--set`, into nested settings.

    Raises
    ------
    UserError
        If it is none, or its key leads through a single setting.
    """
    shown = shortened(setting)
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {shown}: allowed is key=value, as in hierarchy.rho=0.93")
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise UserError(
            f"--set {shown}: the value {shortened(repr(text))} is not readable as YAML: {error}"
        ) from None
    *parents, last = current_name(key.strip()).split(".")
    if len(parents) > MAX_DEPTH:
        raise UserError(f"--set {shown}: unknown key, more than {MAX_DEPTH} sections deep")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(
                f"--set {shown}: {shortened(parent)!r} is a single setting, not a section"
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
        inner = problem["input"]
        while isinstance(inner, Mapping) and inner:
            key, inner = next(iter(inner.items()))
            name = f"{name}.{key}"
        near = _nearest(name, known)
        if near == [name] and "." in location[-1]:
            *sections, key = name.split(".")
            nested = ": {".join([*sections, f"{key}: ..."]) + "}" * len(sections)
            return f"unknown key {shortened(name)!r}", f"allowed in a recipe is {nested}"
        if near:
            return f"unknown key {shortened(name)!r}", f"did you mean {' or '.join(near)}?"
        section = name.rpartition(".")[0]
        allowed = [key for key in known if key.rpartition(".")[0] == section] or known
        return f"unknown key {shortened(name)!r}", f"allowed are {', '.join(allowed)}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    value = shortened(repr(problem["input"]))
    found = name if isinstance(problem["input"], Mapping) else f"{name} = {value}"
    message = shortened(message, 1000)
    return found, f"{message[0].lower()}{message[1:]}"


def _nearest(name: str, known: Sequence[str]) -> list[str]:
    """Settings that an unknown name may mean, by their full names, the likeliest first."""
    last = name.rpartition(".")[2]
    ends = {key: key.rpartition(".")[2] for key in known}
    near = difflib.get_close_matches(last, set(ends.values()), n=1, cutoff=0.75)
    if not near:
        return difflib.get_close_matches(name, known, n=3, cutoff=0.75)
    same = [key for key, end in ends.items() if end == near[0]]
    return difflib.get_close_matches(name, same, n=MAX_NEAREST, cutoff=0)
