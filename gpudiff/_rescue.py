"""`Settings(rescue=True)`: what a backend could not solve is solved again on the host, problem by problem.

First by the interior point of the CPU backend, then, where that fails as well, by Clarabel, whose point is polished by
the CPU backend if it can be. It is for the few: problems are taken off the device and put back one batch of failures at
a time, and Clarabel runs one problem after another.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from gpudiff._clarabel import STATUS, ClarabelForm, clarabel_form, clarabel_settings
from gpudiff._device import DeviceArray, to_host
from gpudiff._errors import DataError
from gpudiff._problem import CORE, DATA, FLOAT64, Array, Problem, has_batch
from gpudiff._settings import Settings
from gpudiff._solution import Result, Work
from gpudiff._status import Status, keeps_point
from gpudiff.backends import Start
from gpudiff.backends.cpu import CpuBackend

_FAILED = (Status.MAX_ITERATIONS, Status.TIME_LIMIT, Status.NUMERICAL_ERROR)
_FIELDS = ("x", "y", "s", "obj", "primal_residual", "dual_residual", "gap", "margin", "status", "iterations")
_TIGHT = 1e-9  # what Clarabel is asked for: the point is only as good as its tolerance where it cannot be polished
_CERTIFICATES = (Status.PRIMAL_INFEASIBLE, Status.DUAL_INFEASIBLE)
_ANSWERS = (Status.SOLVED, Status.ALMOST_SOLVED, *_CERTIFICATES)


def rescue(problem: Problem, settings: Settings, result: Result, backend: str) -> int:
    """Solve the failed problems of a result again and write what comes of it into the result; waits for a device.

    Args:
        problem: the batch.
        settings: those of the solve.
        result: what it gave; its arrays are written to.
        backend: the name of what ran.

    Returns:
        How many problems are answered now that were not: solved, or shown to be infeasible or unbounded.
    """
    failed = np.flatnonzero(np.isin(np.atleast_1d(to_host(result.status)), _FAILED))
    if failed.size == 0:
        return 0
    part = _part(problem, failed)
    careful = replace(settings, max_iter=max(settings.max_iter, Settings.max_iter), polish=True)
    cpu = CpuBackend()
    again = np.arange(failed.size)
    answer: Result | None = None
    if backend != cpu.name or careful != settings:
        try:
            answer = cpu.solve(part, careful, None)
        except DataError:  # asymmetric to the CPU backend and not to the other: leave all as it is
            return 0
        again = np.flatnonzero(np.isin(answer.status, _FAILED))
    if answer is None:
        answer = _empty(part)
    for i in again:
        _solve_with_clarabel(part, careful, answer, int(i))
    good = np.flatnonzero(~np.isin(answer.status, (0, *_FAILED)))
    if settings.on_failure == "zero":
        for values in (answer.x, answer.y, answer.s, answer.obj):
            values[~keeps_point(answer.status)] = 0
    if good.size:
        _scatter(result, answer, failed[good], good)
    return int(good.size)


def _part(problem: Problem, index: Array) -> Problem:
    """These problems of a batch, on the host."""
    arrays: dict[str, Any] = {}
    for name in DATA:
        array = problem.data(name)
        if array is None:
            arrays[name] = None
        elif has_batch(array, CORE[name], problem.batch):
            arrays[name] = to_host(array[index])
        else:
            arrays[name] = to_host(array)
    rest = (problem.cones, index.size, True, problem.n, problem.m, problem.dtype)
    return Problem(arrays["P"], arrays["q"], arrays["A"], arrays["b"], *rest)


def _empty(part: Problem) -> Result:
    """A result in which nothing is answered (status 0)."""
    B, n, m, dtype = part.batch, part.n, part.m, part.dtype
    obj, primal, dual, gap, margin = np.zeros((5, B), dtype)
    x, y, s = np.zeros((B, n), dtype), np.zeros((B, m), dtype), np.zeros((B, m), dtype)
    return Result(x, y, s, obj, np.zeros(B, np.int8), np.zeros(B, np.int32), primal, dual, gap, margin, Work())


def _scatter(result: Result, answer: Result, into: Array, taken: Array) -> None:
    """Write the answers at `taken` to the places `into` of a result, wherever it lies."""
    alone = result.status.ndim == 0  # a problem without a batch axis
    for name in _FIELDS:
        target, values = getattr(result, name), getattr(answer, name)[taken]
        index: Any = ... if alone else into
        if name == "iterations":
            values = values + np.atleast_1d(to_host(target))[into]
        if alone:
            values = values[0, ...]
        if isinstance(target, DeviceArray):
            values = target.package.from_host(np.ascontiguousarray(values).reshape(np.shape(values)), target.device)
        target[index] = values


def _solve_with_clarabel(part: Problem, settings: Settings, answer: Result, i: int) -> None:
    """Try problem i with Clarabel and write what it says into the answer, if it says anything."""
    P, q, A, b = (_item(part, name, i) for name in DATA)
    present = np.isfinite(b)
    form = clarabel_form(part.cones)
    found = _clarabel(P, q, A, b, form, settings)
    status = STATUS.get(str(found.status))
    if status not in _ANSWERS:
        return
    x, y, s = (np.array(values, dtype=FLOAT64) for values in (found.x, found.z, found.s))
    y, s = form.multiplier(y), form.slack(s)
    y, s = np.where(present, y, 0), np.where(present, s, np.inf)
    answer.status[i], answer.iterations[i] = status, found.iterations
    if status in _CERTIFICATES:
        primal = status is Status.PRIMAL_INFEASIBLE
        nothing = np.full(1, np.nan)
        scale = -1 / (b[present] @ y[present] if primal else q @ x)
        point = (nothing, scale * y, nothing) if primal else (scale * x, nothing, scale * s)
        scalars = (np.inf if primal else -np.inf, np.nan, np.nan, np.nan, np.nan)
    else:
        start = Start(*(values.astype(part.dtype) for values in (x, y, s)))
        polished = CpuBackend().solve(_part(part, np.array([i])), settings, start)
        if keeps_point(polished.status)[0]:
            _scatter(answer, polished, np.array([i]), np.array([0]))
            return
        Px = P @ x
        finite = np.where(present, b, 0)
        primal_residual = np.abs(A @ x + np.where(present, s, 0) - finite)[present].max(initial=0)
        gap = abs(x @ Px + q @ x + finite @ y)
        # How far the point is from a kink is not known: nobody is to trust its derivative.
        point = (x, y, s)
        scalars = (x @ Px / 2 + q @ x, primal_residual, np.abs(Px + q + A.T @ y).max(initial=0), gap, 0.0)
    answer.x[i], answer.y[i], answer.s[i] = point
    answer.obj[i], answer.primal_residual[i], answer.dual_residual[i], answer.gap[i], answer.margin[i] = scalars


def _item(part: Problem, name: str, i: int) -> Array:
    """An argument of problem i in double precision, zeros where there is none."""
    array = part.data(name)
    if array is None:
        return np.zeros({"P": (part.n, part.n), "A": (part.m, part.n)}.get(name, (part.m,)))
    if array.ndim > CORE[name]:
        array = array[i if array.shape[0] != 1 else 0]
    return array.astype(FLOAT64)


def _clarabel(P: Array, q: Array, A: Array, b: Array, form: ClarabelForm, settings: Settings) -> Any:
    from scipy import sparse  # neither before it is needed: importing gpudiff stays fast

    clarabel: Any = import_module("clarabel")
    upper, rows = sparse.csc_matrix(np.triu(P)), sparse.csc_matrix(form.rows(sparse.csc_matrix(A)))
    options = clarabel_settings(settings, _TIGHT)
    return clarabel.DefaultSolver(upper, q, rows, form.rows(b), form.cones, options).solve()
