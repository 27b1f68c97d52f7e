"""What the demo prints: the problem, the coefficients with their derivatives, and how fast and how exact it was."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

import gpudiff as gd
from gpudiff._settings import thread_count
from gpudiff.cli.demo.bootstrap import Regression
from gpudiff.cli.demo.check import REPEATS, TIGHT, Comparison
from gpudiff.cli.demo.replicates import Outcome
from gpudiff.cli.tables import status_table, table

Array = NDArray[np.float64]

INTERVAL = (2.5, 97.5)
"""Percentiles of the bootstrap intervals, 95 %."""


def interval(values: Array) -> tuple[Array, Array, Array]:
    """Mean, lower and upper end of the bootstrap interval of each column."""
    low, high = np.percentile(values, INTERVAL, axis=0)
    return values.mean(axis=0), low, high


def standard_errors(outcome: Outcome) -> tuple[Array, Array]:
    """Two estimates of the standard error of each coefficient; `[p]` each.

    The first is the standard deviation over the replicates. The second, the infinitesimal jackknife of their mean,
    √Σᵢ(∂β̄/∂uᵢ)², needs the derivatives alone; being that of an average, it tends to be the smaller.

    Source: Efron, "Estimation and accuracy after model selection", JASA 109 (2014), §3.
    """
    return outcome.beta[outcome.solved].std(axis=0, ddof=1), np.sqrt((outcome.influence**2).sum(axis=0))


def fixed(value: float, digits: int) -> str:
    """Write a number with so many decimals, and what rounds to zero without a sign."""
    return f"{round(float(value), digits) + 0.0:.{digits}f}"


def with_interval(mean: float, low: float, high: float, digits: int) -> str:
    """Write a mean and its interval."""
    return f"{fixed(mean, digits)} [{fixed(low, digits)}, {fixed(high, digits)}]"


def problem(data: Regression, replicates: int, bound: float, seed: int) -> str:
    """Say what is about to be solved."""
    n = data.features
    return "\n".join(
        [
            f"data        diabetes, from scikit-learn: {data.observations} patients, {n} measurements (standardised),",
            "            response: progression of the disease after one year (centred)",
            f"each QP     minimise ½βᵀPβ + qᵀβ  subject to  β ≥ 0, Σβ ≤ t = {bound:g}:"
            f"  {n} variables, {n + 1} inequalities;",
            "            P = XᵀX/N and q = −Xᵀy/N about the means of the replicate (so it has an intercept); no ridge",
            f"replicates  {replicates:,}, each of {data.observations} patients drawn with replacement (seed {seed})",
        ]
    )


def statuses(outcome: Outcome) -> str:
    """Count the statuses."""
    return status_table(outcome.status)


def coefficients(data: Regression, outcome: Outcome) -> str:
    """One row per coefficient: intervals, derivative with respect to t, standard errors, influence of the data."""
    solved = outcome.solved
    free, free_low, free_high = interval(outcome.least_squares[solved])
    beta, low, high = interval(outcome.beta[solved])
    slope, slope_low, slope_high = interval(outcome.slope[solved])
    zero = outcome.at_zero()
    deviation, jackknife = standard_errors(outcome)
    rows: list[list[str]] = []
    for j, name in enumerate(data.names):
        i = int(np.abs(outcome.influence[:, j]).argmax())
        largest = float(outcome.influence[i, j])
        rows.append(
            [
                name,
                with_interval(free[j], free_low[j], free_high[j], 1),
                with_interval(beta[j], low[j], high[j], 1),
                f"{100 * zero[j]:.0f} %",
                with_interval(slope[j], slope_low[j], slope_high[j], 3),
                f"{deviation[j]:.2f}",
                f"{jackknife[j]:.2f}",
                f"{largest:+.3f} (no. {i})" if abs(largest) >= 0.0005 else "none",
            ]
        )
    header = ["", "least squares", "β", "β = 0", "dβ/dt", "s.d.", "jackknife", "largest dβ/dw"]
    return "\n".join(
        [
            "coefficients: bootstrap mean and 95 % interval; "
            f"Σβ = t in {100 * outcome.bound_active():.1f} % of the replicates",
            table(header, rows),
            "  dβ/dt      change of β per unit of the bound t, by forward mode",
            "  dβ/dw      change of the mean β when one patient counts twice, to first order: cotangents of P and q of",
            "             every replicate (reverse mode) carried back to the weight of each patient",
            "  s.d.       standard error of β: standard deviation over the replicates",
            "  jackknife  the same from derivatives alone, √Σ(dβ/dw)² over the patients (infinitesimal jackknife)",
        ]
    )


def speed(outcome: Outcome, comparison: Comparison, settings: gd.Settings) -> str:
    """Rates of the run and the comparison with Clarabel."""
    count, passes = len(outcome.status), outcome.beta.shape[1]
    solve = outcome.solve_seconds
    forward = solve + outcome.forward_seconds
    everything = forward + outcome.reverse_seconds
    run = [
        ["solve", f"{count / solve:,.0f}", f"{solve:.3f}"],
        ["solve + dβ/dt", f"{count / forward:,.0f}", f"{forward:.3f}"],
        [f"solve + dβ/dt + dβ/d(P, q), {passes} reverse passes", f"{count / everything:,.0f}", f"{everything:.3f}"],
    ]
    peer = f"Clarabel {version('clarabel')}, one after the other"
    peers = [
        [peer, f"{comparison.clarabel_rate:,.0f}", f"{comparison.clarabel_error:.0e}"],
        [f"gpudiff {gd.__version__}", f"{comparison.gpudiff_rate:,.0f}", f"{comparison.error:.0e}"],
    ]
    ratio = comparison.gpudiff_rate / comparison.clarabel_rate
    return "\n".join(
        [
            f"speed of this run, {thread_count(settings.threads)} thread(s), {count:,} replicates",
            table(["", "problems/s", "seconds"], run),
            "",
            f"same run, one thread each, the first {comparison.count} replicates, best of {REPEATS}: "
            f"gpudiff is {ratio:.1f} times as fast",
            table(["", "problems/s", "max |β − β*|"], peers),
            f"  β*: Clarabel at tolerance {TIGHT:.0e}, then the linear system of its active set",
            f"  dβ/dt against difference quotients of β*: {comparison.slope_error:.0e}"
            f" ({comparison.slope_count} replicates of {comparison.count}; in the rest the active set changes)",
            f"  dβ/dt by forward against reverse mode, summed over all replicates: {outcome.mismatch:.0e} relative",
        ]
    )
