"""`solve` and its like where torch.compile traces them: the operators of gpudiff/torch/ops.py, and plain objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import torch

from gpudiff._errors import ArgumentError
from gpudiff._qp import QP_CONSTANTS, QP_FORMS, QPSolution
from gpudiff._settings import Settings
from gpudiff._solution import Solution
from gpudiff.forms.plan import Field, Plan
from gpudiff.forms.stack import is_number, planned
from gpudiff.torch import ops  # noqa: F401  # pyright: ignore[reportUnusedImport]  # the operators
from gpudiff.torch.autograd import FIELDS
from gpudiff.torch.stacked import cone_program, fields_of
from gpudiff.torch.text import cones_text, settings_text

Tensor: TypeAlias = torch.Tensor


def solve(tensors: dict[str, Any], cones: Any, settings: Settings | None, backend: str, warm_start: Any) -> Solution:
    """A solve as part of a graph; `cones` may be their text.

    Raises:
        ArgumentError: there is a warm start, which a graph has no place for.
    """
    if warm_start is not None:
        raise ArgumentError("warm_start: expected None under torch.compile, got a solution")
    text = cones if isinstance(cones, str) else cones_text(cones), settings_text(settings), backend
    nothing: Any = TracedLinearization()
    values = torch.ops.gpudiff.solve(tensors["P"], tensors["q"], tensors["A"], tensors["b"], *text)
    return Solution(nothing, **dict(zip(FIELDS, values, strict=True)))


def solve_qp(tensors: dict[str, Any], settings: Settings | None, backend: str, warm_start: Any) -> QPSolution:
    """A QP as part of a graph, for which its shapes are fixed; bounds may be infinite anywhere.

    Raises:
        ArgumentError: there is a warm start, which a graph has no place for.
    """
    q = tensors["q"]
    given = {name: q.new_full((), value) if is_number(value) else value for name, value in tensors.items()}
    plan, fields, text = _plan_of(tuple([(name, None if t is None else tuple(t.shape)) for name, t in given.items()]))
    conic = solve(cone_program(plan, given), text, settings, backend, warm_start)
    nothing: Any = TracedLinearization()
    others = {name: getattr(conic, name) for name in FIELDS[len(Solution.POINT) :]}
    return QPSolution(nothing, **fields_of(fields, conic), **others, conic=conic)


@torch.compiler.assume_constant_result
def _plan_of(shapes: tuple[tuple[str, tuple[int, ...] | None], ...]) -> tuple[Plan, tuple[tuple[str, Field], ...], str]:
    arrays: Any = {name: None if shape is None else np.broadcast_to(0.0, shape) for name, shape in shapes}
    masks = {name: None if arrays[name] is None else True for name in ("lb", "ub")}
    plan = planned(QP_FORMS, arrays, masks, QP_CONSTANTS)
    bare = plan._replace(arguments={}, fields={}, cores={})  # a graph takes no dictionaries for constants
    return bare, tuple(plan.fields.items()), cones_text(plan.cones)


class TracedLinearization:
    """What stands in for a linearisation in a graph, where derivatives are those of autograd: nothing is to be had."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name}: not known of a solution that was made under torch.compile")

    def jvp(self, tangents: dict[str, Any]) -> Any:
        """Not to be had.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("jvp: expected a solution made outside of torch.compile; use autograd inside of it")

    def vjp(self, cotangents: dict[str, Any], wrt: Iterable[str]) -> Any:
        """Not to be had.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("vjp: expected a solution made outside of torch.compile; use autograd inside of it")
