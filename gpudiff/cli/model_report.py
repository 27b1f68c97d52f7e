"""What `gpudiff solve` prints of a model file: what it is before the solve, and who has which value after it."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpudiff._status import Status, keeps_point
from gpudiff.cli.model_file import Array, Model
from gpudiff.cli.tables import table

_ROUNDING = 1e-12  # relative to the largest entry or one


def describe(model: Model) -> str:
    """Sizes, nonzeros and kinds of rows and variables."""
    n, m = model.q.size, model.lower.size
    equal = model.in_A.size
    both = np.isfinite(model.lower) & np.isfinite(model.upper)
    free = ~(np.isfinite(model.lower) | np.isfinite(model.upper))
    ranges, absent = int(both.sum()) - equal, int(free.sum())
    kinds = [f"{equal:,} equalities", f"{m - equal - ranges - absent:,} inequalities", f"{ranges:,} with two bounds"]
    kinds += [f"{absent:,} without"] if absent else []
    lower, upper = np.isfinite(model.lb), np.isfinite(model.ub)
    fixed = int((lower & (model.lb == model.ub)).sum())
    bounds = f"{int((~lower & ~upper).sum()):,} free, {int((lower | upper).sum()) - fixed:,} bounded, {fixed:,} fixed"
    degree = f"quadratic ({model.P.nnz:,} nonzeros)" if model.P.nnz else "linear"
    lines = [
        f"{model.title}: {'maximise' if model.sense < 0 else 'minimise'} a {degree} objective",
        f"  variables  {n:,}: {bounds}",
        f"  rows       {m:,}: {', '.join(kinds)}",
        f"  nonzeros   {model.rows.nnz:,} in the rows",
    ]
    return "\n".join([*lines, *(f"  remark     {remark}" for remark in model.remarks)])


def answer(model: Model, solution: Any, most: int) -> str:
    """How the solve ended, the objective in the file's own terms, and the largest values and derivatives by name.

    Args:
        model: The problem.
        solution: What `solve_qp` gave, without a batch axis.
        most: Lines of each table.
    """
    # The objective of what was solved is not that of the file, which follows.
    summary = [line for line in str(solution).splitlines() if not line.startswith("  objective ")]
    if not keeps_point(solution.status):
        return "\n".join([*summary, "", _certificate(model, solution, most)]).rstrip()
    x = np.asarray(solution.x, float)
    constant = f", of which {model.offset:.10g} is constant" if model.offset else ""
    lines = [*summary, "", f"objective {model.objective(solution.obj):.10g}{constant}"]
    reduced = -model.sense * np.asarray(solution.z_box, float)
    rows = [
        [model.names.columns[j], _number(x[j]), _number(model.lb[j]), _number(model.ub[j]), _number(reduced[j])]
        for j in _largest(x, most)
    ]
    if rows:
        heading = f"variables with the largest values ({len(rows)} of {x.size:,})"
        header = ["variable", "value", "lower", "upper", "d objective / d bound"]
        lines += ["", heading, table(header, rows)]
    prices = _prices(model, solution)
    activity = model.rows @ x
    rows = [
        [
            model.names.rows[i],
            _number(activity[i]),
            _number(model.lower[i]),
            _number(model.upper[i]),
            _number(prices[i]),
        ]
        for i in _largest(prices, most)
    ]
    if rows:
        heading = f"rows with the largest multipliers ({len(rows)} of {prices.size:,})"
        header = ["row", "value", "lower", "upper", "d objective / d right-hand side"]
        lines += ["", heading, table(header, rows)]
    return "\n".join(lines)


def arrays(model: Model, solution: Any) -> dict[str, Array]:
    """What the output file has beside the solution, or in its place: the file's objective, names and prices."""
    return {
        "obj": np.array(model.objective(solution.obj)),
        "columns": np.array(model.names.columns, str),
        "rows": np.array(model.names.rows, str),
        "prices": _prices(model, solution) if keeps_point(solution.status) else np.full(model.lower.size, np.nan),
    }


def _prices(model: Model, solution: Any) -> Array:
    return model.prices(np.asarray(solution.y, float), np.asarray(solution.z, float))


def _certificate(model: Model, solution: Any, most: int) -> str:
    """The rows and bounds that contradict each other, or the direction in which there is no end; else nothing."""
    if solution.status == Status.PRIMAL_INFEASIBLE:
        title, header = "rows and bounds that contradict each other", ["row or bound", "weight"]
        weights = np.concatenate([model.sense * _prices(model, solution), -np.asarray(solution.z_box, float)])
        names = [*model.names.rows, *(f"bound of {name}" for name in model.names.columns)]
    elif solution.status == Status.DUAL_INFEASIBLE:
        title, header = "the direction in which the objective has no bound", ["variable", "step"]
        weights, names = np.asarray(solution.x, float), model.names.columns
    else:
        return ""
    rows = [[names[i], _number(weights[i])] for i in _largest(weights, most)]
    return "\n".join([f"{title} ({len(rows)} largest entries)", table(header, rows)]) if rows else ""


def _largest(values: Array, most: int) -> list[int]:
    """The indices of the largest entries by size, without those that are zero but for rounding."""
    size = np.abs(values)
    order = np.argsort(-size, kind="stable")[:most]
    return [int(i) for i in order if size[i] > _ROUNDING * max(1.0, size.max())]


def _number(value: float) -> str:
    return f"{value + 0.0:.6g}"  # 0 for −0
