"""torch tensors: `solve`, `solve_qp`, `solve_forms` and `project` as differentiable functions, and `svec` and `smat`.

The only package of gpudiff that imports torch. `gpudiff.solve` finds its way here when it is given a tensor, so nobody
needs to import this. Tensors are handed to the kernels where they lie and results come back the same way. On a GPU all
of it, backward passes included, runs on torch's current stream, in memory of torch's allocator, without waiting; for a
solution that is used on another stream than its own torch's usual rules hold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.autograd.function import once_differentiable

from gpudiff import _qp, _solve
from gpudiff import given as _given
from gpudiff._arrays import exposes_cuda
from gpudiff._foreign import foreign_solution, solved
from gpudiff._problem import Array
from gpudiff._settings import Settings
from gpudiff._solution import Outcome, Solution
from gpudiff._svec import layout, order_of_matrix, order_of_vector
from gpudiff.forms.solve import Flat, FormsSolution, flattened, solve_flat
from gpudiff.torch.arrays import as_tensor, canonical, to_caller, to_core, watched
from gpudiff.torch.project import project, project_derivative

__all__ = ["differentiate", "project", "project_derivative", "smat", "solve", "solve_forms", "solve_qp", "svec"]

OutcomeT = TypeVar("OutcomeT", bound=Outcome[Any, Any])


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
    """`gpudiff.solve` for torch tensors; x, y, s and obj take part in autograd.

    Arguments that are no tensors are constants. Backward computes the cotangents of those arguments alone that require
    them. Under autocast float16 and bfloat16 are computed in float32; otherwise they are refused.
    """

    def run(arrays: dict[str, Array | None]) -> Solution:
        return _solve.solve(**arrays, cones=cones, settings=settings, backend=backend, warm_start=warm_start)  # pyright: ignore[reportArgumentType]

    return _differentiable(run, {"P": P, "q": q, "A": A, "b": b})


def solve_qp(
    P: Any,
    q: Any,
    G: Any = None,
    h: Any = None,
    A: Any = None,
    b: Any = None,
    lb: Any = None,
    ub: Any = None,
    settings: Settings | None = None,
    backend: str = "auto",
    warm_start: _qp.QPSolution | None = None,
) -> _qp.QPSolution:
    """`gpudiff.solve_qp` for torch tensors; x, y, z, z_box and obj take part in autograd. See `solve`."""

    def run(arrays: dict[str, Array | None]) -> _qp.QPSolution:
        return _qp.solve_qp(**arrays, settings=settings, backend=backend, warm_start=warm_start)  # pyright: ignore[reportArgumentType]

    return _differentiable(run, {"P": P, "q": q, "G": G, "h": h, "A": A, "b": b, "lb": lb, "ub": ub})


def solve_forms(
    P: Any,
    q: Any,
    forms: Any,
    settings: Settings | None = None,
    backend: str = "auto",
    warm_start: FormsSolution | None = None,
) -> FormsSolution:
    """`gpudiff.solve_forms` for torch tensors; x, obj and each form's y and s take part in autograd. See `solve`."""
    flat = forms if isinstance(forms, Flat) else flattened(forms)

    def run(arrays: dict[str, Array | None]) -> FormsSolution:
        return solve_flat(arrays["P"], arrays["q"], flat.with_arrays(arrays), settings, backend, warm_start)

    return _differentiable(run, {"P": P, "q": q, **flat.arrays()})


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
    """`gpudiff.differentiate` for torch tensors; x, y, s and obj take part in autograd as functions of the data."""
    given = {"x": x, "y": y, "s": s}
    point = {name: None if part is None else to_core(canonical(name, part)) for name, part in given.items()}

    def run(arrays: dict[str, Array | None]) -> Solution:
        return _given.differentiate(**arrays, cones=cones, **point, settings=settings, backend=backend, polish=polish)

    return _differentiable(run, {"P": P, "q": q, "A": A, "b": b})


def svec(X: torch.Tensor) -> torch.Tensor:
    """`gpudiff.svec` for torch tensors, differentiable."""
    matrices = as_tensor("X", X)
    rows, columns, factors = layout(order_of_matrix(tuple(matrices.shape)))
    dtype = matrices.dtype if matrices.is_floating_point() else torch.float64
    return matrices[..., rows, columns] * torch.tensor(factors, dtype=dtype, device=matrices.device)


