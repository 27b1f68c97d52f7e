"""``python -m gpudiff.bench``."""

from __future__ import annotations

import sys

from gpudiff.bench.runner import main

sys.exit(main())
