"""How results look: two plain-text tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gpudiff.bench.measure import Record

_MODES = {"moreau-ipm": "moreau", "moreau-as": "moreau"}  # modes of one package, whose best is quoted too


def results_table(records: list[Record]) -> str:
    """One line per family and solver: speed, with its accuracy beside it."""
    head = ("family", "solver", "forward/s", "fwd+bwd/s", "x err max", "median", "grad err max", "median", "% peak", "")
    rows: list[tuple[str, ...]] = []
    family = ""
    for r in records:
        note = r.error or (f"{r.unsolved} of {r.batch} unsolved" if r.unsolved else "" if r.correct else "inaccurate")
        if not note and r.forward_backward and not r.correct_gradient:
            note = "inaccurate gradient"
        rows.append(
            (
                "" if r.family == family else r.family,
                r.solver,
                rate(r.forward),
                rate(r.forward_backward),
                _error(r.x_error_max),
                _error(r.x_error_median),
                _error(r.gradient_error_max),
                _error(r.gradient_error_median),
                "" if r.peak_fraction is None else f"{100 * r.peak_fraction:.0f}",
                note,
            )
        )
        family = r.family
    return table(head, rows, left=(0, 1, 9))


def ratios(records: list[Record]) -> list[dict[str, Any]]:
    """How many times faster gpudiff is than each peer that answers correctly, per family.

    Returns:
        Dictionaries with keys family, peer, forward, forward_backward (None where a peer has no such figure). Packages
        with several modes have an entry ``<package>-best`` as well: the fastest correct mode of each kind.
    """
    found: list[dict[str, Any]] = []
    for family in dict.fromkeys(r.family for r in records):
        here = {r.solver: r for r in records if r.family == family}
        ours = here.pop("gpudiff", None)
        if ours is None or not ours.correct:
            continue
        rivals = {
            name: (r.forward, r.forward_backward if r.correct_gradient else None)
            for name, r in here.items()
            if r.correct
        }
        for package in dict.fromkeys(_MODES[name] for name in rivals if name in _MODES):
            modes = [pair for name, pair in rivals.items() if _MODES.get(name) == package]
            best = (max((p[k] or 0.0 for p in modes), default=0.0) or None for k in (0, 1))
            rivals[package + "-best"] = tuple(best)  # pyright: ignore[reportArgumentType]
        for name, (forward, both) in rivals.items():
            found.append(
                {
                    "family": family,
                    "peer": name,
                    "forward": _ratio(ours.forward, forward),
                    "forward_backward": _ratio(ours.forward_backward, both) if ours.correct_gradient else None,
                }
            )
    return found


def ratios_table(found: list[dict[str, Any]]) -> str:
    """Families down, peers across; each cell "forward / forward+backward" as multiples of the peer's speed."""
    if not found:
        return ""
    peers = list(dict.fromkeys(entry["peer"] for entry in found))
    rows: list[tuple[str, ...]] = []
    for family in dict.fromkeys(entry["family"] for entry in found):
        cells = {
            e["peer"]: " / ".join(filter(None, (times(e["forward"]), times(e["forward_backward"]))))
            for e in found
            if e["family"] == family
        }
        rows.append((family, *(cells.get(peer, "") for peer in peers)))
    return table(("gpudiff is faster by", *peers), rows, left=(0,))


def rate(value: float | None) -> str:
    """Problems per second with three significant digits."""
    if value is None:
        return ""
    if value >= 9995:
        return f"{value / 1e3:.3g}k" if value < 999.5e3 else f"{value / 1e6:.3g}M"
    return f"{value:.3g}" if value < 999.5 else f"{value:.0f}"


def times(value: float | None) -> str:
    """A ratio, such as 4.2×."""
    return "" if value is None else f"{value:.2g}×" if value < 10 else f"{value:.0f}×"


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or not theirs else ours / theirs


def _error(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]], left: tuple[int, ...]) -> str:
    """Plain text in columns, aligned to the right but for those numbered in ``left``."""
    lines = [head, *rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]

    def text(line: tuple[str, ...]) -> str:
        cells = (c.ljust(w) if k in left else c.rjust(w) for k, (c, w) in enumerate(zip(line, widths, strict=True)))
        return "  ".join(cells).rstrip()

    return "\n".join([text(head), "  ".join("-" * w for w in widths), *(text(row) for row in lines[1:])])
