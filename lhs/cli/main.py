"""From the arguments to an exit code; every user error becomes one message."""

from __future__ import annotations

import logging
import os
import select
import sys

from lhs.cli.parser import parser
from lhs.engine.runtime.logs import logging_to
from lhs.errors import UserError


class StderrHandler(logging.Handler):
    """Prints log lines to the current `sys.stderr`, which a progress bar replaces."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code, 2 for user errors."""
    try:
        try:
            with logging_to(StderrHandler()):
                return _run(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_gone():
            raise
        # Otherwise Python tries to write the rest once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a shell reports programs that SIGPIPE ended


def _run(arguments: list[str] | None) -> int:
    commands = parser()
    if "_ARGCOMPLETE" in os.environ:
        # A shell asks what may follow.
        import argcomplete

        argcomplete.autocomplete(commands)
    options = commands.parse_args(arguments)
    try:
        code: int = options.call(options)
        return code
    except KeyboardInterrupt:
        resumed = " with --resume" if getattr(options, "resume", None) is False else ""
        print(f"lhs: stopped; the same command{resumed} goes on", file=sys.stderr)
        return 130
    except Exception as error:
        found = user_error(error)
        if found is None:
            raise
        print(f"lhs: {found}", file=sys.stderr)
        return 2


def _reader_gone() -> bool:
    """Whether the reader of the output has ended, as in `lhs recipes | head -2`."""
    watch = select.poll()
    watch.register(sys.stdout, 0)
    return bool(watch.poll(0))


def user_error(error: BaseException) -> UserError | None:
    """The user error inside the exceptions that Ray wraps around it, or None."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        # Ray's own wrapper is a UserError too, with a traceback for its text.
        if isinstance(current, UserError) and getattr(current, "cause", None) is None:
            # Ray Data adds advice on its own settings.
            text, added, _ = str(current).partition("\nFailed to apply UDF transform after ")
            return UserError(text) if added else current
        failures = getattr(current, "worker_failures", None)
        waiting += failures.values() if isinstance(failures, dict) else []
        waiting += [getattr(current, "cause", None), current.__cause__, current.__context__]
    return None
