"""What the GPU benchmark asks of anything it times, and gpudiff itself: on the device, and on the host's cores.

A session is prepared for several batches of one shape that lie on the device; the k-th call solves the k-th of them.
Timed are ``forward`` and ``forward_backward`` alone; what they return is looked at afterwards, by ``outcome``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from gpudiff.bench.cuda.data import Part, on_host
from gpudiff.bench.cuda.device import to_host
from gpudiff.bench.families import Batch
from gpudiff.bench.ours import NAMES, Gpudiff
from gpudiff.bench.solver import Candidate, Gradients, Outcome, only_linear


@dataclass
class DeviceOutcome(Outcome):
    """An ``Outcome`` whose x and gradients are those of the first problems only, on the host.

    Attributes:
        statuses: How many problems of the whole batch ended in which status, by name, where the solver tells.
    """

    statuses: dict[str, int] = field(default_factory=dict[str, int])


class DeviceSession(Protocol):
    """A solver prepared for the data of some batches of one shape."""

    def forward(self, k: int) -> Any:
        """Solves batch k; what it returns is for ``outcome``."""
        ...

    def forward_backward(self, k: int) -> Any:
        """Solves batch k and pulls its x_bar back to the data."""
        ...

    def outcome(self, answer: Any, count: int) -> DeviceOutcome:
        """What the last call came to, for the first ``count`` problems; waits for the device."""
        ...


class DeviceSolver(Candidate, Protocol):
    """A solver that can be benchmarked on a device."""

    def prepare_parts(self, parts: Sequence[Part], derivatives: bool) -> DeviceSession:
        """A session for these batches; not timed."""
        ...


class GpudiffOnDevice:
    """``gd.solve`` and ``Solution.vjp`` on tensors with default settings, but for the method if one is forced.

    Args:
        backend: As in ``gd.solve``.
        method: ``Settings(method=…)``; the solver's name tells which, unless it is "auto".
    """

    name = NAMES["auto"]
    differentiates = True

    def __init__(self, backend: str = "cuda", method: str = "auto") -> None:
        self.backend, self.method = backend, method
        if method != "auto":
            self.name = NAMES[method]

    def unavailable(self) -> str | None:
        """Nothing beyond what makes the device unavailable."""
        return None

    def version(self) -> str:
        """The version of the imported package."""
        return Gpudiff().version()

    def settings(self) -> dict[str, Any]:
        """Defaults, but for a forced method."""
        return {"backend": self.backend, "method": self.method}

    def supports(self, batch: Batch) -> bool:
        """Everything; by the active set, QPs."""
        return self.method != "active_set" or (only_linear(batch) and batch.P is not None)

    def prepare_parts(self, parts: Sequence[Part], derivatives: bool) -> OursOnDevice:
        """Nothing is prepared: kernels are compiled in the first call."""
        return OursOnDevice(parts, self.backend, self.method)


class OursOnDevice:
    """The session of ``GpudiffOnDevice``; an answer is the solution, and its cotangents or None."""

    def __init__(self, parts: Sequence[Part], backend: str, method: str) -> None:
        import gpudiff as gd

        self.parts, self.backend, self.gd = parts, backend, gd
        self.settings = gd.Settings(method=method)  # pyright: ignore[reportArgumentType]

    def forward(self, k: int) -> Any:
        """The solution."""
        batch = self.parts[k].batch
        return self.gd.solve(batch.P, batch.q, batch.A, batch.b, batch.cones, self.settings, self.backend), None

    def forward_backward(self, k: int) -> Any:
        """The solution and the cotangents of all arguments."""
        solution, _ = self.forward(k)
        return solution, solution.vjp(x=self.parts[k].x_bar)

    def outcome(self, answer: Any, count: int) -> DeviceOutcome:
        """With the statuses counted."""
        solution, bar = answer
        codes = to_host(solution.status)
        names = {self.gd.Status(int(code)).name: int((codes == code).sum()) for code in np.unique(codes)}
        found = DeviceOutcome(_first(solution.x, count), codes == self.gd.Status.SOLVED, statuses=names)
        if bar is not None:
            shared = self.parts[0].batch.shared
            matrices = (None, None) if shared else (_first(bar.A, count), _first(bar.P, count))
            found.gradients = Gradients(_first(bar.q, count), _first(bar.b, count), *matrices)
        return found


class GpudiffOnHost:
    """gpudiff's CPU backend on the same problems in host memory, on all cores: a peer of the GPU."""

    name = "gpudiff-cpu"
    differentiates = True

    def __init__(self, threads: int) -> None:
        self.inner = Gpudiff("cpu", threads=threads)

    def unavailable(self) -> str | None:
        """The reason why the CPU backend cannot run."""
        return self.inner.unavailable()

    def version(self) -> str:
        """The version of the imported package."""
        return self.inner.version()

    def settings(self) -> dict[str, Any]:
        """Its threads."""
        return self.inner.settings()

    def supports(self, batch: Batch) -> bool:
        """Everything."""
        return True

    def prepare_parts(self, parts: Sequence[Part], derivatives: bool) -> _OnHost:
        """One batch is fetched from the device: no cache of the host holds one worth timing."""
        return _OnHost(self.inner, parts[0])


class _OnHost:
    def __init__(self, solver: Gpudiff, part: Part) -> None:
        self.session = solver.prepare(on_host(part.batch), derivatives=True)
        self.x_bar = to_host(part.x_bar).astype(np.float64)

    def forward(self, k: int) -> Any:
        return self.session.forward()

    def forward_backward(self, k: int) -> Any:
        return self.session.forward_backward(self.x_bar)

    def outcome(self, answer: Any, count: int) -> DeviceOutcome:
        return DeviceOutcome(answer.x[:count], answer.solved, answer.gradients, answer.flops)


def result_bytes(answer: Any) -> int:
    """Memory of the tensors in a solution and its cotangents, each counted once."""
    storages: dict[int, int] = {}
    for holder in answer:
        if not dataclasses.is_dataclass(holder):
            continue
        for entry in dataclasses.fields(holder):
            value = getattr(holder, entry.name)
            if hasattr(value, "untyped_storage"):
                storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
    return sum(storages.values())


def _first(tensor: Any, count: int) -> Any:
    return None if tensor is None else to_host(tensor[:count]).astype(np.float64)
