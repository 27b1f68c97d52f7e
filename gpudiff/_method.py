"""Which method solves a problem: the one home of `Settings(method="auto")`, and of what each method refuses.

The choice looks at the structure of a problem (cones, sizes, what is shared, whether there is a warm start) and never
at its numbers, nor at how many problems there are.
"""

from __future__ import annotations

from typing import NamedTuple

from gpudiff._cones import Product
from gpudiff._errors import BackendError, SettingsError
from gpudiff._problem import CORE, Problem, has_batch
from gpudiff._settings import Method, Settings
from gpudiff.backends import Backend


class _Largest(NamedTuple):
    """The largest problems for which "auto" takes the active set; 0 variables stand for none at all."""

    n: int
    m: int


# The crossover between the two methods, for problems with zero and nonnegative cones, of either element type. A step of
# the active set costs O(n² + n m), and there are about as many as rows are active at the solution; the interior point
# has ten steps of O(n² (n + m)) each, whatever is active, and keeps SIMD lanes busier. Measured on one core: cold, the
# active set is 1 to 9 times as fast up to n = 200 (also with m = 8 n and with nearly all rows active), still 1.5 times
# and more at n = 300 with m ≤ 2 n, and a third as fast at n = 300, m = 2400. Warm, Newton's method from the earlier
# point is the other candidate: the active set is 1 to 6 times as fast up to n = 100 (0.85 to 1 times where nearly all
# of 50 rows are active), and falls behind at n = 128. Where an entry for shared data differs from the one for data of
# each problem's own, a problem alone (which shares nothing) agrees with the same problem among others to rounding only.
#
#    P is there, P and A are shared by a batch, warm start
_ACTIVE_SET_UP_TO = {
    (True, False, False): _Largest(n=256, m=2048),
    (True, False, True): _Largest(n=100, m=2048),
    (True, True, False): _Largest(n=256, m=2048),
    (True, True, True): _Largest(n=100, m=2048),
    (False, False, False): _Largest(n=0, m=0),  # the dual method starts from the minimum without constraints,
    (False, False, True): _Largest(n=0, m=0),  # which a linear objective does not have
    (False, True, False): _Largest(n=0, m=0),
    (False, True, True): _Largest(n=0, m=0),
}


def choose(settings: Settings, problem: Problem, backend: Backend, warm: bool) -> Method:
    """The method for a problem.

    Args:
        settings: what is asked for.
        problem: what is to be solved.
        backend: what will solve it.
        warm: whether there is a point to start from.

    Raises:
        SettingsError: the active set is asked for with cones that it does not take.
        BackendError: the backend does not have the method that is asked for.
    """
    asked = settings.method
    check(settings, problem.cones)
    if asked == "auto":
        return "active_set" if "active_set" in backend.automatic and _suits(settings, problem, warm) else "ipm"
    if asked not in backend.methods:
        known = ", ".join(map(repr, ("auto", *backend.methods)))
        raise BackendError(f"method: expected one of {known}, which backend {backend.name!r} has, got {asked!r}")
    return asked


def check(settings: Settings, cones: Product) -> None:
    """See that the method asked for takes these cones.

    Raises:
        SettingsError: it does not.
    """
    if settings.method == "active_set" and not cones.linear:
        kinds = sorted({type(cone).__name__ for cone in cones.cones} - {"Zero", "Nonnegative"})
        raise SettingsError(
            "method: expected 'auto' or 'ipm', for 'active_set' takes the cones Zero and Nonnegative alone, got "
            f"'active_set' with {', '.join(kinds)}"
        )


def _suits(settings: Settings, problem: Problem, warm: bool) -> bool:
    """Whether "auto" takes the active set where it can be had."""
    if not (problem.cones.linear and settings.polish):  # whoever wants no polish wants the interior point's answer
        return False
    largest = _ACTIVE_SET_UP_TO[problem.P is not None, _shared(problem), warm]
    return problem.n <= largest.n and problem.m <= largest.m


def _shared(problem: Problem) -> bool:
    """Whether several problems have one P and one A between them."""
    if problem.batch <= 1:
        return False
    matrices = ((name, problem.data(name)) for name in ("P", "A"))
    return not any(array is not None and has_batch(array, CORE[name], problem.batch) for name, array in matrices)
