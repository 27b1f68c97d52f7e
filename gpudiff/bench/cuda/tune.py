"""``--tune``: speed by threads per problem and memory layout, from which gpudiff/jit/plan.py takes its table.

For each family all combinations around the current choice are compiled side by side, and measured one after another.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from gpudiff.bench.cuda.data import Pool
from gpudiff.bench.cuda.device import Device
from gpudiff.bench.cuda.measure import KINDS, Clock, timed
from gpudiff.bench.cuda.solver import GpudiffOnDevice
from gpudiff.bench.families import Batch, Family
from gpudiff.bench.measure import Plan

GROUPS = (4, 8, 16, 32, 64, 128, 256)
LEVELS = (0, 1, 2, 3)
REACH = 4  # groups up to so many times smaller or larger than the current choice are tried
VARIABLES = ("GPUDIFF_GPU_GROUP", "GPUDIFF_GPU_LEVEL")
KERNELS = ("solve", "careful", "vjp", "sum")  # the first of them, or "active_set" in its place


@contextmanager
def overridden(group: int | None, level: int | None) -> Generator[None]:
    """The environment in which the plan takes this group and level; None leaves the choice to it."""
    before = {name: os.environ.get(name) for name in VARIABLES}
    try:
        _set(dict(zip(VARIABLES, (group, level), strict=True)))
        yield
    finally:
        _set(before)


def _set(values: dict[str, Any]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = str(value)


class Workshop:
    """What compiles and forgets kernels: gpudiff's own, unless a test puts another in its place.

    Args:
        method: That the kernels are for.
    """

    def __init__(self, method: str = "auto") -> None:
        self.kernels = ("active_set" if method == "active_set" else KERNELS[0], *KERNELS[1:])

    def default(self, batch: Batch, dtype: str) -> tuple[int, int]:
        """Group and level that the plan chooses for the solve."""
        plan = _plan(self.kernels[0], batch, dtype, None, None)
        return plan.group, plan.level

    def compile(self, batch: Batch, dtype: str, choices: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Any]:
        """Compiles the kernels of all choices side by side into the cache on disk.

        Returns:
            Per choice the figures of the kernels, or the reason, as text, why it cannot be.
        """
        jobs = [(choice, kind) for choice in choices for kind in self.kernels]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            figures = list(pool.map(lambda job: self._one(batch, dtype, *job), jobs))
        found: dict[tuple[int, int], Any] = {}
        for (choice, kind), figure in zip(jobs, figures, strict=True):
            if isinstance(figure, str):
                found[choice] = figure
            elif not isinstance(found.setdefault(choice, {}), str):
                found[choice][kind] = figure
        return found

    def forget(self) -> None:
        """Makes the next solve plan anew."""
        from gpudiff import _dispatch

        backend: Any = next(backend for backend in _dispatch.BACKENDS if backend.name == "cuda")
        backend.launcher.kernels.forget()

    def _one(self, batch: Batch, dtype: str, choice: tuple[int, int], kind: str) -> dict[str, Any] | str:
        from gpudiff.jit.build import build

        try:
            plan = _plan(kind, batch, dtype, *choice)
            specification = plan.specification(kind, _shape(batch, dtype))
            compiled = build(specification.source(), _arch(), specification.describe())
        except Exception as error:
            return f"{kind}: {type(error).__name__}: {str(error).strip()[:200]}"
        usage = compiled.usage.get(specification.entry)
        figures: dict[str, Any] = {"threads": plan.threads, "blocks": plan.min_blocks, "shared": plan.shared_per_block}
        if usage is not None:
            figures |= {"registers": usage.registers, "spills": usage.spill_stores + usage.spill_loads}
        return figures


def tune(
    device: Device,
    family: Family,
    dtype: str,
    plan: Plan,
    batch: int,
    clock: Clock,
    tick: Callable[[str], None],
    workshop: Workshop | None = None,
    solver: GpudiffOnDevice | None = None,
) -> list[dict[str, Any]]:
    """All groups within reach of the current choice, and all levels, for one family.

    Returns:
        One row per combination: "group", "level", "chosen" (what the plan does today), "kernels" (registers, spills,
        shared memory per block), "forward" and "forward_backward" in problems per second, "unsolved", or "error".
    """
    solver = solver or GpudiffOnDevice()
    workshop = workshop or Workshop(solver.method)
    pool = Pool(device, family, batch, dtype, plan.seed)
    if not solver.supports(pool.base):
        return []
    parts = pool.parts(min(batch, pool.count))
    chosen = workshop.default(pool.base, dtype)
    near = [group for group in GROUPS if chosen[0] <= REACH * group and group <= REACH * chosen[0]]
    choices = sorted({(group, level) for group in near for level in LEVELS}, key=lambda c: _distance(c, chosen))
    compiled = workshop.compile(pool.base, dtype, choices)
    rows: list[dict[str, Any]] = []
    for group, level in choices:
        tick(f"{family.name} {dtype} group {group} level {level}")
        row: dict[str, Any] = {"family": family.name, "dtype": dtype, "batch": parts[0].batch.size}
        row |= {"group": group, "level": level, "chosen": (group, level) == chosen, "error": None}
        kernels = compiled[group, level]
        if isinstance(kernels, str):
            rows.append(row | {"error": kernels})
            continue
        row["kernels"] = kernels
        if clock.over():
            rows.append(row | {"error": "the time is up"})
            continue
        with overridden(group, level):
            workshop.forget()
            try:
                for kind in KINDS:
                    session = solver.prepare_parts(parts, kind != "forward")
                    call = getattr(session, kind)
                    row["unsolved"] = int((~session.outcome(call(0), 1).solved).sum())
                    row[kind] = len(parts[0].batch.q) / statistics.median(timed(device, call, len(parts), plan))
            except Exception as error:
                row["error"] = f"{type(error).__name__}: {str(error).strip()[:300]}"
        rows.append(row)
    workshop.forget()
    device.release()
    return sorted(rows, key=lambda row: (row["group"], row["level"]))


def _distance(choice: tuple[int, int], chosen: tuple[int, int]) -> float:
    """The current choice first, its neighbours next: the time may not be enough for all."""
    return abs(choice[0].bit_length() - chosen[0].bit_length()) + 0.5 * abs(choice[1] - chosen[1])


def _shape(batch: Batch, dtype: str) -> Any:
    from gpudiff._cones import as_product
    from gpudiff.jit.specification import shape_of

    return shape_of(as_product(batch.cones), batch.n, batch.P is not None, dtype)


def _arch() -> str:
    from gpudiff.jit.driver import default_driver

    return default_driver().facts(0).arch


def _plan(kind: str, batch: Batch, dtype: str, group: int | None, level: int | None) -> Any:
    from gpudiff.jit.plan import architecture, plan

    chosen = (None, None) if kind == "sum" else (group, level)
    return plan(kind, _shape(batch, dtype), architecture(_arch()), group=chosen[0], level=chosen[1])
