"""torch tensors where P or A is sparse: COO or CSR tensors of two or three axes, or lists of them, on the CPU.

Autograd sees the stored values alone, so that the gradient of a sparse tensor is sparse, on the pattern of its stored
entries (of a COO tensor coalesced first). Between here and the core a matrix argument is a SciPy matrix, or a list.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from gpudiff import _sparse
from gpudiff._errors import DeviceError, DtypeError
from gpudiff._foreign import foreign_solution, solved
from gpudiff._matrices import SparseBatch, in_format, is_sparse
from gpudiff._problem import DATA, Array
from gpudiff._settings import Settings
from gpudiff._solution import Cotangents, Solution
from gpudiff.torch.arrays import canonical, lies_on_host, to_caller, to_core, watched

_POINT = Solution.POINT


def any_sparse(*values: Any) -> bool:
    """Whether one of the values is sparse: a tensor, something of SciPy's, or a list of either."""
    return any(_is_sparse_tensor(value) or is_sparse(value) for value in values)


def _is_sparse_tensor(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return len(value) > 0 and _is_sparse_tensor(value[0])  # pyright: ignore[reportUnknownArgumentType]
    return isinstance(value, torch.Tensor) and value.layout != torch.strided


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
    """`gpudiff.solve` for torch tensors where P or A is sparse; x, y, s and obj take part in autograd.

    Raises:
        DeviceError: a tensor is not on the CPU.
        DtypeError: a sparse tensor is neither COO nor CSR.
    """
    given = {"P": P, "q": q, "A": A, "b": b}
    arguments = {name: _read(name, value) for name, value in given.items() if value is not None}
    tensors = [argument.tensor for argument in arguments.values()]
    if len({tensor.dtype for tensor in tensors}) > 1:  # widen here: autograd then narrows the gradients again
        tensors = [tensor.to(torch.float64) for tensor in tensors]
    call = _Call(arguments, (cones, settings, backend, warm_start))
    if not watched(tensors):
        return call.wrapped(call.run(tensors))
    outputs: Any = _SparseSolve.apply(call, *tensors)
    assert call.solution is not None
    return call.wrapped(call.solution, **dict(zip(_POINT, outputs, strict=True)))


@dataclasses.dataclass(slots=True, eq=False)
class _Argument:
    """One argument of the solve.

    Attributes:
        tensor: its numbers: the values of all stored entries, or a dense tensor.
        patterns: of sparse matrices, as SciPy matrices; None for a dense argument.
        batched: whether there is a batch of them.
        fixed: the argument itself, where it is no tensor and nothing is to be differentiated.
    """

    tensor: torch.Tensor
    patterns: list[Any] | None = None
    batched: bool = False
    fixed: Any = None

    def core(self, values: Array) -> Any:
        """The argument of the core with these numbers."""
        if self.fixed is not None:
            return self.fixed
        if self.patterns is None:
            return values
        made, start = list[Any](), 0
        for pattern in self.patterns:
            made.append(in_format(pattern, values[start : start + pattern.nnz]))
            start += pattern.nnz
        return made if self.batched else made[0]

    def values(self, gradient: Any) -> torch.Tensor:
        """The numbers of a cotangent of the core, in the order of `tensor`."""
        if self.patterns is None:
            return to_caller(gradient)
        each = gradient if self.batched else [gradient]
        return torch.from_numpy(np.concatenate([matrix.data for matrix in each]))


def _read(name: str, value: Any) -> _Argument:
    """Take an argument apart into numbers and patterns."""
    if is_sparse(value):
        return _Argument(torch.zeros(0, dtype=torch.float64), fixed=value)
    if not _is_sparse_tensor(value):
        tensor = canonical(name, value)
        _on_host(name, tensor)
        return _Argument(tensor)
    if isinstance(value, list | tuple):
        parts = [_read(f"{name}[{i}]", one) for i, one in enumerate(value)]  # pyright: ignore[reportUnknownArgumentType]
        patterns = [pattern for part in parts for pattern in part.patterns or ()]
        return _Argument(torch.cat([part.tensor for part in parts]), patterns, True)
    _on_host(name, value)
    if value.layout == torch.sparse_coo:
        value = value.coalesce()
        if value.dense_dim():
            raise DtypeError(f"{name}: expected a sparse tensor without dense axes, got {value.dense_dim()} of them")
    elif value.layout != torch.sparse_csr:
        raise DtypeError(f"{name}: expected a dense, COO or CSR tensor, got layout {value.layout}")
    return _Argument(canonical(name, value.values()).reshape(-1), _patterns(value), value.ndim == 3)


def _on_host(name: str, tensor: torch.Tensor) -> None:
    if not lies_on_host(tensor):
        raise DeviceError(
            f"{name}: expected a tensor on the CPU, where sparse problems are solved, got {tensor.device}"
        )


def _patterns(tensor: torch.Tensor) -> list[Any]:
    """The patterns of a coalesced COO or a CSR tensor, one for each problem."""
    from scipy import sparse

    shape = tuple(tensor.shape[-2:])
    if tensor.layout == torch.sparse_csr:
        pointers = tensor.crow_indices().reshape(-1, shape[0] + 1).numpy()
        columns = tensor.col_indices().reshape(len(pointers), -1).numpy()
        pairs = zip(columns, pointers, strict=True)
        return [sparse.csr_matrix((np.ones(each.size), each, pointer), shape) for each, pointer in pairs]
    indices = tensor.indices().numpy()
    if tensor.ndim == 2:
        return [sparse.coo_matrix((np.ones(indices.shape[1]), (indices[0], indices[1])), shape)]
    ends = np.searchsorted(indices[0], np.arange(tensor.shape[0] + 1))  # coalesced: sorted by problem first
    return [
        sparse.coo_matrix((np.ones(stop - start), (indices[1, start:stop], indices[2, start:stop])), shape)
        for start, stop in pairwise(ends)
    ]


@dataclasses.dataclass(slots=True, eq=False)
class _Call:
    """One solve on its way through autograd."""

    arguments: dict[str, _Argument]
    rest: tuple[Any, ...]
    solution: Solution | None = None

    def run(self, tensors: Iterable[torch.Tensor]) -> Solution:
        """Solve with these numbers."""
        data: dict[str, Any] = dict.fromkeys(DATA)
        for (name, argument), tensor in zip(self.arguments.items(), tensors, strict=True):
            data[name] = argument.core(to_core(tensor))
        return solved(lambda: _sparse.solve(*data.values(), *self.rest), _direction, to_caller)

    def wrapped(self, solution: Solution, **fields: Any) -> Solution:
        """The solution in tensors."""
        inner: Any = _InTensors(solution.linearization)
        return foreign_solution(Solution(inner), _direction, to_caller, **fields)


class _InTensors:
    """A linearisation whose cotangents of sparse matrices are sparse tensors; the rest `foreign_solution` converts."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def vjp(self, cotangents: dict[str, Any], wrt: Iterable[str]) -> Cotangents:
        """See `Linearization`."""
        bar = self._inner.vjp(cotangents, wrt)
        found = {name: getattr(bar, name) for name in ("P", "A")}
        return dataclasses.replace(bar, **{name: _matrix(value) for name, value in found.items() if is_sparse(value)})


class _SparseSolve(torch.autograd.Function):
    """The solution map as autograd sees it: numbers of the data in, x, y, s and obj out."""

    @staticmethod
    def forward(call: _Call, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Solve, and leave the whole solution in `call`."""
        call.solution = call.run(tensors)
        return tuple(to_caller(getattr(call.solution, name)).detach() for name in _POINT)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        """Keep what derivatives need, under autograd's watch for in-place changes."""
        ctx.call, *tensors = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *bars: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Cotangents of the numbers that require them."""
        _ = ctx.saved_tensors  # raises if the data or the solution have been overwritten
        call: _Call = ctx.call
        assert call.solution is not None
        cotangents = {name: to_core(bar) for name, bar in zip(_POINT, bars, strict=True) if bar is not None}
        wrt = [name for name, need in zip(call.arguments, ctx.needs_input_grad[1:], strict=True) if need]
        if not cotangents or not wrt:
            return (None,) * (1 + len(call.arguments))
        bar = call.solution.linearization.vjp(cotangents, wrt)
        found = {name: call.arguments[name].values(getattr(bar, name)) for name in wrt}
        return (None, *(found.get(name) for name in call.arguments))

    @staticmethod
    def jvp(ctx: Any, *dots: Any) -> tuple[torch.Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Tangents of the solution."""
        call: _Call = ctx.call
        assert call.solution is not None
        pairs = zip(call.arguments.items(), dots[1:], strict=True)
        tangents = {
            name: argument.core(to_core(dot))
            for (name, argument), dot in pairs
            if dot is not None and argument.fixed is None
        }
        dot = call.solution.linearization.jvp(tangents)
        return tuple(to_caller(getattr(dot, name)) for name in _POINT)


def _direction(name: str, value: Any) -> Any:
    """A tangent or cotangent as the core takes it."""
    if _is_sparse_tensor(value):
        argument = _read(name, value)
        return argument.core(to_core(argument.tensor))
    return to_core(canonical(name, value)) if isinstance(value, torch.Tensor) else value


def _matrix(value: Any) -> Any:
    """A sparse cotangent of the core as sparse tensors: CSR for csr, COO for other formats."""
    if isinstance(value, SparseBatch):
        value = [value[i] for i in range(len(value))]
    if isinstance(value, list):
        return [_matrix(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
    if value.format == "csr":
        parts = (torch.from_numpy(np.asarray(part)) for part in (value.indptr, value.indices, value.data))
        return torch.sparse_csr_tensor(*parts, size=value.shape, check_invariants=False)
    entries = value.tocoo()
    indices = torch.from_numpy(np.stack([entries.row, entries.col]).astype(np.int64))
    return torch.sparse_coo_tensor(indices, torch.from_numpy(entries.data), size=entries.shape, check_invariants=False)
