"""Hunts for wrong answers: adversarial QPs by the million, every claim checked. See README.md beside this file."""

from __future__ import annotations

import sys

from gpudiff.bench.hunt import main

if __name__ == "__main__":
    sys.exit(main())
