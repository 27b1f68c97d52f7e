"""Memory for results on the host that is used again once its array is gone.

A large array that is allocated anew for every call costs more than its bytes: the system takes the pages back when it
is freed and clears fresh ones for the next, a quarter of the time of a backward pass at n = 32. So blocks whose arrays
have been collected wait here for the next result of their size. Arrays stay what they were for the caller: each is the
only one in its block, for as long as it or a view of it lives.
"""

from __future__ import annotations

import mmap
import threading
from collections import OrderedDict
from typing import Any

import numpy as np

from gpudiff._library import loaded
from gpudiff._problem import Array

SMALLEST = 1 << 20  # bytes; less comes from the usual allocator, which keeps such memory itself
IDLE_LIMIT = 1 << 29  # bytes that wait at most; the blocks that have waited longest go first

_BYTE = np.dtype(np.uint8)


class _Lease(np.ndarray[Any, Any]):
    """The use of a block by one array, whose `base` it is: it ends when the last view of that array is collected."""

    block: mmap.mmap | None = None  # a view of a lease is none itself

    def __del__(self) -> None:
        if self.block is not None:
            _give_back(self.block)


_idle: OrderedDict[int, mmap.mmap] = OrderedDict()  # by identity, in the order in which they were given back
_idle_bytes = 0
_lock = threading.RLock()  # collecting garbage may end a lease at any line


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array with undefined contents, as from `numpy.empty`."""
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    if size < SMALLEST:
        return np.empty(shape, dtype)
    block = _take(_rounded(size))
    lease = np.ndarray.__new__(_Lease, (len(block),), _BYTE, block)
    lease.block = block
    return np.ndarray(shape, dtype, lease)  # pyright: ignore[reportArgumentType]


def release_memory() -> None:
    """Gives the memory that waits for further calls back to the system.

    Results on the host are written to memory of earlier ones that nobody holds any more; up to 512 MiB are kept for
    that, and up to 128 MiB for the solves themselves. There is no need to call this but for memory that is wanted
    elsewhere.
    """
    global _idle_bytes
    with _lock:
        _idle.clear()
        _idle_bytes = 0
    library = loaded()
    if library is not None:
        library.gd_release_memory()


def _rounded(size: int) -> int:
    """A size that blocks come in: an eighth of a power of two apart, so that similar batches share blocks."""
    step = max(1 << (size - 1).bit_length() - 4, 4096)
    return -(-size // step) * step


def _take(size: int) -> mmap.mmap:
    global _idle_bytes
    with _lock:
        for key, block in reversed(_idle.items()):  # the latest is the likeliest to be in a cache
            if len(block) == size:
                del _idle[key]
                _idle_bytes -= size
                return block
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    # Private, or a forked process would write into its parent's results.
    block = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return block


def _give_back(block: mmap.mmap) -> None:
    global _idle_bytes
    with _lock:
        _idle[id(block)] = block
        _idle_bytes += len(block)
        while _idle_bytes > IDLE_LIMIT:
            _, oldest = _idle.popitem(last=False)
            _idle_bytes -= len(oldest)
