"""The short way of `solve` for one small problem after another: NumPy arrays without a batch axis, of known sizes.

What the long way decides and checks is the same for all problems of one kind (cones, sizes, element type, settings):
the first of them goes the long way, and the rest need only be seen to be of that kind. Whatever is unusual gets None
from here, errors included, and goes the long way as well, which knows what to say.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gpudiff._cones import Product
from gpudiff._derivative import ConeLinearization, Kind, LateLinearization
from gpudiff._method import choose
from gpudiff._problem import Array
from gpudiff._settings import Settings
from gpudiff._solution import Block, Layout, Result, Solution
from gpudiff._status import keeps_point
from gpudiff.backends import Single

_MOST = 128  # kinds that are remembered, some 100 kB each at most


class _Shelf(NamedTuple):
    """The singles of one kind that are at rest.

    A call takes one off the shelf for as long as it needs it, so that two threads never work with the same one, and
    nobody waits: there come to be as many as there ever were calls at the same time.
    """

    kind: Kind
    singles: list[Single]


_shelves: dict[Any, _Shelf] = {}
_met: set[Any] = set()  # the keys of all kinds so far: those of `_shelves` and of problems that came once


def solve_short(
    P: Any, q: Any, A: Any, b: Any, cones: Product, settings: Settings, backend: str, start: Any
) -> Solution | None:
    """Solve one problem the short way, if there is one for it.

    Args:
        P: as for `solve`.
        q: a NumPy array.
        A: as for `solve`.
        b: as for `solve`.
        cones: what the caller's were read as.
        settings: of this call.
        backend: as for `solve`.
        start: where an earlier solve ended; the short way takes a problem of the same kind alone.
    """
    dtype = q.dtype
    shelf = _shelves.get((cones, id(settings), backend, q.shape, dtype, P is None, start is None))
    if shelf is None or shelf.kind.settings is not settings:  # an id may be given to another when its owner is gone
        return None
    try:
        single = shelf.singles.pop()
    except IndexError:  # other threads have all there are
        return None
    try:
        if not (
            (P is None or (type(P) is np.ndarray and P.dtype is dtype and P.shape == single.P_shape))
            and (type(A) is np.ndarray and A.dtype is dtype and A.shape == single.A_shape)
            and (type(b) is np.ndarray and b.dtype is dtype and b.shape == single.b_shape)
        ):
            return None
        if start is not None:
            start = _fitting(start, single.layout, q, b)
            if start is None:
                return None
        block = single.solve(P, q, A, b, start)
    finally:
        shelf.singles.append(single)
    return None if block is None else Solution(LateLinearization(shelf.kind, (P, q, A, b), block))


def _fitting(start: Result | Block, layout: Layout, q: Array, b: Array) -> Block | None:
    """Where an earlier solve ended as a block of this layout; None if it failed or was of another kind."""
    if isinstance(start, Block):
        return start if start.layout is layout and not start.failed else None
    parts = {name: start.array(name) for name in ("x", "y", "s")}
    shapes = tuple(part.shape for part in parts.values())
    if shapes != (q.shape, b.shape, b.shape) or type(start.x) is not np.ndarray or not keeps_point(start.status):
        return None
    block = Block(np.empty(layout.length, layout.dtype), layout)
    for name, part in parts.items():
        block.array(name)[...] = part
    return block


def prepare(solution: Solution, backend: str, warm: bool) -> None:
    """Make the short way for problems of the kind of one that has just gone the long way, if there is one for them.

    It is made when the second one comes: most problems of many a kind are solved once.

    Args:
        solution: of that problem.
        backend: what the caller asked for.
        warm: whether there was a point to start from.
    """
    done = solution.linearization
    assert isinstance(done, ConeLinearization)
    problem, settings = done.problem, done.settings
    # A rescue and zeros in place of NaN are the long way's.
    if problem.batched or problem.device is not None or settings.rescue or settings.on_failure == "zero":
        return
    key = (problem.cones, id(settings), backend, problem.q.shape, problem.dtype, problem.P is None, not warm)
    shelf = _shelves.get(key)
    if shelf is not None and shelf.kind.settings is not settings:
        shelf = None
    if shelf is not None and shelf.singles:
        return
    if key not in _met:
        if len(_met) >= _MOST:
            _met.clear()
            _shelves.clear()
        _met.add(key)
        return
    method = choose(settings, problem, done.backend, warm)
    single = done.backend.single(problem, settings, method, warm)
    if single is None:
        return
    if shelf is not None:
        shelf.singles.append(single)
    else:
        kind = Kind(
            single.work, problem.cones, problem.n, problem.dtype, settings, done.backend, method, done.result.why
        )
        _shelves[key] = _Shelf(kind, [single])
