"""How the results of a GPU run look: plain-text tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpudiff.bench import report
from gpudiff.bench.cuda.measure import DeviceRecord
from gpudiff.bench.report import rate, times


def throughput_table(records: Sequence[DeviceRecord]) -> str:
    """One line per family, element type, batch size and solver."""
    head = (
        "family",
        "dtype",
        "batch",
        "solver",
        "forward/s",
        "fwd+bwd/s",
        "bwd share",
        "% peak",
        "% memory",
        "extra MB",
    )
    head += ("x err max", "grad err max", "")
    rows: list[tuple[str, ...]] = []
    for r in records:
        extra = max(r.extra_bytes.values(), default=None)
        rows.append(
            (
                r.family,
                r.dtype,
                f"{r.batch:.0e}".replace("e+0", "e"),
                r.solver,
                rate(r.forward),
                rate(r.forward_backward),
                _percent(backward_share(r)),
                _percent(r.peak_fraction),
                _percent(r.bandwidth_fraction),
                "" if extra is None else f"{extra / 1e6:.1f}",
                "" if r.x_error_max is None else f"{r.x_error_max:.0e}",
                "" if r.gradient_error_max is None else f"{r.gradient_error_max:.0e}",
                note(r),
            )
        )
    return report.table(head, rows, left=(0, 1, 3, 12))


def note(r: DeviceRecord) -> str:
    """What keeps the figures of a record from being taken as they are."""
    if r.error:
        return r.error.splitlines()[0][:80]
    if r.unsolved:
        return f"{r.unsolved} unsolved"
    if not r.correct:
        return "inaccurate"
    return "inaccurate gradient" if r.forward_backward and not r.correct_gradient else ""


def backward_share(r: DeviceRecord) -> float | None:
    """The part of the time of forward and backward that the backward pass takes."""
    return None if not r.forward or not r.forward_backward else max(0.0, 1.0 - r.forward_backward / r.forward)


def ratios(records: Sequence[DeviceRecord]) -> list[dict[str, Any]]:
    """``report.ratios`` for each element type and batch size, which are entered as "dtype" and "batch"."""
    found: list[dict[str, Any]] = []
    for dtype, batch in dict.fromkeys((r.dtype, r.batch) for r in records):
        same = [r for r in records if (r.dtype, r.batch) == (dtype, batch)]
        found += [{"dtype": dtype, "batch": batch, **entry} for entry in report.ratios(list(same))]
    return found


def ratios_table(found: Sequence[dict[str, Any]]) -> str:
    """One line per family and batch size, peers across: "forward / forward+backward" as multiples of their speed."""
    peers = list(dict.fromkeys(entry["peer"] for entry in found))
    rows: list[tuple[str, ...]] = []
    for family, batch in dict.fromkeys((e["family"], e["batch"]) for e in found):
        cells = {
            e["peer"]: " / ".join(filter(None, (times(e["forward"]), times(e["forward_backward"]))))
            for e in found
            if (e["family"], e["batch"]) == (family, batch)
        }
        rows.append((family, f"{batch:.0e}".replace("e+0", "e"), *(cells.get(peer, "") for peer in peers)))
    return report.table(("gpudiff is faster by", "batch", *peers), rows, left=(0,)) if found else ""


def tuning_table(rows: Sequence[dict[str, Any]]) -> str:
    """One line per combination; the current choice is marked >, the fastest of each kind *."""
    head = ("family", "dtype", "", "group", "level", "forward/s", "", "fwd+bwd/s", "", "blocks", "shared", "registers")
    head += ("spills", "")
    lines: list[tuple[str, ...]] = []
    for row in rows:
        same = [r for r in rows if (r["family"], r["dtype"]) == (row["family"], row["dtype"]) and not r.get("unsolved")]
        kernels = row.get("kernels", {})
        solve = kernels.get("solve") or kernels.get("active_set", {})
        kinds = [solve, *(kernels.get(kind, {}) for kind in ("careful", "vjp"))]
        lines.append(
            (
                row["family"],
                row["dtype"],
                ">" if row["chosen"] else "",
                str(row["group"]),
                str(row["level"]),
                rate(row.get("forward")),
                _star(row, same, "forward"),
                rate(row.get("forward_backward")),
                _star(row, same, "forward_backward"),
                str(solve.get("blocks", "")),
                str(solve.get("shared", "")),
                "/".join(str(kind["registers"]) for kind in kinds if "registers" in kind),
                "/".join(str(kind["spills"]) for kind in kinds if "spills" in kind),
                (row["error"] or (f"{row['unsolved']} unsolved" if row.get("unsolved") else ""))[:70],
            )
        )
    return report.table(head, lines, left=(0, 1, 2, 6, 8, 13))


def single_figures(results: dict[str, Any]) -> list[str]:
    """Ceilings, latency, first result and tail as lines of text."""
    lines: list[str] = []
    ceilings = results.get("ceilings", {})
    if "bandwidth" in ceilings:
        peaks = ", ".join(f"{1e-12 * ceilings[name]:.1f} TFLOP/s {name}" for name in ("float64", "float32"))
        lines.append(f"measured: FMA {peaks}; copy {1e-12 * ceilings['bandwidth']:.2f} TB/s")
    for family, figures in results.get("latency", {}).items():
        parts = [f"{name.removesuffix('_us')} {_us(value)}" for name, value in figures.items()]
        lines.append(f"B = 1, {family}: " + ", ".join(parts))
    for state, figures in results.get("first_result", {}).items():
        parts = [f"{name.replace('_', ' ')} {value:.3f} s" for name, value in figures.items()]
        lines.append(f"first result, {state}: " + ", ".join(parts))
    found = results.get("tail")
    if found:
        each = f"{found['iterations']:.1f} each, {found['iterations_hard']:.1f} each of the hard ones"
        lines.append(
            f"tail, {found['family']}, B = {found['batch']}, {found['hard']} hard: {found['ratio']:.2f}× the time, "
            f"{found['work_ratio']:.2f}× the iterations ({each})"
        )
    return lines


def _star(row: dict[str, Any], same: Sequence[dict[str, Any]], kind: str) -> str:
    best = max((r.get(kind) or 0.0 for r in same), default=0.0)
    return "*" if row in same and best and row.get(kind) == best else ""


def _us(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.1f} µs"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"