def smat(v: torch.Tensor) -> torch.Tensor:
    """`gpudiff.smat` for torch tensors, differentiable."""
    v = as_tensor("v", v)
    order = order_of_vector(tuple(v.shape))
    rows, columns, factors = layout(order)
    dtype = v.dtype if v.is_floating_point() else torch.float64
    values = v / torch.tensor(factors, dtype=dtype, device=v.device)
    places = torch.zeros(order, order, dtype=torch.int64, device=v.device)
    places[rows, columns] = places[columns, rows] = torch.arange(len(rows), device=v.device)
    return values[..., places]


@dataclasses.dataclass(slots=True, eq=False)
class _Call:
    """One solve on its way through autograd: what to run, on which arguments, and what came of it."""

    run: Callable[[dict[str, Array | None]], Outcome[Any, Any]]
    names: tuple[str, ...]
    absent: dict[str, None]
    solution: Outcome[Any, Any] | None = None

    def derivative(self) -> tuple[tuple[str, ...], Any]:
        """The fields that have derivatives, and the linearisation that gives them."""
        assert self.solution is not None
        return self.solution.POINT, self.solution.linearization


class _Solve(torch.autograd.Function):
    """The solution map as autograd sees it: tensors of the data in, the fields in `Outcome.POINT` out."""

    @staticmethod
    def forward(call: _Call, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Solve, and leave the whole solution in `call`."""
        arrays: dict[str, Array | None] = {name: to_core(t) for name, t in zip(call.names, tensors, strict=True)}
        call.solution = solution = solved(lambda: call.run({**arrays, **call.absent}), _direction, to_caller)
        # Autograd makes what leaves here part of its graph, which holds the call and so the solution: that must not
        # hold the graph in turn, nor must a `Solver` that remembers where the solution ended.
        return tuple(to_caller(getattr(solution, name)).detach() for name in solution.POINT)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        """Keep what derivatives need: the solution, and the tensors under autograd's watch for in-place changes."""
        call, *tensors = inputs
        ctx.call = call
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *bars: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Cotangents of the arguments that require them."""
        _ = ctx.saved_tensors  # raises if the data or the solution have been overwritten, which the call would not see
        fields, linearization = ctx.call.derivative()
        cotangents = {name: to_core(bar) for name, bar in zip(fields, bars, strict=True) if bar is not None}
        names: tuple[str, ...] = ctx.call.names
        needed: tuple[bool, ...] = ctx.needs_input_grad[1:]
        wrt = [name for name, need in zip(names, needed, strict=True) if need]
        if not cotangents or not wrt:
            return (None,) * (1 + len(names))
        bar = linearization.vjp(cotangents, wrt)
        return (None, *(to_caller(getattr(bar, name)) if name in wrt else None for name in names))

    @staticmethod
    def jvp(ctx: Any, *dots: Any) -> tuple[torch.Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Tangents of the solution."""
        fields, linearization = ctx.call.derivative()
        pairs = zip(ctx.call.names, dots[1:], strict=True)
        dot = linearization.jvp({name: to_core(value) for name, value in pairs if value is not None})
        return tuple(to_caller(getattr(dot, name)) for name in fields)


def _differentiable(run: Callable[[dict[str, Array | None]], OutcomeT], arguments: dict[str, Any]) -> OutcomeT:
    """Run a solve under autograd and give its solution back in tensors."""
    tensors = {name: canonical(name, value) for name, value in arguments.items() if value is not None}
    if len({tensor.dtype for tensor in tensors.values()}) > 1:
        # Widen here rather than further down: autograd then narrows the gradients again.
        tensors = {name: tensor.to(torch.float64) for name, tensor in tensors.items()}
    absent = {name: None for name, value in arguments.items() if value is None}
    call = _Call(run, tuple(tensors), absent)
    if not watched(tensors.values()):
        arrays = {name: to_core(tensor) for name, tensor in tensors.items()}
        solution: Any = solved(lambda: run({**arrays, **absent}), _direction, to_caller)
        return foreign_solution(solution, _direction, to_caller)
    outputs: Any = _Solve.apply(call, *tensors.values())
    solution = call.solution
    fields = dict(zip(solution.POINT, outputs, strict=True))
    return foreign_solution(solution, _direction, to_caller, **fields)


def _direction(name: str, value: Any) -> Any:
    """A tangent or cotangent as an array of the core; what is neither tensor nor array on a GPU is left to it."""
    if isinstance(value, torch.Tensor) or exposes_cuda(value):
        return to_core(canonical(name, value))
    return value
