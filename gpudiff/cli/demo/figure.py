"""The demo's picture: coefficients with intervals, their derivatives in t, and the influence of every patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gpudiff.cli.demo.bootstrap import Regression
from gpudiff.cli.demo.replicates import Outcome
from gpudiff.cli.demo.report import interval

LABELS = {
    "bmi": "body mass index",
    "bp": "blood pressure",
    "s1": "total cholesterol (s1)",
    "s2": "LDL cholesterol (s2)",
    "s3": "HDL cholesterol (s3)",
    "s4": "total/HDL ratio (s4)",
    "s5": "log triglycerides (s5)",
    "s6": "blood sugar (s6)",
}
UNITS = {"age": "years", "bmi": "kg/m²", "bp": "mmHg"}

INK, MUTED, GRID = "#222222", "#767676", "#e4e4e4"
FREE, BOUNDED, SLOPE = "#b8862b", "#1f5fa8", "#2c7a4b"


def draw(data: Regression, outcome: Outcome, path: Path) -> None:
    """Write the picture as a PNG."""
    figure = Figure(figsize=(15, 6.4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.12, rect=(0, 0, 1, 0.895))  # type: ignore[union-attr]
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.35, 0.85, 1.25])
    order = np.argsort(outcome.beta[outcome.solved].mean(axis=0))  # largest on top
    draw_coefficients(left, data, outcome, order)
    draw_slopes(middle, outcome, order)
    draw_influence(right, data, outcome, int(order[-1]))
    count = int(outcome.solved.sum())
    figure.text(
        0.012, 0.955, f"Diabetes progression: {count:,} bootstrap replicates of a bounded regression",
        fontsize=15, weight="bold", color=INK,
    )  # fmt: skip
    figure.text(
        0.012, 0.918, f"each a QP, β ≥ 0 and Σβ ≤ t = {outcome.bound:g}, solved and differentiated by gpudiff",
        fontsize=11, color=MUTED,
    )  # fmt: skip
    figure.savefig(path, metadata={"Software": "gpudiff"})


def tidy(axes: Any, title: str) -> None:
    """Titles to the left, light grid, no box."""
    axes.set_title(title, loc="left", fontsize=11.5, color=INK, pad=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(colors=INK, length=0, labelsize=10)
    axes.set_axisbelow(True)


def draw_intervals(axes: Any, values: Any, rows: Any, color: str, label: str, marker: str) -> None:
    """Mean and 95 % interval of each column, one row each."""
    mean, low, high = interval(values)
    axes.hlines(rows, low, high, color=color, lw=3.2, alpha=0.45)
    axes.plot(mean, rows, marker, color=color, ms=6.5, label=label, ls="none")


def draw_coefficients(axes: Any, data: Regression, outcome: Outcome, order: Any) -> None:
    """Least squares and bounded coefficients; at the right edge how often a coefficient is zero."""
    rows = np.arange(len(order), dtype=float)
    solved = outcome.solved
    draw_intervals(axes, outcome.least_squares[solved][:, order], rows - 0.17, FREE, "least squares", "s")
    draw_intervals(axes, outcome.beta[solved][:, order], rows + 0.17, BOUNDED, "β ≥ 0, Σβ ≤ t", "o")
    tidy(axes, "Coefficients β (of standardised measurements)")
    axes.axvline(0, color=MUTED, lw=0.9, zorder=0)
    axes.grid(axis="x", color=GRID)
    axes.set_yticks(rows, [LABELS.get(data.names[j], data.names[j]) for j in order])
    axes.set_ylim(-0.7, len(order) - 0.3)
    for row, share in zip(rows, outcome.at_zero()[order], strict=True):
        axes.annotate(
            f"{100 * share:.0f} %", (1.0, row + 0.17), xycoords=("axes fraction", "data"),
            ha="right", va="center", fontsize=9, color=BOUNDED,
        )  # fmt: skip
    axes.annotate("β = 0 in", (1.0, len(order) - 0.42), xycoords=("axes fraction", "data"), ha="right", va="center",
                  fontsize=9, color=BOUNDED)  # fmt: skip
    axes.set_xlabel("mean and 95 % bootstrap interval", color=MUTED)
    axes.legend(loc="upper left", frameon=False, fontsize=9.5)


def draw_slopes(axes: Any, outcome: Outcome, order: Any) -> None:
    """Derivatives of the coefficients in t, on the rows of the first panel."""
    rows = np.arange(len(order), dtype=float)
    draw_intervals(axes, outcome.slope[outcome.solved][:, order], rows, SLOPE, "", "D")
    tidy(axes, "Sensitivity dβ/dt to the bound")
    axes.axvline(0, color=MUTED, lw=0.9, zorder=0)
    axes.grid(axis="x", color=GRID)
    axes.set_yticks(rows, [""] * len(order))
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.set_xlabel("mean and 95 % bootstrap interval", color=MUTED)


def draw_influence(axes: Any, data: Regression, outcome: Outcome, j: int) -> None:
    """Every patient at (measurement j, response), with the derivative of β̄ⱼ in the patient's weight."""
    pull = outcome.influence[:, j]
    largest = max(float(np.abs(pull).max()), 1e-12)
    draw_order = np.argsort(np.abs(pull))  # the most influential on top
    name = data.names[j]
    dots = axes.scatter(
        data.raw_x[draw_order, j],
        data.raw_y[draw_order],
        c=pull[draw_order],
        s=8 + 190 * np.abs(pull[draw_order]) / largest,
        cmap="RdBu_r",
        vmin=-largest,
        vmax=largest,
        edgecolors=INK,
        linewidths=0.3,
    )
    label = LABELS.get(name, name)
    tidy(axes, f"Influence of each patient on β of {label}")
    axes.spines["left"].set_visible(True)
    axes.spines["left"].set_color(MUTED)
    unit = f" ({UNITS[name]})" if name in UNITS else ""
    axes.set_xlabel(f"{label}{unit}", color=INK)
    axes.set_ylabel("disease progression", color=INK)
    bar = axes.figure.colorbar(dots, ax=axes, pad=0.02, aspect=32)
    bar.set_label("change of β when the patient counts twice", color=INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=9)
