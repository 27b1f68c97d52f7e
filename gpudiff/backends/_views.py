"""Arrays, problems and settings as the C structs that the CPU library and the GPU kernels take."""

from __future__ import annotations

from ctypes import addressof, c_char, c_double, c_int32, c_int64
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from gpudiff._abi import DTYPE, METHOD, CProblem, CSettings, Tensor
from gpudiff._cones import Product
from gpudiff._device import DeviceArray
from gpudiff._problem import FLOAT32, FLOAT64, Array, Problem, has_batch
from gpudiff._settings import Method, Settings

ABSENT = Tensor()  # a null pointer; never written to
_byte_at = c_char.from_buffer
_DTYPE = {FLOAT64: DTYPE["float64"], FLOAT32: DTYPE["float32"]}


def tensor(array: Array | None, core: int, problem: Problem, along: bool = False) -> Tensor:
    """An array with `core` axes per problem as kernels see it; a batch stride of 0 shares it.

    A problem alone shares nothing: it has a batch stride (any will do), so that it takes the very path that it takes
    among others, to the same bits. The caller must keep the array alive while the view is in use. `along`: it has an
    axis of directions, at least one, in front.
    """
    if array is None:
        return ABSENT
    size = array.itemsize
    strides = array.strides
    batch = 1 if problem.batch == 1 else strides[along] // size if has_batch(array, core, problem.batch, along) else 0
    step = strides[0] // size if along else 0
    if core == 2:
        return Tensor(address(array), batch, strides[-2] // size, strides[-1] // size, step)
    return Tensor(address(array), batch, strides[-1] // size if core else 0, 0, step)


def direction(array: Array | None, core: int, problem: Problem) -> Tensor:
    """The same for a tangent or cotangent as `as_directions` leaves it."""
    return tensor(array, core, problem, array is not None and array.ndim - core > problem.batched)


def address(array: Any) -> int:
    """Where the first element lies. A quarter of what `array.ctypes.data` costs wherever a buffer can be had."""
    if type(array) is DeviceArray:
        return array.pointer
    try:
        return addressof(_byte_at(array))  # an array is a writable buffer
    except (TypeError, ValueError, BufferError):  # read-only, not contiguous, or empty
        return array.ctypes.data


@lru_cache(maxsize=64)
def settings_struct(settings: Settings, threads: int, method: Method) -> CSettings:
    """The settings of the kernels; one object for equal settings, never written to."""
    return CSettings(
        settings.tol_gap_abs,
        settings.tol_gap_rel,
        settings.tol_feas,
        settings.tol_infeas_abs,
        settings.tol_infeas_rel,
        settings.smoothing or 0.0,
        settings.max_iter,
        settings.polish,
        settings.check_convex,
        threads,
        METHOD[method],
    )


def rows_of(array: Array | None) -> Tensor:
    """Points [batch, row] as kernels see them. The caller must keep the array alive while the view is in use."""
    if array is None:
        return ABSENT
    size = array.itemsize
    return Tensor(address(array), array.strides[0] // size, array.strides[1] // size, 0)


def cones_struct(cones: Product, batch: int, dtype: np.dtype[Any]) -> CProblem:
    """A problem of which only the cones, the batch and the element type are told."""
    listed = _cones(cones)
    view = CProblem(batch, 0, cones.rows, _DTYPE[dtype], listed.number, listed.kinds, listed.rows, listed.parameters)
    view.owner = listed  # the cache may drop them while a call of another thread is under way
    return view


def problem_struct(problem: Problem) -> CProblem:
    """A problem as the CPU library sees it; the caller must keep its arrays alive while the struct is in use."""
    cones = _cones(problem.cones)
    view = CProblem(
        problem.batch,
        problem.n,
        problem.m,
        _DTYPE[problem.dtype],
        cones.number,
        cones.kinds,
        cones.rows,
        cones.parameters,
        tensor(problem.P, 2, problem),
        tensor(problem.q, 1, problem),
        tensor(problem.A, 2, problem),
        tensor(problem.b, 1, problem),
    )
    view.owner = cones  # the cache may drop them while a call of another thread is under way
    return view


class _Cones(NamedTuple):
    """A list of cones as the library sees it."""

    number: int
    kinds: int
    rows: int
    parameters: int
    owner: tuple[Any, Any, Any]  # the arrays that the addresses point to


@lru_cache(maxsize=1024)
def _cones(product: Product) -> _Cones:
    count = len(product.cones)
    kinds = (c_int32 * count)(*(cone.code for cone in product.cones))
    rows = (c_int64 * count)(*(cone.rows for cone in product.cones))
    parameters = (c_double * count)(*(cone.parameter for cone in product.cones))
    return _Cones(count, addressof(kinds), addressof(rows), addressof(parameters), (kinds, rows, parameters))
