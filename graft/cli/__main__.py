"""``python -m graft.cli`` is ``graft``."""

from __future__ import annotations

import sys

from graft.cli import main

if __name__ == "__main__":
    sys.exit(main())
