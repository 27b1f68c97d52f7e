"""Compile ahead: into the cache on disk, for architectures by name (no GPU is needed) or for the GPUs that are here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gpudiff._abi import METHOD
from gpudiff._cones import as_product
from gpudiff._errors import ArgumentError, BackendError
from gpudiff._settings import thread_count
from gpudiff.jit.driver import Driver, Usage, default_driver
from gpudiff.jit.plan import Plan, architecture, overrides, plan
from gpudiff.jit.specification import DERIVATIVES, Specification, forward, shape_of

DTYPES = ("float64", "float32")


class Prepared(NamedTuple):
    """A kernel that is in the cache now.

    Attributes:
        specification: what it is compiled for.
        plan: how it is laid onto a multiprocessor.
        arch: such as "sm_90".
        usage: registers and memory; None if the compiler did not tell.
        seconds: how long compiling or finding it took.
        from_cache: whether it was there already.
    """

    specification: Specification
    plan: Plan
    arch: str
    usage: Usage | None
    seconds: float
    from_cache: bool


def prepare(
    cones: Any,
    n: int,
    *,
    has_P: bool = True,
    dtype: str = "float64",
    derivatives: bool = True,
    method: str = "ipm",
    arch: str | Sequence[str] | None = None,
    driver: Driver | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Prepared]:
    """Compile the kernels for one problem structure, so that the first solve finds them on disk.

    Args:
        cones: as for `gpudiff.solve`.
        n: number of variables.
        has_P: False for a linear objective.
        dtype: "float64" or "float32".
        derivatives: also the kernels of jvp and vjp.
        method: that solves, "ipm" or "active_set".
        arch: architectures such as "sm_90"; None takes those of the GPUs that are here.
        driver: where to look for GPUs; None for this machine's own.
        progress: called with kind and architecture after each, by one thread at a time.

    Returns:
        What is in the cache now, by architecture and kind.

    Raises:
        ArgumentError: an argument is not acceptable.
        BackendError: no GPU is here and no architecture was named, or the compiler is missing.
        CompileError: a kernel does not compile.
    """
    from concurrent.futures import ThreadPoolExecutor  # with what building needs, more than importing gpudiff may cost

    from gpudiff.jit.build import build

    product = as_product(cones)
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentError(f"n: expected an integer of at least 0, got {n!r}")
    if dtype not in DTYPES:
        raise ArgumentError(f"dtype: expected 'float64' or 'float32', got {dtype!r}")
    if method not in METHOD or (method == "active_set" and not product.linear):
        expected = " or ".join(map(repr, METHOD)) if product.linear else "'ipm' for these cones"
        raise ArgumentError(f"method: expected {expected}, got {method!r}")
    shape = shape_of(product, n, has_P, dtype)
    kinds = (*forward(shape, method), *(DERIVATIVES if derivatives else ()))
    archs = architectures(arch, driver)
    group, level = overrides()
    reporting = threading.Lock()
    jobs: list[tuple[str, Plan, Specification]] = []
    for name in archs:
        machine = architecture(name)
        for kind in kinds:
            laid = plan(kind, shape, machine, group=group, level=level)
            jobs.append((name, laid, laid.specification(kind, shape)))

    def one(job: tuple[str, Plan, Specification]) -> Prepared:
        name, laid, specification = job
        compiled = build(specification.source(), name, specification.describe())
        if progress is not None:
            with reporting:
                progress(f"{specification.kind} {name}")
        usage = compiled.usage.get(specification.entry)
        return Prepared(specification, laid, name, usage, compiled.seconds, compiled.from_cache)

    with ThreadPoolExecutor(thread_count(None)) as pool:
        return list(pool.map(one, jobs))


def architectures(arch: str | Sequence[str] | None, driver: Driver | None = None) -> list[str]:
    """The architectures to compile for: those named, each once, or those of the GPUs that are here.

    Args:
        arch: such as "sm_90"; None looks for GPUs.
        driver: where to look; None for this machine's own.

    Raises:
        ArgumentError: no such architecture.
        BackendError: none was named, and no GPU is here.
    """
    if arch is None:
        driver = default_driver() if driver is None else driver
        why = driver.why_unavailable()
        if why is not None:
            raise BackendError(f"cuda: {why}; name the architectures to compile for, such as sm_90")
        arch = [driver.facts(device).arch for device in range(driver.device_count())]
    elif isinstance(arch, str):
        arch = [arch]
    for name in arch:
        architecture(name)
    return list(dict.fromkeys(arch))


def count(derivatives: bool, archs: int) -> int:
    """How many kernels `prepare` prepares."""
    return (2 + (len(DERIVATIVES) if derivatives else 0)) * archs
