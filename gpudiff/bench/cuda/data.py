"""Problems on the device: drawn on the host, copied there once, and multiplied there.

A million dense QPs with n = 32 are 26 GB; drawing them on the host would take longer than the benchmark. So a base of
some hundred to thousand problems is drawn, and repeated; each copy but the first is moved by a translation of its own,

    x → x + t,   t ~ 0.1 N(0, 1):      q → q − P t,   b → b + A t,

which keeps y, s, the active rows and the conditioning of the problem it copies. P and A are copied as well: every
problem has its own in memory, unless the family shares them.

Batches are consecutive parts of one pool. It is several times as large as the L2 cache, and successive calls take
successive parts, so that a call does not find its data in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpudiff.bench.cuda.device import Device, to_host
from gpudiff.bench.families import Array, Batch, Family, generate

BASE_WORDS = 1 << 24  # doubles of the base: 128 MB
BASE_MOST = 4096
CACHES = 4  # by how much the pool exceeds the cache
MOST_SETS = 512
MEMORY_SHARE = 0.7  # of the free memory, for data and results
_SHIFT = 0.1


@dataclass(frozen=True)
class Part:
    """One batch on the device, with the cotangents of x that are pulled back; the arrays are tensors."""

    batch: Batch
    x_bar: Any


@dataclass(frozen=True)
class Size:
    """Bytes per problem (arrays of its own alone) of one family in one element type."""

    data: int
    result: int

    @property
    def forward(self) -> int:
        """What a solve has to read and write."""
        return self.data + self.result

    @property
    def all(self) -> int:
        """Data, results and gradients."""
        return 2 * self.data + self.result


def size_of(batch: Batch, itemsize: int) -> Size:
    """For a batch with P and A shared or not; results are x, y, s, obj, four residuals, status and iterations."""
    n, m = batch.n, batch.m
    words = n + m
    if not batch.shared:
        words += m * n + (0 if batch.P is None else n * n)
    return Size(words * itemsize, (n + 2 * m + 5) * itemsize + 5)


def base_size(n: int, m: int) -> int:
    """How many problems to draw."""
    return int(max(64, min(BASE_MOST, BASE_WORDS // (n * n + m * n))))


class Pool:
    """Many problems of one family on the device.

    Args:
        device: Where.
        family: What.
        count: Problems wanted; there may be fewer (memory) or more (cache).
        dtype: "float64" or "float32".
        seed: Of the data.
    """

    def __init__(self, device: Device, family: Family, count: int, dtype: str, seed: int) -> None:
        one = generate(family, 1, seed)
        self.size = size_of(one, np.dtype(dtype).itemsize)
        wanted = max(count, -(-CACHES * device.l2_bytes // self.size.data))
        fits = int(MEMORY_SHARE * device.free_bytes() // self.size.all)
        self.count = max(1, min(wanted, fits))
        base = generate(family, min(base_size(one.n, one.m), self.count), seed)
        self.base = base
        self.batch = _multiplied(device, base, self.count, dtype, seed)
        self.x_bar = device.normal((self.count, base.n), dtype, seed + 1)

    def parts(self, size: int) -> list[Part]:
        """The pool cut into batches of this size; the first begins with the problems that accuracy is judged by."""
        number = min(MOST_SETS, self.count // size)
        return [
            Part(self.batch.take(k * size, (k + 1) * size), self.x_bar[k * size : (k + 1) * size])
            for k in range(number)
        ]

    def sample(self, count: int) -> tuple[Batch, Array]:
        """The first problems and cotangents as they are on the device, on the host in float64."""
        part = self.batch.take(0, min(count, self.count))
        return on_host(part), to_host(self.x_bar[: part.size]).astype(np.float64)


def on_host(batch: Batch) -> Batch:
    """A batch of tensors as one of NumPy arrays in float64."""

    def fetch(tensor: Any) -> Array:
        return to_host(tensor).astype(np.float64)

    P = None if batch.P is None else fetch(batch.P)
    return Batch(P, fetch(batch.q), fetch(batch.A), fetch(batch.b), batch.cones)


def upload(device: Device, batch: Batch, dtype: str) -> Batch:
    """A batch of NumPy arrays as one of tensors."""

    def put(array: Array) -> Any:
        return device.put(array.astype(dtype))

    return Batch(None if batch.P is None else put(batch.P), put(batch.q), put(batch.A), put(batch.b), batch.cones)


def _multiplied(device: Device, base: Batch, count: int, dtype: str, seed: int) -> Batch:
    """``count`` problems from a base on the host."""
    drawn: Any = upload(device, base, dtype)
    if count <= base.size:
        return drawn
    which = device.put(np.arange(count) % base.size)
    q, b = drawn.q[which], drawn.b[which]
    A = drawn.A if base.shared else drawn.A[which]
    P = drawn.P if base.shared or base.P is None else drawn.P[which]
    shift = _SHIFT * device.normal((count, base.n), dtype, seed)
    shift[: base.size] = 0.0
    if P is not None:
        q -= (P @ shift[..., None])[..., 0]
    b += (A @ shift[..., None])[..., 0]
    return Batch(P, q, A, b, base.cones)
