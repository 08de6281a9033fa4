"""`lhs`, with one process that stands still after a call, so that a test can do its worst there.

`python -m tests.faults.halting TARGET CALL MARKER HELD ARGUMENTS...`: the first process, driver or
worker, in which the function TARGET (`module:name`) returns for the CALLth time writes its process
id into the file MARKER and stops itself. Where MARKER is there already, nothing is stopped. HELD
bytes of a small object store are kept by the driver, or 0.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

TARGET, CALL, MARKER = "LHS_TEST_HALT_TARGET", "LHS_TEST_HALT_CALL", "LHS_TEST_HALT_MARKER"
SMALLEST_STORE = 75 * 2**20
"""Bytes of an object store: Ray takes no less."""


def install() -> None:
    """Run by Ray in every worker process as it starts."""
    module = os.environ[TARGET].partition(":")[0]
    if module in sys.modules:
        wrap()
    else:
        sys.meta_path.insert(0, Later())


class Later(importlib.abc.MetaPathFinder):
    """Wraps the function when its module is imported: many workers never import it."""

    def find_spec(self, name: str, path: object, target: object = None) -> Any:
        if name != os.environ[TARGET].partition(":")[0]:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        run = spec.loader.exec_module

        def run_and_wrap(module: Any) -> None:
            run(module)
            wrap()

        spec.loader.exec_module = run_and_wrap  # type: ignore[method-assign]
        return spec


def wrap() -> None:
    """Let the function halt its process when it returns for the CALLth time."""
    module, _, path = os.environ[TARGET].partition(":")
    *parents, name = path.split(".")
    owner = functools.reduce(getattr, parents, sys.modules[module])
    function = getattr(owner, name)
    calls = itertools.count(1)

    @functools.wraps(function)
    def halting(*values: Any, **more: Any) -> Any:
        result = function(*values, **more)
        if next(calls) == int(os.environ[CALL]):
            halt(Path(os.environ[MARKER]))
        return result

    setattr(owner, name, halting)


def halt(marker: Path) -> None:
    """Stand still, but for those who are not the first."""
    mine = marker.with_name(f"{marker.name}.{os.getpid()}")
    mine.write_text(str(os.getpid()))
    try:
        marker.hardlink_to(mine)
    except FileExistsError:
        return
    finally:
        mine.unlink()
    os.kill(os.getpid(), signal.SIGSTOP)


def hook(held: int) -> None:
    """Let the Ray that the program starts or joins run `install` in its workers."""
    import numpy as np
    import ray

    init = ray.init

    def hooked(**options: Any) -> Any:
        names = {name: os.environ[name] for name in (TARGET, CALL, MARKER)}
        environment = {"worker_process_setup_hook": install, "env_vars": names}
        if held:
            options["object_store_memory"] = SMALLEST_STORE
        found = init(**options, runtime_env=environment)
        if held:
            # An array that is looked at can't leave the store.
            hooked.kept = ray.get(ray.put(np.zeros(held, np.uint8)))  # type: ignore[attr-defined]
        return found

    ray.init = hooked


def main(target: str, call: str, marker: str, held: str, *arguments: str) -> int:
    from lhs.run import main as run

    os.environ |= {TARGET: target, CALL: call, MARKER: marker}
    install()
    if arguments[0] != "data":
        hook(int(held))
    return run(list(arguments))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
