"""Runs the benchmark; the same as ``gpudiff bench``. See README.md beside this file."""

from __future__ import annotations

import sys

from gpudiff.bench.runner import main

if __name__ == "__main__":
    sys.exit(main())
