"""Two figures of a GPU run: throughput against batch size per family, and the roofline with measured ceilings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.bench.cuda.measure import DeviceRecord


def draw(records: Sequence[DeviceRecord], ceilings: dict[str, float], path: Path, title: str) -> None:
    """Writes a PNG: one panel per family, and the roofline last.

    Args:
        records: All of the run; what failed or is inaccurate is left out.
        ceilings: "float64" and "float32" in FLOP/s, "bandwidth" in bytes per second; {} where they were not measured.
        path: Where to write it.
        title: What the figure is headed with, such as the GPU.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    good = [r for r in records if r.correct and r.forward]
    families = list(dict.fromkeys(r.family for r in good))
    columns = min(4, max(1, math.ceil(math.sqrt(len(families) + 1))))
    lines = math.ceil((len(families) + 1) / columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(4.2 * columns, 3.3 * lines), layout="constrained", squeeze=False
    )
    flat = list(axes.flat)
    solvers = {name: f"C{k}" for k, name in enumerate(dict.fromkeys(r.solver for r in good))}
    for axis, family in zip(flat, families, strict=False):
        _throughput(axis, [r for r in good if r.family == family], family, solvers)
    _roofline(flat[len(families)], good, ceilings)
    for axis in flat[len(families) + 1 :]:
        axis.axis("off")
    handles, labels = _legend(flat[: len(families)])
    figure.legend(handles, labels, fontsize="small", loc="outside lower center", ncols=4)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _throughput(axis: Any, records: Sequence[DeviceRecord], family: str, colours: dict[str, str]) -> None:
    for solver, dtype in dict.fromkeys((r.solver, r.dtype) for r in records):
        same = sorted((r for r in records if (r.solver, r.dtype) == (solver, dtype)), key=lambda r: r.batch)
        for kind, style in (("forward", "-"), ("forward_backward", "--")):
            points = [(r.batch, getattr(r, kind)) for r in same if getattr(r, kind)]
            if points:
                label = f"{solver} {dtype}, {kind.replace('_', ' + ')}"
                marker = "o" if dtype == "float64" else "^"
                axis.plot(
                    *zip(*points, strict=True), style, marker=marker, markersize=3, color=colours[solver], label=label
                )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_title(family, fontsize="medium")
    axis.set_xlabel("batch size")
    axis.set_ylabel("problems per second")
    axis.grid(alpha=0.3)


def _roofline(axis: Any, records: Sequence[DeviceRecord], ceilings: dict[str, float]) -> None:
    """Each family's fastest forward solve: operations per byte that has to move, and operations per second."""
    points: dict[tuple[str, str], tuple[float, float]] = {}
    for r in records:
        if r.intensity is None or r.flops is None or r.forward is None:
            continue
        reached = r.flops * r.forward
        if reached > points.get((r.family, r.dtype), (0.0, 0.0))[1]:
            points[r.family, r.dtype] = (r.intensity, reached)
    for (family, dtype), (intensity, reached) in points.items():
        axis.plot(intensity, reached, "o" if dtype == "float64" else "^", color="C0", markersize=4)
        axis.annotate(family, (intensity, reached), fontsize=5, xytext=(2, 2), textcoords="offset points")
    if points and "bandwidth" in ceilings:
        lowest, highest = min(p[0] for p in points.values()), max(p[0] for p in points.values())
        at = np.geomspace(0.3 * min(lowest, 1.0), 3.0 * highest, 100)
        for dtype, style in (("float64", "-"), ("float32", ":")):
            axis.plot(at, np.minimum(ceilings[dtype], at * ceilings["bandwidth"]), style, color="black", linewidth=0.8)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_title("roofline (— float64, ··· float32, measured)", fontsize="medium")
    axis.set_xlabel("operations per byte of data and results")
    axis.set_ylabel("operations per second")
    axis.grid(alpha=0.3)


def _legend(axes: Sequence[Any]) -> tuple[list[Any], list[str]]:
    found: dict[str, Any] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    return list(found.values()), list(found)
