"""How results look: plain-text tables of speeds and accuracies, ratios, warm starts, batch sizes and latencies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gpudiff.bench.measure import Record
from gpudiff.bench.ours import is_ours
from gpudiff.bench.warm import WarmRecord

_MODES = {"moreau-ipm": "moreau", "moreau-as": "moreau"}  # modes of one package, whose best is quoted too


def results_table(records: list[Record]) -> str:
    """One line per family and solver: speed, with its accuracy beside it."""
    errors = ("x err max", "median", "grad err max", "median")
    head = ("family", "solver", "forward/s", "fwd+bwd/s", *errors, "% peak", "changes", "")
    rows: list[tuple[str, ...]] = []
    family = ""
    for r in records:
        note = _note(r)
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
                _percent(r.peak_fraction),
                _count(r.changes),
                note,
            )
        )
        family = r.family
    return table(head, rows, left=(0, 1, 10))


def warm_table(records: list[WarmRecord]) -> str:
    """One line per family, move of the data and solver: the speed from a warm start beside that from a cold one."""
    head = ("family", "moved", "solver", "warm/s", "cold/s", "x err max", "median", "% peak", "changes", "")
    rows: list[tuple[str, ...]] = []
    last: tuple[str, float] | None = None
    for r in records:
        here = (r.family, r.move)
        rows.append(
            (
                *(("", "") if here == last else (r.family, f"{100 * r.move:g} %")),
                r.solver,
                rate(r.forward),
                rate(r.cold),
                _error(r.x_error_max),
                _error(r.x_error_median),
                _percent(r.peak_fraction),
                _count(r.changes),
                _note(r),
            )
        )
        last = here
    return table(head, rows, left=(0, 2, 9))


def warm_ratios(records: list[WarmRecord]) -> list[dict[str, Any]]:
    """``ratios`` for each move of the data: gpudiff's warm rate over the peers' warm rates, the key ``move`` added."""
    found: list[dict[str, Any]] = []
    for move in dict.fromkeys(r.move for r in records):
        for entry in ratios([r for r in records if r.move == move]):
            found.append({"family": entry["family"], "move": move, "peer": entry["peer"], "warm": entry["forward"]})
    return found


def warm_ratios_table(found: list[dict[str, Any]]) -> str:
    """Families and moves down, peers across."""
    if not found:
        return ""
    peers = list(dict.fromkeys(entry["peer"] for entry in found))
    rows: list[tuple[str, ...]] = []
    names = list(dict.fromkeys(entry["family"] for entry in found))
    for family, move in sorted({(e["family"], e["move"]) for e in found}, key=lambda k: (names.index(k[0]), -k[1])):
        here = {e["peer"]: times(e["warm"]) for e in found if (e["family"], e["move"]) == (family, move)}
        rows.append((f"{family}, {100 * move:g} %", *(here.get(peer, "") for peer in peers)))
    return table(("warm, gpudiff is faster by", *peers), rows, left=(0,))


def sweep_table(records: list[Record]) -> str:
    """Families and methods down, batch sizes across; then the worst error and the number of unsolved problems."""
    sizes = sorted({r.batch for r in records})
    rows: list[tuple[str, ...]] = []
    for family, solver in dict.fromkeys((r.family, r.solver) for r in records):
        here = {r.batch: r for r in records if (r.family, r.solver) == (family, solver)}
        worst = max((r.x_error_max or 0.0 for r in here.values()), default=None)
        unsolved = sum(r.unsolved or 0 for r in here.values())
        note = next((r.error for r in here.values() if r.error), f"{unsolved} unsolved" if unsolved else "")
        rates = (rate(here[size].forward) if size in here else "" for size in sizes)
        rows.append((family, solver, *rates, _error(worst), note))
    head = ("problems/s, B =", "", *(f"1e{len(str(size)) - 1}" for size in sizes), "x err max", "")
    return table(head, rows, left=(0, 1, len(head) - 1))


def latency_table(found: list[dict[str, Any]]) -> str:
    """Kinds of call down, sizes across: microseconds, and the error of the answers in brackets."""
    sizes = list(dict.fromkeys(entry["n"] for entry in found))
    rows: list[tuple[str, ...]] = []
    for call in dict.fromkeys(entry["call"] for entry in found):
        here = {e["n"]: f"{e['us']:.1f} ({e['x_error_max']:.0e})" for e in found if e["call"] == call}
        rows.append((call, *(here.get(n, "") for n in sizes)))
    return table(("one call, B = 1, µs (x err)", *(f"n = {n}" for n in sizes)), rows, left=(0,))


def projections_table(found: list[dict[str, Any]]) -> str:
    """Cones down: rates, fractions of peak, how much faster than NumPy, and by how much the answers differ."""
    rows: list[tuple[str, ...]] = []
    for case in dict.fromkeys(entry["case"] for entry in found):
        here = {e["call"]: e for e in found if e["case"] == case}
        ours, derivative, peer = here["project"], here["derivative"], here.get("numpy")
        cells = [cell for e in (ours, derivative) for cell in (rate(e["rate"]), _percent(e["peak_fraction"]))]
        faster = (times(_ratio(ours["rate"], peer["rate"])), _error(peer["difference"])) if peer else ("", "")
        rows.append((case, *cells, *faster))
    head = ("projections", "points/s", "% peak", "derivatives/s", "% peak", "vs NumPy", "difference")
    return table(head, rows, left=(0,))


def derivatives_tables(found: dict[str, Any]) -> list[str]:
    """One table for the families, one for each kind of call that is compared with another, and lines between them."""
    costs = {each["family"]: each for each in found["backward"]}
    rows = [
        (
            each["family"],
            rate(costs[each["family"]]["forward"]),
            rate(costs[each["family"]]["backward"]),
            f"{_percent(costs[each['family']]['share'])} %",
            _error(costs[each["family"]]["gradient_error_max"]),
            _error(costs[each["family"]]["gradient_error_median"]),
            _error(each["max"]),
            _error(each["median"]),
        )
        for each in found["adjoint"]
    ]
    head = (
        "derivatives",
        "forward/s",
        "backward/s",
        "share",
        "grad err max",
        "median",
        "⟨x̄, Jẋ⟩ − ⟨Jᵀx̄, ẋ⟩ max",
        "median",
    )
    lines = [table(head, rows, left=(0,))]
    head = ("ten cotangents at once", "of", "one, µs", "ten to one", "ten calls to ten", "bits of one alone")
    rows = [
        (e["family"], e["wrt"], f"{e['one']:.2f}", times(e["ratio"]), times(e["calls_ratio"]), str(e["same_bits"]))
        for e in found["several"]
    ]
    lines += ["", table(head, rows, left=(0,))] * bool(rows)
    head = ("double backward", "backward, µs", "recorded", "double", "err max", "median")
    rows = [
        (
            e["family"],
            f"{e['backward']:.2f}",
            times(e["recorded"]),
            times(e["double"]),
            _error(e["error_max"]),
            _error(e["error_median"]),
        )
        for e in found["twice"]
    ]
    lines += ["", table(head, rows, left=(0,))] * bool(rows)
    head = ("training step, digits", "ms", "to gpudiff's", "gradients differ by")
    rows = [(e["layer"], f"{e['ms']:.2f}", times(e["ratio"]), _error(e["difference"])) for e in found["training"]]
    return lines + ["", table(head, rows, left=(0,))] * bool(rows)


def ratios(records: Sequence[Record]) -> list[dict[str, Any]]:
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
            if r.correct and not is_ours(name)
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


def _note(r: Record) -> str:
    """What is wrong with a record, or else what is worth knowing."""
    if r.error:
        return r.error
    if r.unsolved:
        return f"{r.unsolved} of {r.batch} unsolved"
    if not r.correct:
        return "inaccurate"
    chosen = [] if r.method is None or r.solver != "gpudiff" else [r.method]
    return ", ".join(chosen + ([f"{r.fallbacks} of {r.batch} left to ipm"] if r.fallbacks else []))


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.0f}"


def _count(mean: float | None) -> str:
    return "" if mean is None else f"{mean:.1f}"


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
