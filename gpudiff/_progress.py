"""A progress bar where tqdm is installed, otherwise a line on standard error whenever the stage changes."""

from __future__ import annotations

import importlib
import sys
from typing import Any


class Progress:
    """Counts steps of known number.

    Args:
        total: How many calls of ``tick`` are to come.
        quiet: Whether to show nothing.
    """

    def __init__(self, total: int, quiet: bool = False) -> None:
        self.total, self.done, self.quiet, self.group = total, 0, quiet, ""
        self.bar: Any = None
        if not quiet:
            try:
                self.bar = importlib.import_module("tqdm").tqdm(total=total, file=sys.stderr, unit="step", leave=False)
            except ImportError:
                self.bar = None

    def tick(self, text: str, steps: int = 1) -> None:
        """So many steps done; the first word of the text is what plain lines report."""
        self.done += steps
        if self.bar is not None:
            self.bar.set_description(text, refresh=False)
            self.bar.update(steps)
        elif not self.quiet and text.split()[0] != self.group:
            self.group = text.split()[0]
            print(f"[{self.done}/{self.total}] {self.group}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Removes the bar."""
        if self.bar is not None:
            self.bar.close()
