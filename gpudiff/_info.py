"""`info()`: what is installed, which backends are usable here, and if not, why not."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module

from gpudiff._dispatch import QPSOLVERS, candidates
from gpudiff._settings import thread_count
from gpudiff._version import version, version_of
from gpudiff.backends.cpu import isa, isa_available

# A package and the distributions that bring it, the first that is installed counts.
_PACKAGES = {
    **{name: (name,) for name in ("numpy", "scipy", "clarabel", "torch")},
    "cupy": ("cupy-cuda13x", "cupy-cuda12x", "cupy"),
    **{name: (name,) for name in ("cuda-core", "cuda-bindings", "nvidia-cuda-nvrtc", "qpsolvers")},
}


@dataclass(frozen=True)
class Info:
    """What gpudiff finds on this machine; `str` of it is a table for people.

    Attributes:
        version: of gpudiff.
        python: version of the interpreter.
        platform: operating system and processor.
        backends: for each backend in order of preference None if it is usable, or why it is not.
        devices: GPUs that the CUDA backend can use.
        isa: instruction-set variant that the CPU backend uses; None without it.
        isa_available: variants that this machine can run, best first.
        threads: threads that a solve uses by default.
        packages: version of each package that matters, None where it is not installed.
    """

    version: str
    python: str
    platform: str
    backends: dict[str, str | None]
    devices: tuple[str, ...]
    isa: str | None
    isa_available: tuple[str, ...]
    threads: int
    packages: dict[str, str | None]

    @cached_property
    def solvers(self) -> tuple[str, ...]:
        """Backends beside those: the solvers that qpsolvers finds, as "qpsolvers:osqp"; it is imported when asked."""
        if self.packages["qpsolvers"] is None:
            return ()
        try:
            names = import_module("gpudiff.given.qpsolvers").available()
        except ImportError:
            return ()
        return tuple(QPSOLVERS + name for name in names)

    def __str__(self) -> str:
        lines = [f"gpudiff {self.version}, Python {self.python}, {self.platform}"]
        for name, why in self.backends.items():
            lines.append(f"  backend {name:<9} " + ("usable" if why is None else f"not usable: {why}"))
        if self.solvers:
            lines.append(f"  by name alone     {', '.join(self.solvers)}")
        lines += [f"  device            {device}" for device in self.devices]
        if self.isa is not None:
            lines.append(f"  instructions      {self.isa} (this machine can run {', '.join(self.isa_available)})")
        lines.append(f"  threads           {self.threads}")
        lines += [f"  {name:<17} {version or 'not installed'}" for name, version in self.packages.items()]
        return "\n".join(lines)

    __repr__ = __str__


def info() -> Info:
    """Look at what is installed and usable; neither torch nor CuPy is imported for it, and no GPU is worked on.

    Returns:
        An `Info`; printing it gives a table, for which qpsolvers is imported where it is installed.

    Cost: tens of milliseconds the first time, for reading the packages' metadata and asking the CUDA driver.
    """
    known = candidates("auto")
    backends = {backend.name: backend.why_unavailable() for backend in known}
    usable = backends["cpu"] is None
    return Info(
        version=version(),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        backends=backends,
        devices=tuple(device for backend in known for device in backend.devices()),
        isa=isa() if usable else None,
        isa_available=tuple(isa_available()) if usable else (),
        threads=thread_count(None),
        packages={name: next(filter(None, map(version_of, from_)), None) for name, from_ in _PACKAGES.items()},
    )
