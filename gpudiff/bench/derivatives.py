"""Derivatives: how well forward and reverse mode agree, and what they cost beside the solve and beside each other.

For every family: the adjoint identity ⟨x̄, Jẋ⟩ = ⟨Jᵀx̄, ẋ⟩, and a reverse pass as a share of the solve and it
together, with the error of the gradient beside it. For one dense QP: ten cotangents at once beside one and beside ten
calls. What goes through torch (derivatives of derivatives, a training step) is measured by training.py.

What is compared is called in turn, repeat after repeat; a ratio is the median over repeats of ratios within one.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from gpudiff.bench import training
from gpudiff.bench.families import Array, Batch, Family, generate
from gpudiff.bench.measure import Plan, gradient_error, interleaved, truth
from gpudiff.bench.solver import Gradients

DATA = ("P", "q", "A", "b")
POINT = ("x", "y", "s", "obj")
DIRECTIONS = 10  # cotangents at once
SEVERAL = "qp-32-72"  # the family that has them
_MOST = 512  # problems of it, or the cotangents of A, 10 for each, would fill the memory


def derivatives(families: list[Family], plan: Plan, backend: str, threads: int) -> dict[str, Any]:
    """Everything about derivatives.

    Args:
        families: Those to look at; what is measured on one family alone is left out if it is not among them.
        plan: How much to measure.
        backend: Of gpudiff.
        threads: Of gpudiff, and of torch.

    Returns:
        "adjoint", "backward" and "several" (lists of what the functions of these names return), and what
        ``training.through_torch`` returns.
    """
    run = _solver(backend, threads)
    return {
        "adjoint": [adjoint(family, plan, run) for family in families],
        "backward": [backward(family, plan, run) for family in families],
        "several": [each for family in families if family.name == SEVERAL for each in several(family, plan, run)],
        **training.through_torch(families, plan, backend, threads),
    }


def _solver(backend: str, threads: int) -> Callable[[Batch], Any]:
    """``gd.solve`` of a batch."""
    import gpudiff as gd

    settings = gd.Settings(threads=threads)
    return lambda batch: gd.solve(batch.P, batch.q, batch.A, batch.b, batch.cones, settings, backend)


def adjoint(family: Family, plan: Plan, run: Callable[[Batch], Any]) -> dict[str, Any]:
    """How far ⟨x̄, ẋ⟩ is from ⟨P̄, Ṗ⟩ + … for random tangents of all data and cotangents of x, y, s and obj.

    Args:
        family: The case.
        plan: Of which the seed and the batch count.
        run: A batch to its solution.

    Returns:
        A dictionary with family, problems, unsolved and max and median of the difference, relative to the sum of
        ‖·‖‖·‖ over all these products. P and A of a family that shares them are given to each problem.
    """
    batch = separate(_batch(family, plan))
    rng = np.random.default_rng([plan.seed, 2])
    sol = run(batch)
    dots = {name: rng.standard_normal(data.shape) for name in DATA if (data := getattr(batch, name)) is not None}
    if "P" in dots:
        dots["P"] = dots["P"] + dots["P"].swapaxes(1, 2)
    bars = {name: rng.standard_normal(getattr(sol, name).shape) for name in POINT}
    moved, pulled = sol.jvp(**dots), sol.vjp(**bars)
    forward = [(bar, getattr(moved, name)) for name, bar in bars.items()]
    reverse = [(getattr(pulled, name), dot) for name, dot in dots.items()]
    difference = _sum(_product(*pair) for pair in forward) - _sum(_product(*pair) for pair in reverse)
    size = _sum(_length(one) * _length(other) for one, other in (*forward, *reverse))
    errors = (np.abs(difference) / np.where(size > 0, size, 1.0))[np.asarray(sol.ok)]
    return {
        "family": family.name,
        "problems": batch.size,
        "unsolved": batch.size - len(errors),
        "max": float(errors.max(initial=0.0)),
        "median": float(np.median(errors)) if len(errors) else 0.0,
    }


def separate(batch: Batch) -> Batch:
    """The batch with P and A for each problem."""

    def own(M: Array | None) -> Array | None:
        return None if M is None else np.array(np.broadcast_to(M, (batch.size, *M.shape[-2:])))

    A = own(batch.A)
    assert A is not None
    return Batch(own(batch.P), batch.q, A, batch.b, batch.cones)


def _flat(array: Any) -> Array:
    found = np.asarray(array, np.float64)
    return found.reshape(len(found), -1)


def _product(one: Any, other: Any) -> Array:
    return np.einsum("ij,ij->i", _flat(one), _flat(other))


def _length(array: Any) -> Array:
    return np.linalg.norm(_flat(array), axis=1)


def _sum(terms: Iterable[Array]) -> Array:
    return np.sum(list(terms), axis=0)


def backward(family: Family, plan: Plan, run: Callable[[Batch], Any]) -> dict[str, Any]:
    """What a reverse pass to all data takes beside the solve.

    Args:
        family: The case.
        plan: How much to measure.
        run: A batch to its solution.

    Returns:
        A dictionary with family, n, m, batch, method (that solved), forward and backward (problems per second), share
        (of the reverse pass in the time of both) and share_range, and max and median of the gradients' error against
        the exact reference.
    """
    batch = _batch(family, plan)
    x_bar = np.random.default_rng([plan.seed, 1]).standard_normal(batch.q.shape)
    sol = run(batch)
    bar = sol.vjp(x=x_bar)
    found, exact = Gradients(bar.q, bar.b, bar.A, bar.P), truth(batch, x_bar, plan.sample)
    errors = [gradient_error(found, one, i, batch.shared) for i, one in enumerate(exact.gradients)]
    seconds = interleaved({"forward": lambda: run(batch), "backward": lambda: sol.vjp(x=x_bar)}, plan)
    shares = [back / (ahead + back) for ahead, back in zip(seconds["forward"], seconds["backward"], strict=True)]
    return {
        "family": family.name,
        "n": batch.n,
        "m": batch.m,
        "batch": batch.size,
        "method": sol.method,
        "forward": batch.size / statistics.median(seconds["forward"]),
        "backward": batch.size / statistics.median(seconds["backward"]),
        "share": statistics.median(shares),
        "share_range": (min(shares), max(shares)),
        "gradient_error_max": max(errors),
        "gradient_error_median": statistics.median(errors),
    }


def several(family: Family, plan: Plan, run: Callable[[Batch], Any]) -> list[dict[str, Any]]:
    """Ten cotangents of x at once beside one of them, and beside ten calls.

    Args:
        family: The case.
        plan: How much to measure.
        run: A batch to its solution.

    Returns:
        Dictionaries with family, batch, wrt (the data whose cotangents are asked for: all, where writing those of A
        counts, or q and b), one (microseconds per problem), ratio (of ten at once to one), calls_ratio (of ten calls to
        ten at once), ranges of both, and same_bits (whether each has the bits that it has alone).
    """
    batch = _batch(family, plan)
    batch = batch.take(0, min(batch.size, _MOST))
    bars = np.random.default_rng([plan.seed, 3]).standard_normal((DIRECTIONS, *batch.q.shape))
    sol = run(batch)
    found: list[dict[str, Any]] = []
    for wrt in (DATA, ("q", "b")):

        def at_once(wrt: tuple[str, ...] = wrt) -> Any:
            return sol.vjp(x=bars, wrt=wrt)

        def each(wrt: tuple[str, ...] = wrt) -> list[Any]:
            return [sol.vjp(x=bar, wrt=wrt) for bar in bars]

        def one(wrt: tuple[str, ...] = wrt) -> Any:
            return sol.vjp(x=bars[0], wrt=wrt)

        together, alone = at_once(), each()
        same = all(np.array_equal(getattr(together, k)[i], getattr(alone[i], k)) for k in wrt for i in range(len(bars)))
        del together, alone
        seconds = interleaved({"one": one, "at_once": at_once, "each": each}, plan)
        ratio = [ten / single for ten, single in zip(seconds["at_once"], seconds["one"], strict=True)]
        calls = [loop / ten for loop, ten in zip(seconds["each"], seconds["at_once"], strict=True)]
        found.append(
            {
                "family": family.name,
                "batch": batch.size,
                "wrt": "".join(wrt),
                "one": 1e6 * statistics.median(seconds["one"]) / batch.size,
                "ratio": statistics.median(ratio),
                "ratio_range": (min(ratio), max(ratio)),
                "calls_ratio": statistics.median(calls),
                "calls_ratio_range": (min(calls), max(calls)),
                "same_bits": same,
            }
        )
    return found


def _batch(family: Family, plan: Plan) -> Batch:
    return generate(family, plan.batch or family.batch, plan.seed)
