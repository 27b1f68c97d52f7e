"""Solves what `model_file` reads: as dense arrays where these are small, otherwise as a sparse cone program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import gpudiff as gd
from gpudiff.cli import model_file
from gpudiff.cli.model_file import Array, Model

_SMALL = 1_000_000  # numbers in dense P, G and A together: below it there is nothing to gain from sparse ones


def solve(model: Model, dtype: Any, settings: gd.Settings, backend: str, where: Path) -> Any:
    """The solution as `gpudiff.solve_qp` gives it: x, y, z, z_box, obj, status and the rest.

    Args:
        model: What was read.
        dtype: Floating-point type; None for float64.
        settings: Of the solve.
        backend: Its name; "auto" leaves large problems sparse, "clarabel" all.
        where: The file, for messages.

    Raises:
        CommandError: It is too large for that backend.
        GpudiffError: An option was refused.
    """
    if backend == "clarabel" or (backend == "auto" and model_file.dense_numbers(model) > _SMALL):
        return _Sparse(model, dtype or np.float64, settings, backend)
    data: dict[str, Any] = {"P": None, **model_file.dense(model, dtype, where).arrays}
    return gd.solve_qp(**data, settings=settings, backend=backend)


class _Sparse:
    """What `solve_qp` gives, read off the solution of the cone program with the rows of A, G and the finite bounds."""

    def __init__(self, model: Model, dtype: Any, settings: gd.Settings, backend: str) -> None:
        from scipy import sparse

        n, p, k = model.q.size, model.b.size, model.h.size
        upper, lower = (np.flatnonzero(np.isfinite(bound)) for bound in (model.ub, model.lb))
        identity = sparse.csr_matrix(sparse.identity(n))
        A = sparse.csc_matrix(sparse.vstack([model.A, model.G, identity[upper], -identity[lower]]), dtype=dtype)
        b = np.concatenate([model.b, model.h, model.ub[upper], -model.lb[lower]]).astype(dtype)
        P = sparse.csc_matrix(model.P, dtype=dtype) if model.P.nnz else None
        cones = [gd.Zero(p), gd.Nonnegative(k + upper.size + lower.size)]
        self.conic = gd.solve(P, model.q.astype(dtype), A, b, cones, settings, backend)
        y: Array = np.asarray(self.conic.y)
        self.y, self.z = y[:p], y[p : p + k]
        self.z_box = np.zeros(n, dtype)
        self.z_box[upper] += y[p + k : p + k + upper.size]
        self.z_box[lower] -= y[p + k + upper.size :]
        self.s = None  # `solve_qp` has none

    def __getattr__(self, name: str) -> Any:  # only for what is not here
        return getattr(self.conic, name)

    def __str__(self) -> str:
        return str(self.conic)
