"""The settings of a solve: one frozen dataclass, every field documented and checked where it is declared."""

from __future__ import annotations

import math
import operator
import os
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from gpudiff._errors import SettingsError

_TOLERANCES = ("tol_gap_abs", "tol_gap_rel", "tol_feas", "tol_infeas_abs", "tol_infeas_rel")
_SWITCHES = ("polish", "check_convex", "rescue", "verbose")
_LARGEST_INT = 2**31 - 1  # the C interface's int32_t

Method: TypeAlias = Literal["ipm", "active_set"]


@dataclass(frozen=True)
class Settings:
    """How to solve; names that Clarabel also has mean what they mean there.

    Data in float32 are known to 6e-8 of their size, so for them the three tolerances of a solution are at least 1e-6.

    Args:
        max_iter: interior-point iterations of a problem, at least 1; the Newton steps of the polish come on top, and a
            problem that they do not finish either ends as MAX_ITERATIONS.
        tol_gap_abs: a solution's duality gap is at most this,
        tol_gap_rel: or at most this times the larger of 1 and the smaller of |primal| and |dual| objective.
        tol_feas: a solution's primal and dual residuals are at most this, relative to the data and the point.
        tol_infeas_abs: a certificate's objective bᵀy or qᵀx is at most minus this before normalisation.
        tol_infeas_rel: a certificate's residual is at most this, relative to its objective.
        method: "ipm" is the interior-point method, for all cones. "active_set" is a dual active-set method for problems
            with zero and nonnegative cones alone: far less work where few rows are active or a warm start knows them,
            exact to rounding; what it cannot finish goes to the interior point, counted in `Solution.work`. "auto"
            chooses by the structure of the problem, never by its numbers, on a GPU always "ipm"; `Solution.method` says
            which it was.
        polish: finish with Newton's method on the optimality conditions (errors of 1e-12 rather than 1e-6, and
            derivatives to match); False leaves the interior-point answer as it is, for which "auto" takes "ipm". The
            active set needs no polish: with it this has no effect.
        threads: threads of the CPU backend and of Clarabel's batches, at least 1; None takes OMP_NUM_THREADS, or else
            one thread for each processor that this process may use. The result does not depend on it.
        on_failure: what stands in x, y, s and obj of a problem that was neither SOLVED nor ALMOST_SOLVED: "nan" is NaN
            beside the certificates where there are any; "zero" is 0 everywhere, which keeps a sum over the batch
            finite; "raise" raises `SolveError` once the batch is done, for which a GPU is waited for.
        failed_derivatives: what jvp and vjp give for such a problem: "zero" is 0, which leaves it out of a sum over the
            batch; "nan" is NaN, also in the cotangent of an argument that it shares with others, so that no failure
            goes unnoticed. Independent of `on_failure`.
        check_convex: look whether P is positive semidefinite; where it is not the status is INVALID_DATA. Otherwise P
            is believed to be.
        rescue: once the batch is done, which a GPU is waited for, problems that ended as MAX_ITERATIONS, TIME_LIMIT or
            NUMERICAL_ERROR are solved again on the host, by the CPU backend with at least the default `max_iter` and by
            Clarabel; `Solution.rescued` counts those that then had an answer.
        smoothing: None, or μ > 0: x, y, s and obj stay the optimum, but jvp and vjp are those of the point of the
            central path at μ, whatever the cones: for LPs, whose x does not move with q until it jumps, and for
            training from far away. See below.
        verbose: print a summary after each solve, for which a GPU is waited for.
        time_limit: seconds that each problem may take before it ends as TIME_LIMIT; None for no limit. Only Clarabel
            watches a clock: with a limit "auto" takes the backend "clarabel", and the others refuse.

    The central point at μ is the solution of

        P x + q + Aᵀy = 0,   A x + s = b,   s in the interior of K,   y = −μ∇f(s)

    with f the cone's logarithmically homogeneous barrier: s y = μ on a nonnegative row, S Y = μI on a PSD cone, s∘y =
    (μ, 0, …) on a second-order cone, with s∘y = (sᵀy, s₀y₁ + y₀s₁), where f(s) = −½ log(s₀² − ‖s₁‖²); for the
    exponential and the power cone f is the conjugate of the barrier of the dual cone that Chares 2009 gives, of degree
    3, so that sᵀy = 3μ. Equalities and absent rows (b = +inf) are as they were. With H = μ∇²f(s) its derivative solves
    P ẋ + Aᵀẏ = …, A ẋ + ṡ = …, ẏ = −H ṡ, which is unique and smooth also where that of the optimum is neither; as μ → 0
    it tends to the latter where there is one. The objective's derivative is that of ½xᵀPx + qᵀx at this x, which is not
    stationary there.

    μ is in the problem's own units, those of sᵀy: a problem with ten times the cost has the same central point at ten
    times the μ. Its objective exceeds the optimum by no more than μ times the barrier's degree: a thousandth of what
    the objective varies by is a mild smoothing. In a problem whose data are of size one rounding takes over at a μ of
    1e-7 where the optimum is not unique, of 1e-13 where it is. Of a problem in forms (`gpudiff.solve_forms`) the rows
    are those of its cone program.

    Where there is no central path, as with inequalities that leave no interior or an unbounded set of optima, and where
    rounding hides it, the derivatives are 0.

    Cost: each jvp and vjp finds the point anew from the optimum, in two (small μ) to fifteen Newton steps, each a
    factorisation and two solves of order n + m.

    Source: Chen and Mangasarian 1996 and Fukushima, Luo and Tseng 2002 for the smooth equations; Mandi and Guns 2020
    for the use with LPs.

    Raises:
        SettingsError: a field is of a wrong type or out of its limits.
    """

    max_iter: int = 200
    tol_gap_abs: float = 1e-8
    tol_gap_rel: float = 1e-8
    tol_feas: float = 1e-8
    tol_infeas_abs: float = 1e-8
    tol_infeas_rel: float = 1e-8
    method: Literal["auto", "ipm", "active_set"] = "auto"
    polish: bool = True
    threads: int | None = None
    on_failure: Literal["nan", "zero", "raise"] = "nan"
    failed_derivatives: Literal["zero", "nan"] = "zero"
    check_convex: bool = False
    rescue: bool = False
    smoothing: float | None = None
    verbose: bool = False
    time_limit: float | None = None

    def __post_init__(self) -> None:
        for name in _TOLERANCES:
            self._set(name, _tolerance(name, getattr(self, name)))
        self._set("max_iter", _count("max_iter", self.max_iter))
        if self.smoothing is not None:
            self._set("smoothing", _positive("smoothing", self.smoothing))
        if self.threads is not None:
            self._set("threads", _count("threads", self.threads, "None or an integer"))
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise SettingsError(f"{name}: expected True or False, got {getattr(self, name)!r}")
        if self.time_limit is not None:
            self._set("time_limit", _positive("time_limit", self.time_limit))
        _choice("method", self.method, ("auto", "ipm", "active_set"))
        _choice("on_failure", self.on_failure, ("nan", "zero", "raise"))
        _choice("failed_derivatives", self.failed_derivatives, ("zero", "nan"))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # the one way to normalise a field of a frozen dataclass


