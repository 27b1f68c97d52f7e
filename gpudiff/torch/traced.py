"""`solve` and its like where torch.compile traces them: the operators of gpudiff/torch/ops.py, and plain objects."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import torch

from gpudiff._errors import ArgumentError
from gpudiff._solution import Solution
from gpudiff._settings import Settings
from gpudiff.torch import ops  # noqa: F401  # pyright: ignore[reportUnusedImport]  # the operators
from gpudiff.torch.autograd import FIELDS
from gpudiff.torch.text import cones_text, settings_text

Tensor: TypeAlias = torch.Tensor


def solve(tensors: dict[str, Any], cones: Any, settings: Settings | None, backend: str, warm_start: Any) -> Solution:
    """A solve as part of a graph.

    Raises:
        ArgumentError: there is a warm start, which a graph has no place for.
    """
    if warm_start is not None:
        raise ArgumentError("warm_start: expected None under torch.compile, got a solution")
    text = cones_text(cones), settings_text(settings), backend
    values = torch.ops.gpudiff.solve(tensors["P"], tensors["q"], tensors["A"], tensors["b"], *text)
    return Solution(TracedLinearization(), **dict(zip(FIELDS, values, strict=True)))


class TracedLinearization:
    """What stands in for a linearisation in a graph: derivatives are taken by autograd."""

    def field(self, name: str) -> Any:
        """Not to be had.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(f"{name}: not known under torch.compile")

    def jvp(self, tangents: Any) -> Any:
        """Not to be had.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("jvp: expected a solution made outside of torch.compile; use autograd inside of it")

    vjp = jvp
