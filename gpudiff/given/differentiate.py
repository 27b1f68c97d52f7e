"""`differentiate`: a `Solution` of a point that came from anywhere, another solver's for one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gpudiff._arrays import surface
from gpudiff._derivative import ConeLinearization
from gpudiff._device import DeviceArray, to_host
from gpudiff._dispatch import select
from gpudiff._margin import margins
from gpudiff._method import choose
from gpudiff._problem import (
    CORE,
    DATA,
    Array,
    Problem,
    as_array,
    as_problem,
    asymmetry,
    check_places,
    check_shape,
    common_batch,
)
from gpudiff._project import projected
from gpudiff._settings import Settings, as_settings
from gpudiff._solution import Result, Solution, Work
from gpudiff._solve import Remembered, finish, run
from gpudiff._status import Status, keeps_point
from gpudiff.given.multipliers import recover
from gpudiff.given.optimality import Host, balanced, check, on_host, product

_FIELDS = ("x", "y", "s", "obj", "primal_residual", "dual_residual", "gap", "margin", "status", "iterations")
_ASYMMETRY = {np.dtype(np.float64): 1e-10, np.dtype(np.float32): 1e-5}  # as a solve accepts it, of the largest entry


def differentiate(
    P: Any,
    q: Any,
    A: Any,
    b: Any,
    cones: Any,
    x: Any,
    y: Any = None,
    s: Any = None,
    settings: Settings | None = None,
    backend: str = "auto",
    polish: bool = False,
) -> Solution:
    """The `Solution` of points that are already known: checked, and with derivatives.

    The problems are those of `solve`; x, y and s may come from any solver. What is missing is found: s is the
    projection of b − A x onto K; y minimises ‖P x + q + Aᵀy‖ over the y in K* that are complementary to s, where what
    counts as active is found with a tolerance that grows as long as more active rows make the residual a tenth of what
    it was. Where multipliers are not unique, y is one choice; it is the one of least norm where that lies in K*.

    Nothing is believed. `primal_residual` is the larger of ‖A x + s − b‖∞ and the distance of s from K,
    `dual_residual` of ‖P x + q + Aᵀy‖∞ and the distance of y from K*, `gap` is |primal − dual objective|, all in the
    problem's own units. From these, row by row relative to the row's terms or one, comes the status:

    - SOLVED: the tolerances of the settings are met, by the test that a solve makes of its own points.
    - ALMOST_SOLVED: residuals of 1e-4 and a gap of 5e-5 are met, relative likewise. Derivatives are given.
    - MAX_ITERATIONS: neither is. `Settings(on_failure=…)` says what stands in x, y, s and obj; derivatives are zero.
    - INVALID_DATA: the data or the point of this problem hold NaN or an infinity.

    An interior point's x alone is good to 1e-4 or so beside curved cones when its gap is 1e-8, and multipliers that are
    complementary to such a slack leave a residual like it: pass its y and s as well, or polish.

    Derivatives at a point with errors of ε are off by about ε times their own condition, and a kink nearer than ε
    (√ε where an interior point stopped beside it) is not seen by `margin`. `polish=True` takes both away: each point is
    a warm start of `solve`, and the result exactly as good as that of `solve`, also where the point was wrong.

    Args:
        P: [B, n, n] or None, as in `solve`.
        q: [B, n].
        A: [B, m, n]; may be None when the cones have no rows.
        b: [B, m]; likewise.
        cones: as in `solve`.
        x: [B, n] minimisers; any of x, y and s may come without the batch axis.
        y: [B, m] multipliers, or None.
        s: [B, m] slacks, or None; anything in rows that +inf in b leaves out.
        settings: tolerances for the status, and everything for `polish`; `check_convex` is looked at there alone, and
            otherwise P believed to be positive semidefinite.
        backend: computes the derivatives, as in `solve`.
        polish: solve from that point.

    Returns:
        A `Solution` with the given point (rounded to the element type of the data) in the caller's kind of array. Its
        `iterations` are 0 unless polished. torch tensors x, y, s and obj take part in autograd as functions of P, q, A
        and b; through the given x, y and s nothing flows.

    Raises:
        ArgumentError: as `solve`, also for x, y and s.
        BackendError: no backend can take the problem.
        SolveError: `Settings(on_failure="raise")`, and a point is no solution.

    Cost: O(B n (n + m)) for the checks, which run on the host: data on a GPU are copied there, which waits for it.
    Missing multipliers are a least-squares problem for each item, one after another (some 0.5 ms for a small one).

    Source: Agrawal et al. 2019 (the derivative needs a point, not the solver); Magoon et al. 2024 (missing duals of
    QPs).
    """
    foreign = surface(P, q, A, b, x, y, s)
    if foreign is not None:
        return foreign.differentiate(P, q, A, b, cones, x, y, s, settings, backend, polish)
    settings = as_settings(settings)
    return finish(_differentiated(P, q, A, b, cones, (x, y, s), settings, backend, polish), settings)


def _differentiated(
    P: Any,
    q: Any,
    A: Any,
    b: Any,
    cones: Any,
    point: tuple[Any, Any, Any],
    settings: Settings,
    backend: str,
    polish: bool,
) -> Solution:
    problem, parts = _checked(as_problem(P, q, A, b, cones), point)
    chosen = select(problem, backend).backend
    method = choose(settings, problem, chosen, False)
    data = [None if (array := problem.data(name)) is None else to_host(array) for name in DATA]
    host = on_host(problem, data)
    host = check_symmetry(host)
    with np.errstate(over="ignore", invalid="ignore"):  # numbers that overflow end as a status
        result, valid = judged(host, settings, [None if part is None else to_host(part) for part in parts])
    if not polish:
        mark_failures(result, settings)
        result.backend, result.method = chosen.name, method
        return Solution(ConeLinearization(problem, settings, placed(result, problem), chosen))
    # A start that is not finite would be ignored and the problem solved; here it is a fault of that problem alone.
    start = replace(result, status=np.where(valid, Status.SOLVED, Status.INVALID_DATA).astype(np.int8))
    solution = run(problem, replace(settings, polish=True), backend, Remembered(placed(start, problem)))
    if valid.all():
        return solution
    mark_failures(result, settings)
    both = merged(solution.linearization.result, result, valid)
    return Solution(ConeLinearization(problem, settings, placed(both, problem), chosen))


def _checked(problem: Problem, point: tuple[Any, Any, Any]) -> tuple[Problem, list[Array | None]]:
    """The problem with the batch of data and point together, and x, y and s as arrays.

    Raises:
        ArgumentError: a subclass of it.
    """
    n, m = problem.n, problem.m
    parts: list[Array | None] = []
    for name, value, extent, why in zip(
        "xys", point, (n, m, m), (f"n={n} from q", *[f"m={m} rows of the cones"] * 2), strict=True
    ):
        if value is None and name != "x":
            parts.append(None)
            continue
        array = as_array(name, value)
        check_shape(name, array, (extent,), why)
        parts.append(array)
    check_places([("q", problem.q), *zip("xys", parts, strict=True)])
    every = [(name, problem.data(name), CORE[name]) for name in DATA]
    batch, batched = common_batch([*every, *((name, part, 1) for name, part in zip("xys", parts, strict=True))])
    return replace(problem, batch=batch, batched=batched), parts


def check_symmetry(host: Host) -> Host:
    """See that P is symmetric, as a solve does: an error for data on the host, for those of a GPU a fault of the item.

    Raises:
        DataError: it is not.
    """
    if host.P is None:
        return host
    finite = np.where(np.isfinite(host.P), host.P, 0)
    difference = np.abs(finite - finite.transpose(0, 2, 1)).max(axis=(1, 2), initial=0)
    lopsided = difference > _ASYMMETRY[host.problem.dtype] * np.abs(finite).max(axis=(1, 2), initial=0)
    if lopsided.any() and host.problem.device is None:
        raise asymmetry(host.problem, int(np.argmax(lopsided)))
    return host._replace(valid=host.valid & ~lopsided)


def judged(host: Host, settings: Settings, parts: list[Array | None]) -> tuple[Result, Array]:
    """A result [B, …] with the completed point, and which problems are finite."""
    problem, present = host.problem, host.present
    n, m, dtype = problem.n, problem.m, problem.dtype
    valid = host.valid.copy()
    wide: list[Array | None] = []
    for part, extent in zip(parts, (n, m, m), strict=True):
        if part is None:
            wide.append(None)
            continue
        # As the derivative will see it: in the problem's element type.
        values = np.array(np.broadcast_to(part.astype(dtype), (host.batch, extent)), np.float64)
        if wide:  # y and s, where absent rows hold what they like
            values = np.where(present, values, 0)
        finite = np.isfinite(values)
        valid &= finite.all(axis=1)
        wide.append(np.where(finite, values, 0))
    # A problem that is not finite is judged with zeros in its place: it may not disturb the others.
    clean = host if valid.all() else _cleaned(host)
    x, y, s = wide
    assert x is not None
    if s is None:
        room = clean.b - product(clean.A, x, m).value
        s = projected(np.where(present, room, 0), problem.cones, False)
    if y is None:
        y = recover(clean, x, np.where(present, s, np.inf))
    found = check(clean, settings, x, y, s)
    margin = margins(*balanced(clean, y, np.where(present, s, np.inf)), problem.cones)
    status = np.where(valid, found.status, np.int8(Status.INVALID_DATA)).astype(np.int8)
    s = np.where(present, s, np.inf)
    scalars = [found.obj, found.primal_residual, found.dual_residual, found.gap, margin]
    obj, primal, dual, gap, margin = (np.where(valid, values, np.nan).astype(dtype) for values in scalars)
    x, y, s = (values.astype(dtype) for values in (x, y, s))
    return Result(x, y, s, obj, status, np.zeros(host.batch, np.int32), primal, dual, gap, margin, Work()), valid


def _cleaned(host: Host) -> Host:
    """The same with zeros for whatever is not finite."""
    P = None if host.P is None else np.where(np.isfinite(host.P), host.P, 0)
    q, A, b = (np.where(np.isfinite(array), array, 0) for array in (host.q, host.A, host.b))
    return host._replace(P=P, q=q, A=A, b=b)


def mark_failures(result: Result, settings: Settings) -> None:
    """What stands in the point of a problem that it does not solve."""
    failed = ~keeps_point(result.status)
    for values in (result.x, result.y, result.s, result.obj):
        values[failed] = 0 if settings.on_failure == "zero" else np.nan


def merged(polished: Result, given: Result, valid: Array) -> Result:
    """The polished result, on the host [B, …], and the given one where that was not valid."""
    arrays: dict[str, Any] = {}
    for name in _FIELDS:
        ours, theirs = getattr(given, name), to_host(getattr(polished, name)).reshape(getattr(given, name).shape)
        arrays[name] = np.where(valid.reshape(-1, *[1] * (ours.ndim - 1)), theirs, ours)
    return replace(polished, **arrays)


def placed(result: Result, problem: Problem) -> Result:
    """A result [B, …] on the host as one of the problem: with its batch axis or without, and where its data lie."""
    arrays: dict[str, Any] = {}
    there: Any = problem.q
    for name in _FIELDS:
        values = getattr(result, name)
        values = np.ascontiguousarray(values).reshape((*problem.lead, *values.shape[1:]))
        arrays[name] = there.package.from_host(values, there.device) if isinstance(there, DeviceArray) else values
    return replace(result, **arrays)
