"""Memory of results is used again only when nobody can see it any more."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

import gpudiff as gd
from gpudiff.backends import _memory
from gpudiff.backends._memory import IDLE_LIMIT, SMALLEST, empty, release_memory

FLOAT64 = np.dtype(np.float64)


@pytest.fixture(autouse=True)
def nothing_idle():
    gc.collect()
    release_memory()
    yield
    release_memory()


def address(array):
    return array.__array_interface__["data"][0]


def large(extra=0):
    return empty((SMALLEST // 8 + extra,), FLOAT64)


def test_a_block_is_used_again_once_its_array_is_gone():
    first = large()
    place = address(first)
    del first
    assert address(large()) == place


def test_blocks_of_arrays_that_live_are_left_alone():
    first = large()
    first[:] = 1
    second = large()
    second[:] = 2
    assert (first == 1).all()


@pytest.mark.parametrize(
    "view", [lambda a: a[5:10], lambda a: a.reshape(2, -1).T, memoryview, lambda a: a.view(np.int64)]
)
def test_a_view_keeps_the_block(view):
    first = large()
    place, kept = address(first), view(first)
    del first
    assert address(large()) != place
    del kept
    assert address(large()) == place


def test_small_arrays_come_from_the_usual_allocator():
    assert empty((4, 5), np.dtype(np.float32)).base is None
    assert empty((0, 5), FLOAT64).shape == (0, 5)


def test_arrays_are_what_numpy_gives():
    array = empty((SMALLEST // 8 // 16, 16), np.dtype(np.float64))
    assert type(array) is np.ndarray
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.flags.aligned
    assert address(array) % 64 == 0


def test_what_waits_is_limited():
    count = IDLE_LIMIT // (SMALLEST * 64) + 2
    arrays = [empty((SMALLEST * 8,), FLOAT64) for _ in range(count)]
    del arrays
    assert 0 < _memory._idle_bytes <= IDLE_LIMIT
    assert _memory._idle_bytes == sum(map(len, _memory._idle.values()))


def test_threads_never_share_a_block():
    wrong = []

    def work(number):
        for _ in range(50):
            array = large()
            array[:: 1 << 12] = number
            if (array[:: 1 << 12] != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("method", ["active_set", "ipm"])
@pytest.mark.parametrize("shared", [False, True])
def test_memory_of_earlier_calls_changes_no_bits(method, shared):
    rng = np.random.default_rng(5)
    settings = gd.Settings(method=method, threads=1)
    cones = [gd.Zero(2), gd.Nonnegative(9)]

    def draw(broken):
        root = rng.standard_normal((40, 6, 6))
        P, q = root @ root.transpose(0, 2, 1) + np.eye(6), rng.standard_normal((40, 6))
        A, b = rng.standard_normal((40, 11, 6)), rng.uniform(0.5, 1.5, (40, 11))
        if broken:  # unsolvable, not convex, and not numbers
            P[3], A[5, 4], b[7, 8] = -np.eye(6), np.nan, -1e30
        return (P[0], q, A[0], b) if shared else (P, q, A, b)

    def answers(data):
        solution = gd.solve(*data, cones, settings=settings)
        backward, forward = solution.vjp(x=np.ones((40, 6))), solution.jvp(q=np.ones((40, 6)))
        return [solution.x, solution.y, solution.s, backward.q, backward.A, backward.b, forward.x, forward.y]

    data = draw(broken=False)
    fresh = answers(data)
    answers(draw(broken=True))
    for later, first in zip(answers(data), fresh, strict=True):
        np.testing.assert_array_equal(later, first)
    release_memory()
    for later, first in zip(answers(data), fresh, strict=True):
        np.testing.assert_array_equal(later, first)
