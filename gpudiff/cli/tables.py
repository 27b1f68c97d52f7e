"""Plain-text tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import gpudiff as gd
from gpudiff._status import tally


def table(header: Sequence[str], rows: Sequence[Sequence[str]], indent: int = 2) -> str:
    """Align columns: the first to the left, the others to the right."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]

    def aligned(line: Sequence[str]) -> str:
        first = line[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        return " " * indent + "  ".join([first, *rest]).rstrip()

    rule = " " * indent + "  ".join("─" * width for width in widths)
    return "\n".join([aligned(lines[0]), rule, *map(aligned, lines[1:])])


def status_table(codes: NDArray[np.int8], iterations: NDArray[np.int32] | None = None) -> str:
    """Count the problems of each status, with what to try where that is not SOLVED."""
    codes = np.atleast_1d(codes)
    rows: list[list[str]] = []
    notes: list[str] = []
    for status, count in tally(codes).items():
        row = [status.name, f"{count:,}", f"{100 * count / codes.size:.1f} %"]
        if iterations is not None:
            of_status = np.atleast_1d(iterations)[codes == status]
            row += [f"{of_status.mean():.1f}", f"{of_status.max()}"]
        rows.append(row)
        if status is not gd.Status.SOLVED:
            notes.append(f"  {status.name}: to try: {status.remedy}")
    header = ["status", "problems", "share"] + (["mean iterations", "most"] if iterations is not None else [])
    return "\n".join([table(header, rows), *notes])
