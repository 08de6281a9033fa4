"""`python -m lhs ...`: the same as `lhs ...`."""

from __future__ import annotations

import sys

from lhs.run import main

if __name__ == "__main__":
    sys.exit(main())
