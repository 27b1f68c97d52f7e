"""Which backend solves a problem, and why: the ordered list of backends, and `select`."""

from __future__ import annotations

from typing import NamedTuple

from gpudiff._errors import BackendError
from gpudiff._problem import Problem
from gpudiff.backends import Backend
from gpudiff.backends.cpu import CpuBackend

BACKENDS: tuple[Backend, ...] = (CpuBackend(),)  # "auto" takes the first that is usable and does not refuse
_BY_NAME = {backend.name: backend for backend in BACKENDS}


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
    if isinstance(name, str) and name in _BY_NAME:  # pyright: ignore[reportUnnecessaryIsInstance]  # user input
        return (_BY_NAME[name],)
    raise BackendError(f"backend: expected one of {', '.join(map(repr, ('auto', *_BY_NAME)))}, got {name!r}")


def select(problem: Problem, name: str = "auto") -> Choice:
    """Find a backend for a problem.

    Args:
        problem: what is to be solved.
        name: "auto", or the name of a backend.

    Raises:
        BackendError: there is no such backend, or none takes the problem; the message quotes each refusal.
    """
    refusals: list[str] = []
    for backend in candidates(name):
        refusal = backend.why_unavailable() or backend.refuses(problem)
        if refusal is None:
            return Choice(backend, "asked for by name" if name != "auto" else "; ".join(refusals) or "first choice")
        refusals.append(f"{backend.name}: {refusal}")
    raise BackendError(f"backend {name!r}: none takes this problem ({problem.describe()}); " + "; ".join(refusals))
