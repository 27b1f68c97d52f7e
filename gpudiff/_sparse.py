"""`solve` where P or A is sparse: read, choose a backend, wrap. `gpudiff.solve` finds its way here.

Large problems go to Clarabel. Small ones are solved as dense arrays by the kernels, where those are faster
(`gpudiff._crossover`); derivatives are then computed densely, too, and read off at the stored entries.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpudiff._crossover import densify
from gpudiff._derivative import POINT, item
from gpudiff._dispatch import candidates
from gpudiff._errors import SettingsError, ShapeError
from gpudiff._matrices import DenseMatrices, Matrices, SparseBatch, is_sparse, read
from gpudiff._problem import DATA, Array, Problem, as_array, as_directions, chosen
from gpudiff._settings import Settings, as_settings
from gpudiff._solution import Block, Cotangents, Linearization, Result, Solution, Tangents
from gpudiff._solve import finish, run
from gpudiff._sparse_problem import SparseProblem, as_sparse_problem


def solve(
    P: Any,
    q: Any,
    A: Any = None,
    b: Any = None,
    cones: Any = (),
    settings: Settings | None = None,
    backend: str = "auto",
    warm_start: Solution | None = None,
) -> Solution:
    """`gpudiff.solve` where P or A is sparse.

    Raises:
        ArgumentError: as there.
        BackendError: as there.
        SolveError: as there.
    """
    settings = as_settings(settings)
    if settings.failed_derivatives != "zero":
        got = f"got {settings.failed_derivatives!r}"
        raise SettingsError(f"failed_derivatives: expected 'zero', the only choice for sparse problems, {got}")
    problem = as_sparse_problem(P, q, A, b, cones)
    candidates(backend)
    name, why = backend, "asked for by name"
    if backend == "auto":
        reason = None if settings.time_limit is None else "it alone keeps to a time limit"
        dense, measured = densify(problem) if reason is None else (False, reason)
        if settings.smoothing is not None:
            dense, measured = True, "Clarabel has no smoothing"
        missing = candidates("cpu")[0].why_unavailable() if dense else None
        if missing is not None:
            dense, measured = False, f"cpu: {missing}"
        name, why = ("cpu" if dense else "clarabel"), measured
    if name == "clarabel":
        careful = replace(settings, rescue=False) if settings.rescue else settings  # the rescue is Clarabel
        done = run(problem, careful, name, warm_start).linearization  # pyright: ignore[reportArgumentType]
        linearization: Any = SparseLinearization(problem, settings, done.result, candidates(name)[0])
    else:
        done = run(_dense(problem), settings, name, warm_start).linearization
        linearization = DensifiedLinearization(problem, done)
    done.result.why = why
    return finish(Solution(linearization), settings)


@dataclass(slots=True, eq=False)
class SparseLinearization:
    """The derivative of a sparse problem's solution map, by the sparse system."""

    problem: SparseProblem
    settings: Settings
    result: Result
    backend: Any

    @property
    def point(self) -> Result | Block:
        """Where the solve ended, without the data of the problem."""
        return self.result

    def field(self, name: str) -> Any:
        """A field of `Outcome`."""
        value = getattr(self.result, name)
        return value if isinstance(value, str) else item(value)

    def describe(self) -> str:
        """Sizes for a message."""
        return self.problem.describe()

    def jvp(self, tangents: dict[str, Any]) -> Tangents:
        """Tangents of the data, by name (None for zero), to those of the solution."""
        dots, directions = _tangents(self.problem, tangents)
        found = self.backend.jvp(self.problem, self.settings, self.result, dots, directions)
        return Tangents(*(item(dot) for dot in found))

    def vjp(self, cotangents: dict[str, Any], wrt: Iterable[str]) -> Cotangents:
        """Cotangents of the solution, by name (None for zero), to those of the data in `wrt`."""
        problem: Any = self.problem
        cores = {name: getattr(self.result, name).shape[len(problem.lead) :] for name in POINT}
        bars, directions = as_directions(((name, cotangents.get(name), core) for name, core in cores.items()), problem)
        names = chosen(wrt, DATA, "wrt")
        return Cotangents(**self.backend.vjp(problem, self.settings, self.result, bars, names, directions))

    def unique(self) -> Any:
        """Not looked at: the sparse factor answers what has many answers by one of them."""
        return True


