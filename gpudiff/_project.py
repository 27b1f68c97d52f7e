"""Projections onto products of cones and their derivatives, for arrays of any leading axes.

What `gpudiff.solve` does with each cone in every Newton step, as an operation of its own: no problem, no iteration over
problems, no status. Points are checked here; a backend projects them (kernels/entry/projection_cone.cuh).
"""

from __future__ import annotations

from math import prod
from typing import Any

from gpudiff._arrays import surface
from gpudiff._cones import as_product
from gpudiff._device import DeviceArray, on_device
from gpudiff._dispatch import candidates
from gpudiff._errors import DeviceError, ShapeError
from gpudiff._problem import Array, as_array, check_places, show, unify


def project(v: Any, cones: Any, dual: bool = False) -> Any:
    """The nearest points of a product of cones.

        p = Π_K(v) = argmin ‖p − v‖ over p ∈ K

    Args:
        v: [..., m] points; arrays of NumPy, torch or CuPy, or what NumPy makes arrays of. torch tensors take part in
            autograd: backward, forward mode and `torch.func`, to any order.
        cones: list of cones or an SCS-style dict, m rows in all; every cone of gpudiff is taken.
        dual: project onto the dual cone K* = {y: sᵀy ≥ 0 for all s ∈ K} instead. Π_{K*}(v) = v + Π_K(−v), but is
            computed from what it is, without that sum's loss of digits.

    Returns:
        [..., m] of the same kind, element type and device. A point in K comes back as it is. Relative to the largest
        entry of a cone's rows the error is a few units of rounding at any scale; for a PSD cone of order k some k of
        them. Not finite: NaN in that cone of that point (in a zero or nonnegative cone, in that row) and nowhere else.

    Raises:
        ArgumentError: v has a wrong shape, type or device, or the cones are not cones; `ShapeError`, `DtypeError`,
            `DeviceError` and `ConeError` are subclasses.
        BackendError: the compiled library is missing, or nothing can compute on the device of `v`.

    Cost: O(m), for a PSD cone O(k³) of order k; an exponential or power cone some eight steps of a Newton method.
    Points are projected side by side in SIMD lanes and on as many threads as `Settings(threads=None)` means. A point's
    result has the same bits alone and in any batch.

    Source: second-order cone Fukushima, Luo and Tseng 2002; PSD Higham 1988; exponential cone Friberg 2021; power cone
    Hien 2015.
    """
    foreign = surface(v)
    if foreign is not None:
        return foreign.project(v, cones, dual)
    return projected(as_array("v", v), cones, dual)


def project_jvp(v: Any, v_dot: Any, cones: Any, dual: bool = False) -> Any:
    """Tangents of projections: ṗ = DΠ_K(v) v̇.

    DΠ_K(v) is symmetric, with eigenvalues between 0 and 1. Where Π is not differentiable (a second-order cone at
    t = ±‖x‖, a PSD cone at a singular matrix, the boundary of the others) it is an element of the generalised Jacobian.

    Args:
        v: [..., m] points, as in `project`.
        v_dot: [..., m] tangents, of the shape of `v`.
        cones: as in `project`.
        dual: as in `project`.

    Returns:
        [..., m] of the same kind, element type and device; float64 if one of both is.

    Raises:
        ArgumentError: as in `project`, also for `v_dot`.
        BackendError: as in `project`.

    Cost: that of `project` twice, at most.

    Source: as in `project`; PSD Malick and Sendov 2006.
    """
    return _derivative(v, "v_dot", v_dot, cones, dual)


def project_vjp(v: Any, p_bar: Any, cones: Any, dual: bool = False) -> Any:
    """Cotangents of points from those of their projections: v̄ = DΠ_K(v)ᵀ p̄.

    As DΠ_K(v) is symmetric this is `project_jvp`, to the bit; arguments, errors and cost are the same.

    Args:
        v: [..., m] points, as in `project`.
        p_bar: [..., m] cotangents, of the shape of `v`.
        cones: as in `project`.
        dual: as in `project`.

    Returns:
        [..., m] of the same kind, element type and device; float64 if one of both is.

    Raises:
        ArgumentError: as in `project`, also for `p_bar`.
        BackendError: as in `project`.
    """
    return _derivative(v, "p_bar", p_bar, cones, dual)


def _derivative(v: Any, name: str, direction: Any, cones: Any, dual: bool) -> Any:
    foreign = surface(v, direction)
    if foreign is not None:
        return foreign.project_derivative(v, name, direction, cones, dual)
    return projected(as_array("v", v), cones, dual, name, as_array(name, direction))


def projected(v: Array, cones: Any, dual: bool, name: str = "", direction: Array | None = None) -> Array:
    """Π(v), or with a direction DΠ(v) direction, for arrays of the core; `name`: of the direction, for messages.

    Raises:
        ArgumentError: a subclass of it, with a message that names the argument.
        BackendError: nothing can compute where `v` lies.
    """
    product = as_product(cones)
    m = product.rows
    if v.ndim < 1 or v.shape[-1] != m:
        raise ShapeError(f"v: expected shape (..., {m}) (the cones have {m} rows), got {show(v.shape)}")
    if direction is not None:
        if direction.shape != v.shape:
            raise ShapeError(f"{name}: expected shape {show(v.shape)}, that of v, got {show(direction.shape)}")
        check_places((("v", v), (name, direction)))
        (first, second), _ = unify((v, direction))
        assert first is not None
        v, direction = first, second
    shape = v.shape
    there = on_device(v)
    backend = candidates("cuda" if there else "cpu")[0]
    why = backend.why_unavailable() if there else None  # the library on the host says so itself
    if why is not None:
        raise DeviceError(f"v: no backend can take an array on a GPU ({backend.name}: {why})")
    out = backend.project(_flat(v, m), product, bool(dual), None if direction is None else _flat(direction, m))
    return _reshaped(out, shape)


def _flat(array: Array, m: int) -> Array:
    """[..., m] as [batch, m]; a copy where the leading axes cannot be one."""
    return array if array.ndim == 2 else _reshaped(array, (prod(array.shape[:-1]), m))


def _reshaped(array: Any, shape: tuple[int, ...]) -> Any:
    if array.shape == shape:
        return array
    if isinstance(array, DeviceArray):
        return array.package.wrap(array.native.reshape(shape))
    return array.reshape(shape)
