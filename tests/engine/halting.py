"""A driver whose training worker stands still after a step, so that a test can kill it there.

`python -m tests.engine.halting RECIPE STEP MARKER`: the worker writes its process id into the file
MARKER and stops itself; where MARKER is there already, nothing is stopped.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

STEP, MARKER = "LHS_TEST_HALT_STEP", "LHS_TEST_HALT_MARKER"


def install() -> None:
    """Run by Ray in every worker process as it starts."""
    from lhs.training.loop import _PhaseRun

    tell = _PhaseRun._tell

    def tell_and_halt(self, *values):  # type: ignore[no-untyped-def]
        tell(self, *values)
        marker = Path(os.environ[MARKER])
        if len(self.history) == int(os.environ[STEP]) and not marker.exists():
            beside = marker.with_suffix(".new")
            beside.write_text(str(os.getpid()))
            beside.rename(marker)
            os.kill(os.getpid(), signal.SIGSTOP)

    _PhaseRun._tell = tell_and_halt  # type: ignore[method-assign]


def main(recipe: str, step: str, marker: str) -> int:
    import ray

    from lhs.run import main as run

    ray.init(
        log_to_driver=False,
        runtime_env={
            "worker_process_setup_hook": install,
            "env_vars": {STEP: step, MARKER: marker},
        },
    )
    return run(["run", recipe])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
