"""Kernels ready to launch: for a device and a shape the loaded function with its launch geometry.

The first call for a shape compiles (some seconds for each kernel) or finds it on disk (a millisecond); later ones are
one look into a dictionary. Several threads may ask at once: a kernel is compiled by one of them, the others wait for
it, and different kernels compile side by side, as the compiler does not hold Python's lock.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from gpudiff._errors import BackendError
from gpudiff._settings import thread_count
from gpudiff.jit.driver import DeviceFacts, Driver, Function, Usage
from gpudiff.jit.plan import Architecture, Plan, architecture, overrides, plan
from gpudiff.jit.projection import ProjectionShape, projection_plan
from gpudiff.jit.specification import Shape, Specification

LARGEST_GRID = 2**31 - 1
MOST_WORKSPACE = 1 << 30  # bytes: of problems whose data lie in global memory fewer are worked on at a time


@dataclass(frozen=True, eq=False)
class Ready:
    """A kernel that is loaded on a device.

    Attributes:
        specification: what it is compiled for.
        plan: how it is laid onto a multiprocessor.
        function: the loaded function.
        grid_limit: blocks that are worth launching, for they fill the device; each takes problem after problem.
        usage: registers and memory; None if the compiler did not tell.
        seconds: how long compiling (or finding) and loading took.
        from_cache: whether it was found on disk.
    """

    specification: Specification
    plan: Plan
    function: Function
    grid_limit: int
    usage: Usage | None
    seconds: float
    from_cache: bool

    def grid(self, items: int) -> int:
        """Blocks to launch for so many problems (for "sum": words); at least 1."""
        each = self.plan.groups_per_block
        return max(1, min(-(-items // each), self.grid_limit))

    def workspace_bytes(self, grid: int) -> int:
        """Global memory that a launch of `grid` blocks needs; 0 if none."""
        return self.plan.global_bytes * self.plan.groups_per_block * grid

    def launch(self, grid: int, stream: int, arguments: ctypes.Structure) -> None:
        """Start `grid` blocks on a stream of the device that this is loaded on.

        Raises:
            BackendError: the driver refuses.
        """
        self.function.launch(grid, self.plan.threads, self.plan.shared_per_block, stream, arguments)


class Kernels:
    """The kernels of a process.

    Args:
        driver: what runs them.

    Attributes:
        driver: the same.
        compile_seconds: how long compiling, finding and loading have taken; of kernels side by side the sum.
        compiled: how many kernels were compiled,
        cache_hits: and how many found on disk.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.compile_seconds = 0.0
        self.compiled = 0
        self.cache_hits = 0
        self._ready: dict[tuple[int, str, Shape | ProjectionShape, str], Ready] = {}
        self._making: dict[tuple[int, str, Shape | ProjectionShape, str], threading.Lock] = {}
        self._facts: dict[int, DeviceFacts] = {}
        self._lock = threading.Lock()

    def get(self, device: int, kind: str, shape: Shape | ProjectionShape, quick: str = "float32") -> Ready:
        """The kernel of one kind for one shape, compiled and loaded if it is not yet.

        Args:
            device: its number.
            kind: one of `gpudiff.jit.specification.KINDS` or `SMOOTHED`, or "project".
            shape: from `shape_of`, or `projection_shape`.
            quick: scalar of the fast interior-point run.

        Raises:
            CompileError: it does not compile.
            BackendError: it cannot be compiled or loaded.
        """
        key = (device, kind, shape, quick)
        ready = self._ready.get(key)
        if ready is not None:
            return ready
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            ready = self._ready.get(key)
            if ready is None:
                ready = self._ready[key] = self._make(device, kind, shape, quick)
        return ready

    def get_all(self, device: int, kinds: Iterable[str], shape: Shape, quick: str = "float32") -> tuple[Ready, ...]:
        """The kernels of several kinds, those that are missing compiled side by side.

        Raises:
            CompileError: one does not compile.
            BackendError: one cannot be compiled or loaded.
        """
        kinds = tuple(kinds)
        missing = [kind for kind in kinds if (device, kind, shape, quick) not in self._ready]
        if len(missing) > 1:
            from concurrent.futures import ThreadPoolExecutor  # not before it is needed: it would slow down the import

            with ThreadPoolExecutor(min(len(missing), thread_count(None))) as pool:
                list(pool.map(lambda kind: self.get(device, kind, shape, quick), missing))
        return tuple(self.get(device, kind, shape, quick) for kind in kinds)

    def forget(self) -> None:
        """Start anew, with the overrides that the environment asks for now; what is on disk stays."""
        with self._lock:
            self._ready.clear()
            self._making.clear()

    def facts(self, device: int) -> DeviceFacts:
        """What a device is; asked of the driver once."""
        facts = self._facts.get(device)
        if facts is None:
            facts = self._facts[device] = self.driver.facts(device)
        return facts

    def _make(self, device: int, kind: str, shape: Shape | ProjectionShape, quick: str) -> Ready:
        start = time.perf_counter()
        facts = self.facts(device)
        machine = architecture(facts.arch)
        # The table decides, so that what was compiled ahead for the architecture is what runs; a device may have less.
        shared = min(machine.shared, facts.shared_per_multiprocessor, facts.shared_per_block + machine.reserved)
        machine = machine._replace(shared=shared)
        laid = _plan(kind, shape, machine, quick)
        specification = laid.specification(kind, shape, quick)
        name = specification.describe()
        compiled = self.driver.compile(specification.source(), facts.arch, name)
        usage = compiled.usage.get(specification.entry)
        function = self.driver.load(device, compiled.cubin, specification.entry, laid.shared_per_block)
        blocks = function.blocks_per_multiprocessor(laid.threads, laid.shared_per_block)
        if blocks < 1:
            raise BackendError(
                f"cuda: no block of the {name} fits on a multiprocessor of {facts.name}: {laid.threads} threads with "
                f"{laid.shared_per_block} bytes of shared memory, {usage}; please report this"
            )
        limit = LARGEST_GRID if kind == "sum" else facts.multiprocessors * blocks
        if laid.global_bytes:
            limit = max(1, min(limit, MOST_WORKSPACE // (laid.global_bytes * laid.groups_per_block)))
        seconds = time.perf_counter() - start
        with self._lock:
            self.compile_seconds += seconds
            self.cache_hits += compiled.from_cache
            self.compiled += not compiled.from_cache
        how = "found on disk" if compiled.from_cache else "compiled"
        import logging  # here, for the sake of `import gpudiff`

        log = logging.getLogger("gpudiff")
        log.info("%s for %s: %s and loaded in %.3f s", name, facts.arch, how, seconds)
        return Ready(specification, laid, function, limit, usage, seconds, compiled.from_cache)


def _plan(kind: str, shape: Shape | ProjectionShape, machine: Architecture, quick: str) -> Plan:
    if isinstance(shape, ProjectionShape):
        return projection_plan(shape, machine)
    group, level = overrides() if kind != "sum" else (None, None)
    try:
        return plan(kind, shape, machine, quick, group, level)
    except BackendError:
        if kind in ("solve", "active_set") or level is None:
            raise
        return plan(kind, shape, machine, quick, group)  # a level is asked for to measure the first kernel with it
