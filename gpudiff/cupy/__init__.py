"""CuPy arrays: `solve`, `solve_qp`, `solve_forms` and `project` on the GPU where the arrays lie, and `svec` and `smat`.

The only package of gpudiff that imports CuPy. `gpudiff.solve` finds its way here when it is given a CuPy array, or an
array on a GPU of a package that gpudiff has no module for (JAX, Numba, …), so nobody needs to import this. Results are
CuPy arrays on the same device; everything runs on CuPy's current stream, in memory of CuPy's pool, without waiting for
the device. Arguments must all lie on that device: what is on the host is not copied there silently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpudiff import _project, _qp, _solve
from gpudiff import given as _given
from gpudiff._foreign import foreign_solution, solved
from gpudiff._problem import as_array
from gpudiff._settings import Settings
from gpudiff._solution import Solution
from gpudiff._svec import layout, order_of_matrix, order_of_vector
from gpudiff.cupy.arrays import cupy, to_caller, to_core
from gpudiff.forms.solve import Flat, FormsSolution, flattened, solve_flat

__all__ = ["differentiate", "project", "project_derivative", "smat", "solve", "solve_forms", "solve_qp", "svec"]


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
    """`gpudiff.solve` for CuPy arrays."""
    arrays = _to_core(P=P, q=q, A=A, b=b)
    return _given_back(
        lambda: _solve.solve(**arrays, cones=cones, settings=settings, backend=backend, warm_start=warm_start)
    )


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
    """`gpudiff.solve_qp` for CuPy arrays."""
    arrays = _to_core(P=P, q=q, G=G, h=h, A=A, b=b, lb=lb, ub=ub)
    return _given_back(lambda: _qp.solve_qp(**arrays, settings=settings, backend=backend, warm_start=warm_start))


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
    """`gpudiff.differentiate` for CuPy arrays."""
    arrays = _to_core(P=P, q=q, A=A, b=b, x=x, y=y, s=s)
    return _given_back(
        lambda: _given.differentiate(**arrays, cones=cones, settings=settings, backend=backend, polish=polish)
    )


def project(v: Any, cones: Any, dual: bool = False) -> Any:
    """`gpudiff.project` for CuPy arrays."""
    return to_caller(_project.projected(as_array("v", to_core("v", v)), cones, dual))


def project_derivative(v: Any, name: str, direction: Any, cones: Any, dual: bool = False) -> Any:
    """`gpudiff.project_jvp` and `project_vjp` for CuPy arrays."""
    points, along = as_array("v", to_core("v", v)), as_array(name, to_core(name, direction))
    return to_caller(_project.projected(points, cones, dual, name, along))


def solve_forms(
    P: Any,
    q: Any,
    forms: Any,
    settings: Settings | None = None,
    backend: str = "auto",
    warm_start: FormsSolution | None = None,
) -> FormsSolution:
    """`gpudiff.solve_forms` for CuPy arrays."""
    flat = forms if isinstance(forms, Flat) else flattened(forms)
    cost = _to_core(P=P, q=q)
    arrays = flat.with_arrays(_to_core(**flat.arrays()))
    return _given_back(lambda: solve_flat(cost["P"], cost["q"], arrays, settings, backend, warm_start))


def svec(X: Any) -> Any:
    """`gpudiff.svec` for CuPy arrays."""
    matrices = to_caller(to_core("X", X))
    rows, columns, factors = layout(order_of_matrix(tuple(matrices.shape)))
    return matrices[..., rows, columns] * cupy.asarray(factors, dtype=_floating(matrices))


def smat(v: Any) -> Any:
    """`gpudiff.smat` for CuPy arrays."""
    vectors = to_caller(to_core("v", v))
    order = order_of_vector(tuple(vectors.shape))
    rows, columns, factors = layout(order)
    values = vectors / cupy.asarray(factors, dtype=_floating(vectors))
    out = cupy.empty((*vectors.shape[:-1], order, order), values.dtype)
    out[..., rows, columns] = values
    out[..., columns, rows] = values
    return out


def _floating(array: Any) -> Any:
    return array.dtype if array.dtype.kind == "f" else "float64"


def _given_back(run: Callable[[], Any]) -> Any:
    """The solution that `run` gives, in CuPy's arrays."""
    return foreign_solution(solved(run, to_core, to_caller), to_core, to_caller)


def _to_core(**arrays: Any) -> dict[str, Any]:
    return {name: None if value is None else to_core(name, value) for name, value in arrays.items()}
