"""What the program makes of a GPU: one command, at most eight minutes on one card.

    python3 benchmarks/gpu.py --archive iccv09Data.tar.gz --out gpu.jsonl

Each part (see `gpu_parts.py`) is a process of its own with a time limit of its own; one that fails
is recorded and the others go on. Every figure is a line of the table as soon as it is known, and a
line of JSON in the file `--out`; the last line is one JSON object. Bounds hold for CUDA alone:
`--device cpu --tiny` runs the same code on tiny sizes and checks none.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gpu_bench import SIZES, Bench
from gpu_parts import PARTS
from reporting import options, report

SECONDS = {
    "card": 40, "dense": 60, "clustering": 75, "evaluation": 75, "training": 130, "run": 220,
    "side by side": 100, "precision": 110, "resume": 110,
}  # fmt: skip
"""Longest time of each part, where all together have `MINUTES`."""
MINUTES = 7.8
ORDER = (
    ("card",), ("dense",), ("clustering",), ("evaluation",), ("training",), ("run",),
    ("side by side",),
    # Nothing is timed in these two.
    ("precision", "resume"),
)  # fmt: skip
"""Parts in one group run at the same time."""
TOLD = 1500
"""Characters of a failed part's log that are recorded."""

Figures = dict[str, dict[str, Any]]
Bounds = dict[str, tuple[Any, str, Any]]


def bounds(figures: Figures) -> Bounds:
    """What must hold on a card; None where a part did not come so far."""

    def of(part: str, name: str) -> Any:
        return figures.get(part, {}).get(name)

    cases = ("lite batch 8", "lite batch 32", "fcn16s batch 10")
    waited = [of("training", f"{case}: share waited") for case in cases]
    inertia = [of("clustering", f"{rows} rows: inertia, cuML / scikit-learn") for rows in SIZES]
    return {
        **{
            f"{case}: Ray Train / bare loop": (
                of("training", f"{case}: Ray Train / bare loop"), ">=", 0.9
            )
            for case in cases[1:]
        },
        "share of time that a step waits": (_most(waited), "<", 0.05),
        "evaluation: images/s": (of("evaluation", "images/s"), ">=", 300),
        **{
            f"dense {name}: share of the product rate": (
                of("dense", f"{name}: share of the product rate"), ">=", 0.3
            )
            for name in ("overfeat", "clarifai")
        },
        "dense squeezenet: ms": (of("dense", "squeezenet: ms"), "<=", 40),
        "inertia, cuML / scikit-learn": (_most(inertia), "<=", 1.01),
    }  # fmt: skip


def _most(values: list[Any]) -> Any:
    return None if None in values else max(values)


def start(part: str, chosen: argparse.Namespace, scratch: Path) -> subprocess.Popen[bytes]:
    """Run a part in a process of its own; what it and Ray say goes to its log."""
    command = [
        sys.executable, __file__, "--part", part, "--device", chosen.device,
        "--data-root", str(chosen.data_root), "--scratch", str(scratch), "--out", str(chosen.out),
        *["--tiny"] * chosen.tiny,
    ]  # fmt: skip
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if chosen.device == "cpu" else {}
    with (scratch / f"{part}.log").open("wb") as log:
        return subprocess.Popen(
            command, stderr=log, env={**os.environ, **hidden}, start_new_session=True
        )


def ended(process: subprocess.Popen[bytes], log: Path, seconds: float) -> str | None:
    """Wait for a part; why it failed, or None."""
    try:
        code = process.wait(timeout=max(0.0, seconds))
    except subprocess.TimeoutExpired:
        code, why = 1, "not done in time"
    else:
        why = f"exit code {code}"
    # Also what a part that died has left; Ray's own processes end with the one that began them.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return f"{why}: {log.read_text(errors='replace')[-TOLD:]}" if code else None


def all_parts(chosen: argparse.Namespace, scratch: Path) -> None:
    """Run the wanted parts one after another; what they find goes to the file `--out`."""
    deadline = time.monotonic() + 60 * chosen.minutes
    for group in ORDER:
        running = {}
        began = time.monotonic()
        for part in (name for name in group if name in chosen.parts):
            if began > deadline:
                write(chosen.out, {"part": part, "failure": "not begun: the time was up"})
            else:
                running[part] = start(part, chosen, scratch)
        for part, process in running.items():
            last = min(deadline, began + SECONDS[part] * chosen.minutes / MINUTES)
            failure = ended(process, scratch / f"{part}.log", last - time.monotonic())
            took = round(time.monotonic() - began, 1)
            write(chosen.out, {"part": part, "seconds": took, "failure": failure})
            state = "" if failure is None else f", FAILED: {failure.splitlines()[-1][:200]}"
            print(f"{part:<14} {took} s{state}", flush=True)


def write(out: Path, line: dict[str, Any]) -> None:
    """Add a line to the record."""
    with out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def one_part(chosen: argparse.Namespace) -> None:
    """Run a part in this process."""

    def note(name: str, value: Any) -> None:
        shown = f"{value:.4g}" if isinstance(value, float) else value
        table.write(f"{chosen.part:<14} {name:<52} {shown}\n")
        table.flush()
        write(chosen.out, {"part": chosen.part, "figure": name, "value": value})

    table = sys.stdout
    folder = chosen.scratch / chosen.part.replace(" ", "-")
    folder.mkdir()
    bench = Bench(chosen.device, chosen.tiny, chosen.data_root, folder, note)
    # The table has the output for itself.
    with contextlib.redirect_stdout(sys.stderr):
        PARTS[chosen.part](bench)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--archive", type=Path, help="Stanford's, where it is not unpacked yet")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes and synthetic scenes")
    parser.add_argument("--out", type=Path, help="file for figures as they come (JSON lines)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all parts together")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--part", choices=PARTS, help="for the script itself")
    parser.add_argument("--scratch", type=Path, help="for the script itself")
    chosen = parser.parse_args()
    if chosen.part is not None:
        one_part(chosen)
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        chosen.out = chosen.out or Path(scratch, "figures.jsonl")
        chosen.out.write_text("")
        if chosen.archive is not None and not (chosen.data_root / "stanford").exists():
            from lhs.data.commands import get

            get("stanford", chosen.archive, chosen.data_root)
        all_parts(chosen, Path(scratch))
        lines = [json.loads(line) for line in chosen.out.read_text().splitlines()]
    figures: Figures = {part: {} for part in chosen.parts}
    for line in lines:
        if "figure" in line:
            figures[line["part"]][line["figure"]] = line["value"]
    parts = {
        line["part"]: {"seconds": line.get("seconds"), "failure": line["failure"]}
        for line in lines
        if "figure" not in line
    }
    wanted = bounds(figures)
    failed = [part for part, state in parts.items() if state["failure"]]
    checked: Bounds = {"parts that failed": (len(failed), "==", 0)}
    if chosen.device == "cuda":
        checked |= wanted
    else:
        for name, (_, comparison, limit) in wanted.items():
            print(f"{'bound':<14} {name + f' {comparison} {limit}':<52} not run")
    not_run = [] if chosen.device == "cuda" else list(wanted)
    report("gpu", {**figures, "parts": parts, "bounds not run": not_run}, checked)


if __name__ == "__main__":
    from lhs.errors import UserError

    try:
        main()
    except UserError as error:
        sys.exit(f"benchmarks/gpu.py: {error}")
