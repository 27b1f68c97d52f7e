"""torch tensors: `solve`, `solve_qp`, `solve_forms` and `project` as differentiable functions, and layers.

The only package of gpudiff that imports torch. `gpudiff.solve` finds its way here when it is given a tensor, so nobody
needs to import this. Tensors are handed to the kernels where they lie and results come back the same way. On a GPU all
of it, backward passes included, runs on torch's current stream, in memory of torch's allocator, without waiting; for a
solution that is used on another stream than its own torch's usual rules hold.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from gpudiff import _qp, _solve
from gpudiff import given as _given
from gpudiff._foreign import foreign_solution, solved
from gpudiff._problem import Array
from gpudiff._settings import Settings, as_settings
from gpudiff._solution import Solution
from gpudiff._svec import layout, order_of_matrix, order_of_vector
from gpudiff.forms.solve import Flat, FormsSolution, flattened, forms_solution, solve_flat, start_of
from gpudiff.torch import sparse, traced
from gpudiff.torch.arrays import as_tensor, canonical, direction, narrowed, to_caller, to_core, watched
from gpudiff.torch.autograd import differentiable, tensors_of
from gpudiff.torch.layers import ConeLayer, ConePoint, QPLayer, QPPoint
from gpudiff.torch.project import project, project_derivative
from gpudiff.torch.stacked import solve_stacked

__all__ = [
    "ConeLayer",
    "ConePoint",
    "QPLayer",
    "QPPoint",
    "differentiate",
    "project",
    "project_derivative",
    "smat",
    "solve",
    "solve_forms",
    "solve_qp",
    "svec",
]


def solve(
    P: Any,
    q: Any,
    A: Any = None,
    b: Any = None,
    cones: Any = (),
    settings: Settings | None = None,
    backend: str = "auto",
    warm_start: Any = None,
) -> Solution:
    """`gpudiff.solve` for torch tensors; x, y, s and obj take part in autograd, to any order and in both modes.

    A plain backward or forward pass is one call of the kernels. Where a derivative is differentiated again, or a
    transform of `torch.func` is at work (grad, vjp, jvp, jacrev, jacfwd, hessian, vmap, in any order), derivatives are
    made of the kernels' linear systems and of torch operations. A mapped axis becomes a batch axis.

    Arguments that are no tensors are constants. Backward computes the cotangents of those arguments alone that require
    them. Under autocast float16 and bfloat16 are computed in float32, and x, y, s and obj are given back in that type
    where all arguments are of it; otherwise they are refused.
    """
    if sparse.any_sparse(P, A):
        return sparse.solve(P, q, A, b, cones, settings, backend, warm_start)
    given = {"P": P, "q": q, "A": A, "b": b}

    def run(arrays: dict[str, Array | None]) -> Solution:
        return _solve.solve(**arrays, cones=cones, settings=settings, backend=backend, warm_start=warm_start)  # pyright: ignore[reportArgumentType]

    arguments = tensors_of(given)
    if torch.compiler.is_compiling():
        return narrowed(traced.solve(arguments, cones, settings, backend, warm_start), given)
    return narrowed(differentiable(run, arguments), given)


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
    warm_start: Any = None,
) -> _qp.QPSolution:
    """`gpudiff.solve_qp` for torch tensors; x, y, z, z_box and obj take part in autograd. See `solve`."""
    forms: dict[str, Any] = {"G": G, "h": h, "A": A, "b": b, "lb": lb, "ub": ub}
    given = {"P": P, "q": q, **forms}
    arguments = tensors_of(given)
    if torch.compiler.is_compiling():
        _qp.check_pairs(forms)
        return narrowed(traced.solve_qp(arguments, settings, backend, warm_start), given)
    if not watched(arguments.values()):
        arrays = {name: to_core(t) if isinstance(t, torch.Tensor) else t for name, t in arguments.items()}

        def run() -> _qp.QPSolution:
            return _qp.solve_qp(**arrays, settings=settings, backend=backend, warm_start=warm_start)

        return narrowed(foreign_solution(solved(run, direction, to_caller), direction, to_caller), given)
    _qp.check_pairs(forms)
    start = _qp.start_of(warm_start)
    checked = as_settings(settings)
    solution = solve_stacked(arguments, _qp.QP_FORMS, _qp.QP_CONSTANTS, checked, backend, start, _qp.qp_solution)
    return narrowed(solution, given)


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

    given = {"P": P, "q": q, **flat.values}
    arguments = tensors_of(given)
    if not watched(arguments.values()):
        arrays = {name: to_core(t) if isinstance(t, torch.Tensor) else t for name, t in arguments.items()}

        def run() -> FormsSolution:
            return solve_flat(arrays["P"], arrays["q"], flat.with_arrays(arrays), settings, backend, warm_start)

        return narrowed(foreign_solution(solved(run, direction, to_caller), direction, to_caller), given)
    made, checked = partial(forms_solution, flat.placed), as_settings(settings)
    solution = solve_stacked(arguments, flat.placed, flat.constants, checked, backend, start_of(warm_start), made)
    return narrowed(solution, given)


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
    given, parts = {"P": P, "q": q, "A": A, "b": b}, {"x": x, "y": y, "s": s}
    point = {name: None if part is None else to_core(canonical(name, part)) for name, part in parts.items()}

    def run(arrays: dict[str, Array | None]) -> Solution:
        return _given.differentiate(**arrays, cones=cones, **point, settings=settings, backend=backend, polish=polish)

    return narrowed(differentiable(run, tensors_of(given)), given)


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
