"""gpudiff itself, through its public API, as the runner times it: by default, and with each method forced."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpudiff.bench.families import Array, Batch
from gpudiff.bench.solver import TOLERANCE, Gradients, Outcome, Session, only_linear


class Gpudiff:
    """``gd.solve`` and ``Solution.vjp`` on NumPy arrays with default settings, but for the method if one is forced.

    Args:
        backend: As in ``gd.solve``.
        dtype: "float64" or "float32"; the data are converted before the clock starts.
        threads: ``Settings(threads=…)``; None leaves the choice to gpudiff.
        method: ``Settings(method=…)``; the solver's name tells which, unless it is "auto".
    """

    differentiates = True

    def __init__(
        self, backend: str = "auto", dtype: str = "float64", threads: int | None = 1, method: str = "auto"
    ) -> None:
        self.backend, self.dtype, self.threads, self.method = backend, np.dtype(dtype), threads, method
        self.name = NAMES[method]

    def unavailable(self) -> str | None:
        """The reason why no solve can run, such as a missing compiled library."""
        import gpudiff as gd

        try:
            settings: Any = gd.Settings(method=self.method)  # pyright: ignore[reportArgumentType]
            gd.solve(np.eye(1), np.zeros(1), np.eye(1), np.ones(1), {"l": 1}, settings, self.backend)
        except gd.GpudiffError as error:
            return f"{type(error).__name__}: {error}"
        return None

    def version(self) -> str:
        """The version of the imported package."""
        import gpudiff as gd

        return gd.__version__

    def settings(self) -> dict[str, Any]:
        """Defaults, but for the number of threads and a forced method."""
        return {"backend": self.backend, "dtype": self.dtype.name, "threads": self.threads, "method": self.method}

    def supports(self, batch: Batch) -> bool:
        """Everything; QPs and LPs where a method is forced, for there is no choice of it elsewhere."""
        return self.method == "auto" or only_linear(batch)

    def prepare(self, batch: Batch, derivatives: bool) -> _Session:
        """Converts the data to the dtype asked for; nothing else."""
        return _Session(self, batch)

    def prepare_warm(self, first: Batch, moved: list[Batch]) -> list[Session]:
        """``warm_start=`` the solution of the first batch."""
        start = _Session(self, first).solution()
        return [_Session(self, batch, start) for batch in moved]


class _Session:
    def __init__(self, solver: Gpudiff, batch: Batch, start: Any = None) -> None:
        import gpudiff as gd

        def cast(array: Array) -> Any:
            return np.ascontiguousarray(array, solver.dtype)

        self.solve, self.solved_code = gd.solve, gd.Status.SOLVED
        self.data = (None if batch.P is None else cast(batch.P), cast(batch.q), cast(batch.A), cast(batch.b))
        self.cones, self.backend = batch.cones, solver.backend
        # The default tolerance is the one asked of every solver; a smaller one would not be reached in float32.
        self.settings = gd.Settings(threads=solver.threads, method=solver.method)  # pyright: ignore[reportArgumentType]
        assert solver.dtype == np.float32 or self.settings.tol_feas == TOLERANCE
        self.start = start

    def solution(self) -> Any:
        """What ``gd.solve`` returns."""
        return self.solve(*self.data, self.cones, self.settings, self.backend, self.start)

    def forward(self) -> Outcome:
        return self._outcome(self.solution())

    def forward_backward(self, x_bar: Array) -> Outcome:
        solution = self.solution()
        bar = solution.vjp(x=np.asarray(x_bar, self.data[1].dtype))
        outcome = self._outcome(solution)
        outcome.gradients = Gradients(bar.q, bar.b, bar.A, bar.P)
        return outcome

    def _outcome(self, solution: Any) -> Outcome:
        work, solved = solution.work, np.asarray(solution.status) == self.solved_code
        return Outcome(solution.x, solved, None, work.flops, work.changes, work.fallbacks, solution.method)


NAMES = {"auto": "gpudiff", "ipm": "gpudiff-ipm", "active_set": "gpudiff-as"}


def is_ours(name: str) -> bool:
    """Whether a solver's name is that of gpudiff, with whatever method."""
    return name in NAMES.values()
