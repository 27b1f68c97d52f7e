"""Whether the linearised optimality conditions at a solution have one solution for every right-hand side.

Where they do not, multipliers or minimisers are not unique (dependent active rows, an optimal face) and derivatives are
answers of least squares. No pivot of the kernels' factors tells: they condense the system, and regularise it. So it is
tried: a tangent that no structure knows of either satisfies the conditions, or it has a part that nothing can satisfy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpudiff._blocks import blocks
from gpudiff._cones import Nonnegative, Zero
from gpudiff._device import DeviceArray
from gpudiff._problem import Array, Problem, has_batch
from gpudiff._settings import Settings
from gpudiff._solution import Result
from gpudiff.backends import Backend

# What a tangent may leave of the conditions, relative to their terms: a solvable part leaves 1e-9 or less.
_TOLERANCE = {np.dtype(np.float64): 1e-5, np.dtype(np.float32): 1e-2}


def unique(problem: Problem, settings: Settings, result: Result, backend: Backend) -> Any:
    """Where derivatives are those of a function: bool, [B] or without axes; for data on a GPU True without a look.

    With smoothing True, too: a central point is unique, and so is its derivative.

    Cost: one forward derivative of the batch, and a few products with P and A.
    """
    if settings.smoothing is not None or isinstance(result.status, DeviceArray):
        return True
    n, m, dtype = problem.n, problem.m, problem.dtype
    # Numbers between 1 and 2 with no pattern, the same for all problems; of every sign, as lengths may cancel.
    q_dot, b_dot = _pattern(n, 0), _pattern(m, n)
    tangents = [None, q_dot.astype(dtype), None, b_dot.astype(dtype)]
    with np.errstate(all="ignore"):  # problems that failed hold what they like
        x_dot, y_dot, s_dot, _ = (
            np.asarray(dot, dtype=np.float64) for dot in backend.jvp(problem, settings, result, tangents, None)
        )
        lead = problem.lead
        terms = [np.broadcast_to(q_dot, (*lead, n)), _times(problem, "P", x_dot)]
        if m:
            terms.append(_times(problem, "A", y_dot, True))
        worst = _left(sum(terms), terms)
        if m:
            worst = np.maximum(worst, _rows_left(problem, result, backend, b_dot, x_dot, y_dot, s_dot))
    return np.asarray(worst <= _TOLERANCE[dtype])  # NaN is not


def _rows_left(
    problem: Problem, result: Result, backend: Backend, b_dot: Array, x_dot: Array, y_dot: Array, s_dot: Array
) -> Array:
    """What is left of A ẋ + ṡ = ḃ and ẏ = D(ẏ − ṡ)."""
    m = problem.m
    y, s = (np.asarray(values, dtype=np.float64).reshape(-1, m) for values in (result.y, result.s))
    absent = np.isinf(s)
    v = np.where(absent, -1, y - np.where(absent, 0, s))
    moved = np.ascontiguousarray(y_dot - s_dot).reshape(-1, m)
    curved = y_dot - backend.project(v, problem.cones, True, moved).reshape(y_dot.shape)
    Ax = _times(problem, "A", x_dot)
    slack = Ax + s_dot - b_dot
    lengths = np.maximum(np.abs(Ax), np.abs(b_dot))
    worst = np.zeros(problem.lead)
    for cone, rows in blocks(problem.cones.cones):
        if isinstance(cone, Zero):
            worst = np.maximum(worst, _left(slack[..., rows], [lengths[..., rows]]))
        elif isinstance(cone, Nonnegative):  # s̄ of an active row must vanish; an inactive one has none of y's
            active = (v > 0).reshape(slack.shape)[..., rows]
            worst = np.maximum(worst, _left(np.where(active, s_dot[..., rows], 0), [lengths[..., rows]]))
        else:
            size = np.max([np.abs(part[..., rows]) for part in (lengths, y_dot, s_dot)], axis=(0, -1))
            worst = np.maximum(worst, _left(curved[..., rows], [size[..., None]]))
    return worst


def _pattern(count: int, first: int) -> Array:
    fractions = np.modf(np.arange(first + 1, first + count + 1) * 0.6180339887498949)[0]
    return (1 + fractions) * np.where(np.modf(fractions * 7.38905609893065)[0] < 0.5, -1, 1)


def _times(problem: Problem, name: str, vector: Array, transposed: bool = False) -> Array:
    matrix = problem.data(name)
    if matrix is None:
        return np.zeros_like(vector)
    if matrix.ndim == 3 and not has_batch(matrix, 2, problem.batch):
        matrix = matrix[0]
    matrix = np.swapaxes(matrix, -1, -2) if transposed else matrix
    return np.matmul(matrix, vector[..., None])[..., 0]


def _left(rest: Any, terms: list[Array]) -> Array:
    """The largest entry of what is left, each relative to the largest of its terms [B]."""
    size = np.maximum.reduce([np.abs(term) for term in terms])
    return np.max(np.abs(rest) / np.where(size > 0, size, 1), axis=-1, initial=0)
