"""From what the caller passed to a checked problem: arrays of one element type, sizes, batch, and what is shared.

Nothing is copied that can be used as it is: any strides are, those of transposed, reversed, broadcast and read-only
arrays included. Values are not looked at; NaN is a matter of a problem's status. Arrays on a GPU come as `DeviceArray`,
whose shapes, strides and element types lie on the host: checking them does not wait for the device.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gpudiff._cones import Product, as_product
from gpudiff._device import DeviceArray
from gpudiff._errors import ArgumentError, DataError, DeviceError, DtypeError, ShapeError

# Declared as NumPy's, of whose interface `DeviceArray` has the part that is used where either may come.
Array: TypeAlias = NDArray[Any]

FLOAT64 = np.dtype(np.float64)
FLOAT32 = np.dtype(np.float32)
DATA = ("P", "q", "A", "b")
CORE = {"P": 2, "q": 1, "A": 2, "b": 1}  # axes of each argument without the batch axis


@dataclass(slots=True, eq=False)
class Problem:
    """A checked batch of problems of one shape and one list of cones.

    P is [n, n], q [n], A [m, n] and b [m], each as it is (then shared), or with a leading axis of extent 1 (shared too)
    or `batch`. P is None for a linear objective; A and b may be None when m = 0.
    """

    P: Array | None
    q: Array
    A: Array | None
    b: Array | None
    cones: Product
    batch: int
    batched: bool  # whether results carry a batch axis
    n: int
    m: int
    dtype: np.dtype[Any]
    kept: Any = None  # what a backend keeps from a solve for its derivatives

    @property
    def device(self) -> int | None:
        """The number of the GPU on which the data lie; None for the host."""
        return _place(self.q)

    @property
    def lead(self) -> tuple[int, ...]:
        """The batch axis of results: (B,) or ()."""
        return (self.batch,) if self.batched else ()

    def data(self, name: str) -> Array | None:
        """The argument called `name`, one of `DATA`."""
        return getattr(self, name)

    def describe(self) -> str:
        """Sizes for a message, such as "B=100, n=8, m=16, float64"."""
        batch = f"B={self.batch}, " if self.batched else ""
        place = "" if self.device is None else f", cuda:{self.device}"
        return f"{batch}n={self.n}, m={self.m}, {self.dtype}{place}"


def as_array(name: str, value: Any) -> Array:
    """Read numbers as a float64 or float32 array that the kernels can address, without a copy where that is possible.

    Args:
        name: what to call the argument in messages.
        value: array, list or number; integers and booleans become float64.

    Raises:
        DtypeError: sparse or masked, or elements that are neither float64, float32, integers nor booleans.
        ShapeError: a ragged list or something else that is no array.
    """
    if type(value) is not np.ndarray:
        value = _from_foreign(name, value)
    dtype = value.dtype
    if dtype is not FLOAT64 and dtype is not FLOAT32:
        value = _as_float(name, value)
    return value if value.flags.aligned else value.copy()


def _from_foreign(name: str, value: Any) -> Array:
    if type(value) is DeviceArray:
        return value  # pyright: ignore[reportReturnType]  # see `Array`
    if hasattr(value, "tocsc") and hasattr(value, "nnz"):
        raise DtypeError(
            f"{name}: expected a dense array, got a sparse {type(value).__name__}; sparse may be P and A of "
            f"gpudiff.solve alone: pass {name}.toarray() where it fits in memory"
        )
    if isinstance(value, np.ma.MaskedArray):
        raise DtypeError(f"{name}: expected a plain array, got a masked one; fill it first")
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ShapeError(f"{name}: expected an array of numbers, got {type(value).__name__} ({error})") from error


def _as_float(name: str, array: Array) -> Array:
    dtype = array.dtype
    if dtype.kind in "biu":
        return array.astype(FLOAT64)
    if dtype in (FLOAT64, FLOAT32):
        return array
    swapped = dtype.newbyteorder()
    if swapped in (FLOAT64, FLOAT32):
        return array.astype(swapped)
    raise DtypeError(f"{name}: expected float64, float32 or integers, got {dtype}")


def unify(arrays: Iterable[Array | None]) -> tuple[list[Array | None], np.dtype[Any]]:
    """Bring arrays to one element type: float32 if all of them are, else float64."""
    arrays = list(arrays)
    doubles = [array.dtype == FLOAT64 for array in arrays if array is not None]
    if all(doubles):
        return arrays, FLOAT64
    if not any(doubles):
        return arrays, FLOAT32
    return [None if array is None else array.astype(FLOAT64, copy=False) for array in arrays], FLOAT64


def check_places(arrays: Iterable[tuple[str, Array | None]]) -> None:
    """See that (name, array) pairs lie all on the host, or all on one GPU.

    Raises:
        DeviceError: they do not.
    """
    first, place = "", None
    for name, array in arrays:
        if array is None:
            continue
        if not first:
            first, place = name, _place(array)
        elif _place(array) != place:
            there, here = show_place(place), show_place(_place(array))
            raise DeviceError(f"{name}: expected an array {there}, where {first} lies, got one {here}")


def _place(array: Any) -> int | None:
    return array.device if type(array) is DeviceArray else None


def show_place(device: int | None) -> str:
    """Where an array lies, for a message: "in host memory" or "on cuda:0"."""
    return "in host memory" if device is None else f"on cuda:{device}"


def check_shape(name: str, array: Array, core: tuple[int, ...], why: str) -> None:
    """See that `array` is `core` with or without a batch axis in front.

    Raises:
        ShapeError: it is not; `why` says where the extents come from.
    """
    shape = array.shape
    if shape != core and shape[1:] != core:
        raise ShapeError(f"{name}: expected shape {show(core)} or {show(('B', *core))} ({why}), got {show(shape)}")


def common_batch(arrays: Iterable[tuple[str, Array | None, int]]) -> tuple[int, bool]:
    """The batch extent of (name, array, axes without batch) triples, and whether any of them has a batch axis.

    Raises:
        ShapeError: two extents differ and neither is 1.
    """
    batch, batched, first = 1, False, ""
    for name, array, core in arrays:
        if array is None or array.ndim == core:
            continue
        batched = True
        extent = array.shape[0]
        if extent == 1 or extent == batch:
            continue
        if batch != 1:
            raise ShapeError(
                f"{name}: expected a batch axis of extent {batch} (that of {first}) or 1, or none, got {extent}"
            )
        batch, first = extent, name
    return batch, batched


def has_batch(array: Array, core: int, batch: int, front: int = 0) -> bool:
    """Whether `array`, behind so many other axes, holds something for each problem; otherwise it is shared."""
    return array.ndim > core + front and (array.shape[front] == batch != 1)


def as_problem(P: Any, q: Any, A: Any, b: Any, cones: Any, batch: tuple[int, bool] | None = None) -> Problem:
    """Check the data of `gpudiff.solve` and say what they are.

    Args:
        P: [n, n] or [B, n, n], or None.
        q: [n] or [B, n].
        A: [m, n] or [B, m, n]; may be None when the cones have no rows.
        b: [m] or [B, m]; may be None when the cones have no rows.
        cones: what `as_product` reads.
        batch: extent and presence of the batch axis when the caller knows better than these four arrays.

    Raises:
        ArgumentError: a subclass of it, with a message that names the argument.
    """
    product = as_product(cones)
    m = product.rows
    cost = as_cost(q)
    n = cost.shape[-1]
    quadratic = None if P is None else as_array("P", P)
    if quadratic is not None:
        check_shape("P", quadratic, (n, n), f"n={n} from q")
    if m > 0 and (A is None or b is None):
        raise ShapeError(f"{'A' if A is None else 'b'}: expected an array, for the cones have {m} rows, got None")
    matrix = None if A is None else as_array("A", A)
    if matrix is not None:
        check_shape("A", matrix, (m, n), f"m={m} rows of the cones, n={n} from q")
    vector = None if b is None else as_array("b", b)
    if vector is not None:
        check_shape("b", vector, (m,), f"m={m} rows of the cones")
    arrays = (quadratic, cost, matrix, vector)
    extent, batched = batch or common_batch(zip(DATA, arrays, (2, 1, 2, 1), strict=True))
    if DeviceArray in map(type, arrays):
        check_places(zip(DATA, arrays, strict=True))
    (quadratic, cost, matrix, vector), dtype = unify(arrays)
    assert cost is not None
    return Problem(quadratic, cost, matrix, vector, product, extent, batched, n, m, dtype)


def as_cost(q: Any) -> Array:
    """Read q, from which the number of variables is taken: [n] or [B, n].

    Raises:
        ArgumentError: a subclass of it.
    """
    if q is None:
        raise ShapeError("q: expected shape (n,) or (B, n), got None; a zero cost is an array of zeros")
    cost = as_array("q", q)
    if not 1 <= cost.ndim <= 2:
        raise ShapeError(f"q: expected shape (n,) or (B, n), got {show(cost.shape)}")
    return cost


def as_directions(
    values: Iterable[tuple[str, Any, tuple[int, ...]]], problem: Problem, count: int | None = None
) -> tuple[list[Array | None], int | None]:
    """Read tangents or cotangents (name, value, shape for one problem), and how many directions they are.

    Args:
        values: those that are None stay None.
        problem: what they are directions of.
        count: as the second result, where that is known.

    Returns:
        Arrays of the problem's dtype, each of the shape for one problem, or with a batch axis where the problem has
        one, or with an axis of directions before that; and the extent of this last axis, None if no array has it.

    Raises:
        ArgumentError: a subclass of it, with a message that names the argument.
    """
    arrays: list[Array | None] = []
    first = ""
    for name, value, core in values:
        if value is None:
            arrays.append(None)
            continue
        array = _as_direction(name, value, core, problem)
        arrays.append(array)
        if array.ndim - len(core) <= problem.batched:
            continue
        extent = array.shape[0]
        if count is not None and extent != count:
            raise ShapeError(f"{name}: expected {count} directions, as {first} has, got {extent}")
        count, first = extent, name
    return arrays, count


def _as_direction(name: str, value: Any, core: tuple[int, ...], problem: Problem) -> Array:
    array = as_array(name, value).astype(problem.dtype, copy=False)
    if _place(array) != problem.device:
        expected, came = show_place(problem.device), show_place(_place(array))
        raise DeviceError(f"{name}: expected an array {expected}, where the problem lies, got one {came}")
    if array.shape == core:
        return array
    lead = problem.lead
    for front in ((1,), lead) if lead else ((),):
        if array.shape == (*front, *core) or (array.shape[1:] == (*front, *core) and array.ndim > 0):
            return array
    batched = f" or {show((*lead, *core))}" if lead else ""
    several = show(("K", *lead, *core))
    raise ShapeError(
        f"{name}: expected shape {show(core)}{batched}, got {show(array.shape)}; K directions at once are {several}"
    )


def chosen(names: Any, known: tuple[str, ...], what: str) -> tuple[str, ...]:
    """The names in `names` (a string or an iterable of them), each of which must be known.

    Raises:
        ArgumentError: one is not.
    """
    listed = (names,) if isinstance(names, str) else tuple(names)
    for name in listed:
        if name not in known:
            raise ArgumentError(f"{what}: expected names among {', '.join(map(repr, known))}, got {name!r}")
    return listed


def asymmetry(problem: Problem, index: int) -> DataError:
    """The error for a P that is not symmetric: which problem, and the two entries that differ most."""
    P = problem.P
    assert P is not None
    matrix, where = P, "P["
    if P.ndim == 3:
        index = index if P.shape[0] != 1 else 0
        matrix, where = P[index], f"P[{index}, "
    difference = np.nan_to_num(np.abs(matrix - matrix.T))
    i, j = (int(k) for k in np.unravel_index(np.argmax(difference), difference.shape))
    return DataError(
        f"P: expected symmetric matrices (both triangles filled in), got {where}{i}, {j}] = {float(matrix[i, j])!r} "
        f"and {where}{j}, {i}] = {float(matrix[j, i])!r}"
    )


def show(shape: tuple[Any, ...]) -> str:
    """A shape for a message."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
