"""The entry point: `lhs ...`, `python -m lhs.run ...` or `python lhs/run.py ...`.

`ray submit` copies this file alone to the head, so it imports by absolute names only.
"""

from __future__ import annotations

import os
import sys

if sys.path and os.path.abspath(sys.path[0] or ".") == os.path.dirname(os.path.abspath(__file__)):
    # Run as a script: this folder is no place to import from.
    del sys.path[0]

from lhs.cli.main import main
from lhs.cli.parser import parser

__all__ = ["main", "parser", "run_file"]


def run_file(path: str) -> None:
    """Run a file of `tune/` as a script: `lhs sweep FILE` with the script's own options."""
    sys.exit(main(["sweep", path, *sys.argv[1:]]))


if __name__ == "__main__":
    sys.exit(main())
