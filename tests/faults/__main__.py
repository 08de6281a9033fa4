"""The table of faults.

    python -m tests.faults [--stage NAME...] [--fault NAME...] [--record FILE]

Each case is a real run that is disturbed at one moment: it goes on, or stops with a message, and
the next start ends with the results of an undisturbed run. About a minute each. With a record,
cases that are in it are not tried again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.cases import FAULTS, STAGES
from tests.faults.references import Lost, References
from tests.faults.trying import attempt, cases, needs_root, scratch_folder


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", nargs="+", choices=[stage.name for stage in STAGES])
    parser.add_argument("--fault", nargs="+", choices=list(FAULTS))
    parser.add_argument("--record", type=Path, help="file that keeps what came out of each case")
    chosen = parser.parse_args()
    record = chosen.record or Path(tempfile.mkdtemp(prefix="lhs-faults-")) / "record.jsonl"
    record = record.absolute()
    record.parent.mkdir(parents=True, exist_ok=True)
    known = read(record)
    references = References(record.with_name(f"{record.stem}-undisturbed"))
    for stage, fault in cases():
        if (stage.name, fault) in known or needs_root(fault):
            continue
        if stage.name not in (chosen.stage or [stage.name]):
            continue
        if fault not in (chosen.fault or [fault]):
            continue
        line = {"stage": stage.name, "fault": fault, **outcome(stage, fault, references)}
        known[stage.name, fault] = line
        with record.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        print(f"{stage.name} x {fault}: {line['outcome']}, {line['seconds']:.0f} s", flush=True)
        if line["message"]:
            print(f"  {line['message']}", flush=True)
    print(table(known))
    lost = [line for line in known.values() if line["outcome"] == "LOST"]
    passed = len(known) - len(lost)
    print(f"tried {len(known)} of {len(cases())}, passed {passed}, lost {len(lost)}")
    return 1 if lost else 0


def read(record: Path) -> dict[tuple[str, str], dict]:
    """What earlier runs found, by stage and fault."""
    lines = record.read_text().splitlines() if record.exists() else []
    found = [json.loads(line) for line in lines]
    return {(line["stage"], line["fault"]): line for line in found}


def outcome(stage, fault: str, references: References) -> dict:
    """Try a case; a defect of any kind loses it."""
    started = time.monotonic()
    try:
        with scratch_folder() as scratch:
            verdict = attempt(stage, fault, references, scratch)
    except Lost as lost:
        return {"outcome": "LOST", "message": str(lost), "seconds": time.monotonic() - started}
    return {
        "outcome": "went on" if verdict.went_on else "stopped",
        "message": verdict.message,
        "compared": verdict.compared,
        "seconds": verdict.seconds,
    }


def table(known: dict[tuple[str, str], dict]) -> str:
    """A row per stage, a column per fault, and why some were not tried."""
    width = max(len(stage.name) for stage in STAGES) + 2
    lines = ["", " " * width + "".join(f"{fault:<11}" for fault in FAULTS)]
    reasons = {}
    for stage in STAGES:
        cells = []
        for fault in FAULTS:
            if fault in stage.left_out:
                reasons.setdefault(stage.left_out[fault], []).append(f"{stage.name} x {fault}")
                cells.append("-")
            else:
                cells.append(known.get((stage.name, fault), {"outcome": "not run"})["outcome"])
        lines.append(f"{stage.name:<{width}}" + "".join(f"{cell:<11}" for cell in cells))
    lines += [f"-: {why}: {', '.join(where)}" for why, where in reasons.items()]
    lines += [f"{fault}: {text}" for fault, text in FAULTS.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
