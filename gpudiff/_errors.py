"""What gpudiff raises: one base class, and a subclass for each kind of fault.

Every message names the argument, what was expected and what came. Faults of *values* inside one problem of a batch
(NaN, infeasible, unbounded) are no exceptions but statuses, see `gpudiff.Status`.
"""

from __future__ import annotations

from typing import Any


class GpudiffError(Exception):
    """Base class of everything that gpudiff raises on purpose."""


class ArgumentError(GpudiffError, ValueError):
    """An argument is not acceptable; the message names it, what was expected and what came."""


class ShapeError(ArgumentError):
    """An array has the wrong number of axes or the wrong extents."""


class DtypeError(ArgumentError, TypeError):
    """An argument has a type or an element type that gpudiff does not compute with."""


class DeviceError(ArgumentError):
    """An array lives on a device that no usable backend computes on."""


class DataError(ArgumentError):
    """An array has the right shape and type but contents that no problem can have, such as an asymmetric P."""


class ConeError(ArgumentError):
    """A cone is unknown, ill-sized or not supported."""


class SettingsError(ArgumentError):
    """A field of `Settings` is out of its limits."""


class BackendError(GpudiffError, RuntimeError):
    """No backend can solve this problem here; the message quotes each refusal."""


class CompileError(BackendError):
    """A kernel does not compile; the message names the problem's sizes, the architecture and what the compiler said."""


class SolveError(GpudiffError, RuntimeError):
    """Some problems were not solved, and the caller asked for an exception.

    Attributes:
        solution: the whole solution, so that what was solved is not lost.
    """

    def __init__(self, message: str, solution: Any = None) -> None:
        super().__init__(message)
        self.solution = solution
