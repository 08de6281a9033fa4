"""What it takes to repeat a run: command, versions, commit, machine, digests."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import lhs
from lhs.engine.cache import SUCCESS
from lhs.engine.storage import Storage

OURS = ("lhs", "run.py", "__main__.py")
"""Names of the program that a person starts."""


def repeat_facts(storage: Storage, scenes: str, model: str, name: str) -> dict[str, str]:
    """Labels and texts for the report, of the folders of a run's stages `scenes` and `model`."""
    facts = storage.read_json(f"{model}/{SUCCESS}")["facts"]
    versions = {"python": platform.python_version(), **facts.get("versions", {})}
    digests = run_digests(storage, scenes, model)
    return {
        "command": f"lhs run {name.replace(' ', '-')}.yaml",
        "started as": started_as(),
        "versions": ", ".join(f"{key} {value}" for key, value in versions.items()),
        "commit": commit(),
        "machine": f"{platform.platform()}, {os.cpu_count()} CPUs",
        "trained on": facts.get("device", ""),
        **{f"digest of {key}": value for key, value in digests.items() if value},
    }


def started_as() -> str:
    """The command of this process; empty if it is none of this program's."""
    if Path(sys.argv[0]).name not in OURS:
        return ""
    return shlex.join(["lhs", *sys.argv[1:]])


def run_digests(storage: Storage, scenes: str, model: str) -> dict[str, str | None]:
    """Of data, hierarchy and first weights, by the folders of the stages `scenes` and `model`."""
    data, trained = (storage.read_json(f"{path}/{SUCCESS}") for path in (scenes, model))
    return {
        "data": data["inputs"]["dataset"],
        "hierarchy": trained["inputs"].get("hierarchy"),
        # Of the file that was named, or else of what was loaded; earlier versions kept the first.
        "weights": trained["inputs"].get("weights") or trained["facts"].get("weights"),
    }


@cache
def commit() -> str:
    """Commit of the checkout that this package is in, and whether files differ from it; empty for
    an installed package."""
    root = Path(lhs.__file__).parents[1]
    if not (root / ".git").exists():
        return ""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + (", with changes" if changed else "")
    except (OSError, subprocess.TimeoutExpired):
        return ""


def stage_paths(storage: Storage, stages: list[Mapping[str, Any]]) -> dict[str, str]:
    """Folder of each stage of a run, from the rows of its report."""
    return {row["stage"]: storage.path("stages", row["stage"], row["key"]) for row in stages}