@dataclass(slots=True, eq=False)
class DensifiedLinearization:
    """The same for a sparse problem that was solved as a dense one."""

    problem: SparseProblem
    inner: Linearization[Tangents, Cotangents]

    @property
    def settings(self) -> Settings:
        """How it was solved."""
        return self.inner.settings

    @property
    def result(self) -> Result:
        """The solution as the backend left it."""
        return self.inner.result

    @property
    def point(self) -> Result | Block:
        """Where the solve ended, without the data of the problem."""
        return self.inner.point

    def field(self, name: str) -> Any:
        """A field of `Outcome`."""
        return self.inner.field(name)

    def describe(self) -> str:
        """Sizes for a message."""
        return self.problem.describe()

    def unique(self) -> Any:
        """Where derivatives are those of a function."""
        return self.inner.unique()

    def jvp(self, tangents: dict[str, Any]) -> Tangents:
        """Tangents of the data, by name (None for zero), to those of the solution."""
        dots, _ = _tangents(self.problem, tangents)
        dense = (dot if dot is None or isinstance(dot, np.ndarray) else _stacked(dot) for dot in dots)
        return self.inner.jvp(dict(zip(DATA, dense, strict=True)))

    def vjp(self, cotangents: dict[str, Any], wrt: Iterable[str]) -> Cotangents:
        """Cotangents of the solution, by name (None for zero), to those of the data in `wrt`."""
        bar = self.inner.vjp(cotangents, wrt)
        return replace(bar, P=_on_pattern(self.problem.P, bar.P), A=_on_pattern(self.problem.A, bar.A))


def _tangents(problem: SparseProblem, tangents: dict[str, Any]) -> tuple[list[Any], int | None]:
    """Tangents of the data, and how many directions those of the vectors are; see `as_directions`."""
    dots = {name: _tangent(problem, name, tangents.get(name)) for name in DATA}
    whole: Any = problem
    vectors = [(name, dot, problem.data(name).shape[-1:]) for name, dot in dots.items() if isinstance(dot, np.ndarray)]
    arrays, directions = as_directions(vectors, whole)
    for (name, _, _), array in zip(vectors, arrays, strict=True):
        dots[name] = array
    return list(dots.values()), directions


def _tangent(problem: SparseProblem, name: str, value: Any) -> Any:
    """A tangent: vectors as arrays, matrices as `Matrices`.

    Raises:
        ArgumentError: a subclass of it, with a message that names the argument.
    """
    if value is None:
        return None
    data = problem.data(name)
    if data is None:
        raise ShapeError(f"{name}: expected no tangent, for the problem was solved with {name}=None")
    if isinstance(data, np.ndarray):
        return as_array(name, value)
    pattern = getattr(data, "batch", None)
    if isinstance(pattern, SparseBatch) and not is_sparse(value) and np.ndim(value) <= 2:
        own = np.shape(value)[-1:] == pattern.values.shape[-1:]  # values on the argument's own pattern
        value = SparseBatch(pattern.pattern, value) if own else value
    dot = read(name, value, data.shape, f"that of {name}")
    if dot.batched and dot.count not in (1, problem.batch):
        raise ShapeError(f"{name}: expected one tangent or {problem.batch} of them, got {dot.count}")
    return dot


def _dense(problem: SparseProblem) -> Problem:
    """A sparse problem as a dense one."""
    P, A = (
        None if matrices is None else _stacked(matrices).astype(problem.dtype, copy=False)
        for matrices in (problem.P, problem.A)
    )
    q, b = (None if vector is None else vector.astype(problem.dtype, copy=False) for vector in (problem.q, problem.b))
    assert q is not None
    rest = (problem.cones, problem.batch, problem.batched, problem.n, problem.m, problem.dtype)
    return Problem(P, q, A, b, *rest)


def _stacked(matrices: Matrices) -> Array:
    """[r, c], or [B, r, c] with a batch axis."""
    if isinstance(matrices, DenseMatrices):
        return matrices.array
    if not matrices.batched:
        return matrices.csc(0).toarray()
    each = [matrices.csc(i).toarray() for i in range(matrices.count)]
    return np.stack(each) if each else np.zeros((0, *matrices.shape))


def _on_pattern(matrices: Matrices | None, bar: Array | None) -> Any:
    """A dense cotangent, read off at the stored entries."""
    if matrices is None or bar is None:
        return None
    if isinstance(matrices, DenseMatrices):
        return bar
    if bar.ndim - 2 > matrices.batched:
        raise ShapeError("P and A: expected one direction at a time where a cotangent is sparse; see `wrt`")
    each = bar if bar.ndim == 3 else bar[None]
    return matrices.give([matrices.at(i, one) for i, one in enumerate(each)])
