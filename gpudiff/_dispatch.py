"""Which backend solves a problem, and why: the ordered list of backends, and `select`."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from gpudiff._errors import BackendError, DeviceError
from gpudiff._problem import Problem, show_place
from gpudiff.backends import Backend
from gpudiff.backends.clarabel import ClarabelBackend
from gpudiff.backends.cpu import CpuBackend
from gpudiff.backends.cuda import CudaBackend

# "auto" takes the first that does not refuse and is usable
BACKENDS: tuple[Backend, ...] = (CudaBackend(), CpuBackend(), ClarabelBackend())
# followed by the name of one of its solvers; imported when asked for, from the layer that judges points
QPSOLVERS = "qpsolvers:"


class Choice(NamedTuple):
    """The backend for a problem, and why it is this one."""

    backend: Backend
    why: str


def candidates(name: str) -> tuple[Backend, ...]:
    """The backends that `name` stands for, in order of preference.

    Raises:
        BackendError: there is no such backend.
    """
    if name == "auto":
        return BACKENDS
    for backend in BACKENDS:
        if backend.name == name:
            return (backend,)
    if isinstance(name, str) and name.startswith(QPSOLVERS):  # pyright: ignore[reportUnnecessaryIsInstance]
        return (import_module("gpudiff.given.qpsolvers").QpsolversBackend(name),)
    names = ("auto", *(backend.name for backend in BACKENDS), f"{QPSOLVERS}<solver>")
    raise BackendError(f"backend: expected one of {', '.join(map(repr, names))}, got {name!r}")


def select(problem: Problem, name: str = "auto") -> Choice:
    """Find a backend for a problem.

    Args:
        problem: what is to be solved.
        name: "auto", or the name of a backend.

    Raises:
        BackendError: there is no such backend, or none takes the problem; the message quotes each refusal.
        DeviceError: the problem lies on a GPU and no backend can take it there.
    """
    refusals: list[str] = []
    by_name = name != "auto"
    for backend in candidates(name):
        # Whether a GPU can be used is not looked up, which would load its driver, for a problem on the host.
        refusal = backend.refuses(problem, by_name) or backend.why_unavailable()
        if refusal is None:
            return Choice(backend, "asked for by name" if by_name else "; ".join(refusals) or "first choice")
        refusals.append(f"{backend.name}: {refusal}")
    what = f"backend {name!r}: none takes this problem ({problem.describe()}); " + "; ".join(refusals)
    if problem.device is None:
        raise BackendError(what)
    raise DeviceError(f"{what}; the data lie {show_place(problem.device)}: copy them to the host to solve them there")
