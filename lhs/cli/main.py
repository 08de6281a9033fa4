"""From the arguments to an exit code; every mistake of the user's becomes one message."""

from __future__ import annotations

import os
import select
import sys

from lhs.cli.parser import parser
from lhs.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code, 2 for the user's mistakes."""
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_gone():
            raise
        # What is left unwritten would be tried once more at Python's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # what a shell says of programs that SIGPIPE ends


def _run(arguments: list[str] | None) -> int:
    options = parser().parse_args(arguments)
    try:
        code: int = options.call(options)
        return code
    except KeyboardInterrupt:
        print("lhs: stopped; finished stages are kept and will be reused", file=sys.stderr)
        return 130
    except Exception as error:
        mistake = user_mistake(error)
        if mistake is None:
            raise
        print(f"lhs: {mistake}", file=sys.stderr)
        return 2


def _reader_gone() -> bool:
    """Whether nobody reads the output any more, as in `lhs recipes | head -2`."""
    watch = select.poll()
    watch.register(sys.stdout, 0)
    return bool(watch.poll(0))


def user_mistake(error: BaseException) -> UserError | None:
    """The user's own mistake inside what Ray made of it, or None."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        # Ray's own wrapper is a UserError too, with a traceback for its text.
        if isinstance(current, UserError) and getattr(current, "cause", None) is None:
            return current
        failures = getattr(current, "worker_failures", None)
        waiting += failures.values() if isinstance(failures, dict) else []
        waiting += [getattr(current, "cause", None), current.__cause__, current.__context__]
    return None