def _tolerance(name: str, value: Any) -> float:
    expected = f"{name}: expected a number above 0 and at most 1, got {value!r}"
    if isinstance(value, bool | str | bytes):
        raise SettingsError(expected)
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise SettingsError(expected) from error
    if not 0 < number <= 1:  # also refuses NaN
        raise SettingsError(expected)
    return number


def _positive(name: str, value: Any) -> float:
    expected = f"{name}: expected None or a finite number above 0, got {value!r}"
    if isinstance(value, bool | str | bytes):
        raise SettingsError(expected)
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise SettingsError(expected) from error
    if not 0 < number < math.inf:  # also refuses NaN
        raise SettingsError(expected)
    return number


def _count(name: str, value: Any, kind: str = "an integer") -> int:
    expected = f"{name}: expected {kind} from 1 to {_LARGEST_INT}, got {value!r}"
    try:
        number = operator.index(value)
    except TypeError as error:
        raise SettingsError(expected) from error
    if isinstance(value, bool) or not 1 <= number <= _LARGEST_INT:
        raise SettingsError(expected)
    return number


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise SettingsError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")


def as_settings(settings: Any) -> Settings:
    """The settings themselves, or the defaults for None.

    Raises:
        SettingsError: neither None nor a `Settings`.
    """
    if settings is None:
        return _DEFAULT
    if not isinstance(settings, Settings):
        raise SettingsError(f"settings: expected gpudiff.Settings or None, got {type(settings).__name__}")
    return settings


def thread_count(threads: int | None) -> int:
    """How many threads `threads` asks for: itself, or OMP_NUM_THREADS, or the processors this process may use."""
    if threads is not None:
        return threads
    try:  # OpenMP allows a list, one entry per nesting level
        asked = int(os.environ.get("OMP_NUM_THREADS", "").split(",")[0])
    except ValueError:
        asked = 0
    if asked >= 1:
        return asked
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_DEFAULT = Settings()
