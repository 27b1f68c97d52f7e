"""The CUDA backend: fused kernels for problems whose arrays lie on a GPU, compiled for their sizes when first needed.

Arrays on the host are taken when this backend is asked for by name: copies of them go to the first device and the
results come back, for which the call waits.

Importing this loads neither a CUDA package nor the machinery that compiles: most who import gpudiff use neither.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from gpudiff._cones import Product
from gpudiff._problem import Array, Problem
from gpudiff._settings import Method, Settings
from gpudiff._solution import Result
from gpudiff.backends import CompileReport, Start, Structure

if TYPE_CHECKING:
    from gpudiff.backends._cuda_launch import Launcher
    from gpudiff.jit.driver import Driver

_LARGEST_BATCH = 2**31 - 1


class CudaBackend:
    """Dense and small problems on NVIDIA GPUs, a whole problem inside one kernel.

    Args:
        driver: what runs the kernels; None for the CUDA driver of this machine, looked for when it is first needed.
    """

    name = "cuda"
    methods: tuple[Method, ...] = ("ipm", "active_set")
    automatic: tuple[Method, ...] = ("ipm",)  # until the other has been measured on a GPU

    def __init__(self, driver: Driver | None = None) -> None:
        self._given = driver
        self._launcher: Launcher | None = None
        self._lock = threading.Lock()

    @property
    def driver(self) -> Driver:
        """What runs the kernels."""
        if self._given is None:
            from gpudiff.jit.driver import default_driver

            self._given = default_driver()
        return self._given

    @property
    def launcher(self) -> Launcher:
        """What launches the kernels, which it keeps; one for the process."""
        if self._launcher is None:
            from gpudiff.backends._cuda_launch import Launcher
            from gpudiff.jit.kernels import Kernels

            with self._lock:
                self._launcher = self._launcher or Launcher(Kernels(self.driver))
        return self._launcher

    def refuses(self, problem: Problem, by_name: bool) -> str | None:
        """Why not: the data are on the host and nobody asked for a GPU, or there are too many problems."""
        if not by_name and problem.device is None:
            return "expected arrays on a GPU"
        return None if problem.batch <= _LARGEST_BATCH else f"expected at most {_LARGEST_BATCH} problems"

    def why_unavailable(self) -> str | None:
        """Why no GPU can be used; None if one can."""
        return self.driver.why_unavailable()

    def devices(self) -> tuple[str, ...]:
        """The GPUs by number."""
        driver = self.driver
        if driver.why_unavailable() is not None:
            return ()
        found = (driver.facts(i) for i in range(driver.device_count()))
        return tuple(f"cuda:{i} {facts.name} ({facts.arch})" for i, facts in enumerate(found))

    def compile(self, structure: Structure, settings: Settings, device: int) -> CompileReport:
        """Compile and load all kernels of a structure that these settings may need; for data on the host too."""
        from gpudiff.jit.specification import DERIVATIVES, SMOOTHED, forward, shape_of

        start = perf_counter()
        cones, n, has_P, dtype = structure
        shape = shape_of(cones, n, has_P, dtype.name)
        derivatives = SMOOTHED if settings.smoothing else DERIVATIVES
        kinds = (*forward(shape, settings.method, settings.polish), *derivatives)
        ready = self.launcher.kernels.get_all(device, kinds, shape)
        return CompileReport(self.name, kinds, sum(kernel.from_cache for kernel in ready), perf_counter() - start)

    def single(self, problem: Problem, settings: Settings, method: Method, warm: bool) -> None:
        """None: a launch takes longer than what could be saved."""
        return

    def solve(self, problem: Problem, settings: Settings, start: Start | None, method: Method = "ipm") -> Result:
        """Solve every problem of the batch; see `Backend`."""
        return self._worker(problem).solve(problem, settings, start, method)

    def jvp(
        self,
        problem: Problem,
        settings: Settings,
        result: Result,
        tangents: Sequence[Array | None],
        directions: int | None = None,
    ) -> tuple[Array, Array, Array, Array]:
        """Forward mode; see `Backend`."""
        return self._worker(problem).jvp(problem, settings, result, tangents, directions)

    def vjp(
        self,
        problem: Problem,
        settings: Settings,
        result: Result,
        cotangents: Sequence[Array | None],
        wrt: Sequence[str],
        directions: int | None = None,
    ) -> dict[str, Array]:
        """Reverse mode; see `Backend`."""
        return self._worker(problem).vjp(problem, settings, result, cotangents, wrt, directions)

    def project(self, v: Array, cones: Product, dual: bool, direction: Array | None) -> Array:
        """Projections, or with a direction their derivative, for arrays on a GPU; see `Backend`."""
        from gpudiff.backends._cuda_project import project

        return project(self.launcher.kernels, v, cones, dual, direction)

    def _worker(self, problem: Problem) -> Any:
        if problem.device is not None:
            return self.launcher
        from gpudiff.backends._cuda_host import HostLauncher

        return HostLauncher(self.launcher)
