"""gpudiff itself, through its public API, as the runner times it."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpudiff.bench.families import Array, Batch
from gpudiff.bench.solver import TOLERANCE, Gradients, Outcome


class Gpudiff:
    """``gd.solve`` and ``Solution.vjp`` on NumPy arrays with default settings.

    Args:
        backend: As in ``gd.solve``.
        dtype: "float64" or "float32"; the data are converted before the clock starts.
        threads: ``Settings(threads=…)``; None leaves the choice to gpudiff.
    """

    name = "gpudiff"
    differentiates = True

    def __init__(self, backend: str = "auto", dtype: str = "float64", threads: int | None = 1) -> None:
        self.backend, self.dtype, self.threads = backend, np.dtype(dtype), threads

    def unavailable(self) -> str | None:
        """The reason why no solve can run, such as a missing compiled library."""
        import gpudiff as gd

        try:
            gd.solve(np.eye(1), np.zeros(1), np.eye(1), np.ones(1), {"l": 1}, backend=self.backend)
        except gd.GpudiffError as error:
            return f"{type(error).__name__}: {error}"
        return None

    def version(self) -> str:
        """The version of the imported package."""
        import gpudiff as gd

        return gd.__version__

    def settings(self) -> dict[str, Any]:
        """Defaults, but for the number of threads."""
        return {"backend": self.backend, "dtype": self.dtype.name, "threads": self.threads}

    def supports(self, batch: Batch) -> bool:
        """Everything."""
        return True

    def prepare(self, batch: Batch, derivatives: bool) -> _Session:
        """Converts the data to the dtype asked for; nothing else."""
        return _Session(self, batch)


class _Session:
    def __init__(self, solver: Gpudiff, batch: Batch) -> None:
        import gpudiff as gd

        def cast(array: Array) -> Any:
            return np.ascontiguousarray(array, solver.dtype)

        self.solve, self.solved_code = gd.solve, gd.Status.SOLVED
        self.data = (None if batch.P is None else cast(batch.P), cast(batch.q), cast(batch.A), cast(batch.b))
        self.cones, self.backend = batch.cones, solver.backend
        # The default tolerance is the one asked of every solver; a smaller one would not be reached in float32.
        self.settings = gd.Settings(threads=solver.threads)
        assert solver.dtype == np.float32 or self.settings.tol_feas == TOLERANCE

    def forward(self) -> Outcome:
        solution = self.solve(*self.data, self.cones, self.settings, self.backend)
        return self._outcome(solution)

    def forward_backward(self, x_bar: Array) -> Outcome:
        solution = self.solve(*self.data, self.cones, self.settings, self.backend)
        bar = solution.vjp(x=np.asarray(x_bar, self.data[1].dtype))
        outcome = self._outcome(solution)
        outcome.gradients = Gradients(bar.q, bar.b, bar.A, bar.P)
        return outcome

    def _outcome(self, solution: Any) -> Outcome:
        return Outcome(solution.x, np.asarray(solution.status) == self.solved_code, flops=solution.work.flops)
