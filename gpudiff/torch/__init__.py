"""torch tensors: `solve` and `solve_qp` as differentiable functions, and `svec` and `smat`.

The only module that imports torch. `gpudiff.solve` finds its way here when it is given a tensor, so nobody needs to
import this. Tensors on the CPU are handed to the kernels where they lie, as NumPy views, and come back the same way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from gpudiff import _qp, _solve
from gpudiff._errors import DeviceError, DtypeError, ShapeError
from gpudiff._problem import Array
from gpudiff._settings import Settings
from gpudiff._solution import Outcome, Result, Solution
from gpudiff._svec import layout, order_of_matrix, order_of_vector

__all__ = ["smat", "solve", "solve_qp", "svec"]

OutcomeT = TypeVar("OutcomeT", bound=Outcome[Any, Any])
_FLOAT = (torch.float64, torch.float32)
_HALF = (torch.float16, torch.bfloat16)


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


def svec(X: torch.Tensor) -> torch.Tensor:
    """`gpudiff.svec` for torch tensors, differentiable."""
    rows, columns, factors = layout(order_of_matrix(tuple(X.shape)))
    dtype = X.dtype if X.is_floating_point() else torch.float64
    return X[..., rows, columns] * torch.tensor(factors, dtype=dtype, device=X.device)


def smat(v: torch.Tensor) -> torch.Tensor:
    """`gpudiff.smat` for torch tensors, differentiable."""
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
        arrays: dict[str, Array | None] = {name: _numpy(t) for name, t in zip(call.names, tensors, strict=True)}
        call.solution = call.run({**arrays, **call.absent})
        return tuple(_tensor(getattr(call.solution, name)) for name in call.solution.POINT)

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
        cotangents = {name: _numpy(bar) for name, bar in zip(fields, bars, strict=True) if bar is not None}
        names: tuple[str, ...] = ctx.call.names
        needed: tuple[bool, ...] = ctx.needs_input_grad[1:]
        wrt = [name for name, need in zip(names, needed, strict=True) if need]
        if not cotangents or not wrt:
            return (None,) * (1 + len(names))
        bar = linearization.vjp(cotangents, wrt)
        return (None, *(_tensor(getattr(bar, name)) if name in wrt else None for name in names))

    @staticmethod
    def jvp(ctx: Any, *dots: Any) -> tuple[torch.Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Tangents of the solution."""
        fields, linearization = ctx.call.derivative()
        pairs = zip(ctx.call.names, dots[1:], strict=True)
        dot = linearization.jvp({name: _numpy(value) for name, value in pairs if value is not None})
        return tuple(_tensor(getattr(dot, name)) for name in fields)


@dataclasses.dataclass(frozen=True, eq=False)
class _TensorLinearization:
    """A linearisation whose directions come and go as tensors."""

    inner: Any

    @property
    def result(self) -> Result:
        """The solution as NumPy arrays."""
        return self.inner.result

    def describe(self) -> str:
        """Sizes for a message."""
        return self.inner.describe()

    def jvp(self, tangents: dict[str, Any]) -> Any:
        """Tangents of the data, by name (None for zero), to those of the solution."""
        return _as_tensors(self.inner.jvp(_as_arrays(tangents)))

    def vjp(self, cotangents: dict[str, Any], wrt: Iterable[str]) -> Any:
        """Cotangents of the solution, by name (None for zero), to those of the data in `wrt`."""
        return _as_tensors(self.inner.vjp(_as_arrays(cotangents), wrt))


def _differentiable(run: Callable[[dict[str, Array | None]], OutcomeT], arguments: dict[str, Any]) -> OutcomeT:
    """Run a solve under autograd and give its solution back in tensors."""
    tensors = {name: _canonical(name, value) for name, value in arguments.items() if value is not None}
    if len({tensor.dtype for tensor in tensors.values()}) > 1:
        # Widen here rather than further down: autograd then narrows the gradients again.
        tensors = {name: tensor.to(torch.float64) for name, tensor in tensors.items()}
    absent = {name: None for name, value in arguments.items() if value is None}
    call = _Call(run, tuple(tensors), absent)
    outputs: Any = _Solve.apply(call, *tensors.values())
    solution: Any = call.solution
    fields = dict(zip(solution.POINT, outputs, strict=True))
    return _as_tensors(solution, **fields, linearization=_TensorLinearization(solution.linearization))


def _canonical(name: str, value: Any) -> torch.Tensor:
    """An argument as a strided tensor on the CPU in float64 or float32.

    Raises:
        DtypeError: sparse, or of another element type.
        DeviceError: it is on another device.
    """
    if not isinstance(value, torch.Tensor):
        try:
            value = torch.as_tensor(np.asarray(value))
        except (TypeError, ValueError, RuntimeError) as error:
            raise ShapeError(f"{name}: expected a tensor or an array of numbers, got {type(value).__name__}") from error
    if value.layout != torch.strided:
        raise DtypeError(f"{name}: expected a dense tensor, got layout {value.layout}; pass {name}.to_dense()")
    if value.device.type != "cpu":
        raise DeviceError(f"{name}: expected a tensor on the CPU, where this version computes, got {value.device}")
    if value.dtype in _FLOAT:
        return value
    if value.dtype in _HALF:
        if torch.is_autocast_enabled("cpu"):
            return value.to(torch.float32)
        raise DtypeError(f"{name}: expected float64, float32 or integers, got {value.dtype} (fine under autocast)")
    if value.is_complex():
        raise DtypeError(f"{name}: expected float64, float32 or integers, got {value.dtype}")
    return value.to(torch.float64)


def _numpy(tensor: Any) -> Any:
    """A tensor's memory as a NumPy array; other values as they are."""
    return tensor.detach().resolve_neg().numpy() if isinstance(tensor, torch.Tensor) else tensor


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array))


def _as_arrays(directions: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _numpy(_canonical(name, value)) if isinstance(value, torch.Tensor) else value
        for name, value in directions.items()
    }


def _as_tensors(values: Any, **given: Any) -> Any:
    """A copy of a dataclass with tensors for its arrays, and `given` for the fields named there."""
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(values):
        value = getattr(values, field.name)
        fields[field.name] = _tensor(value) if isinstance(value, np.ndarray | np.generic) else value
    return type(values)(**{**fields, **given})
