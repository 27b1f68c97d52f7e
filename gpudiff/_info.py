"""`info()`: what is installed, which backends are usable here, and if not, why not."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from gpudiff._dispatch import BACKENDS
from gpudiff._settings import thread_count
from gpudiff.backends.cpu import isa, isa_available

_PACKAGES = ("numpy", "scipy", "clarabel", "torch")


@dataclass(frozen=True)
class Info:
    """What gpudiff finds on this machine; `str` of it is a table for people.

    Attributes:
        version: of gpudiff.
        python: version of the interpreter.
        platform: operating system and processor.
        backends: for each backend in order of preference None if it is usable, or why it is not.
        isa: instruction-set variant that the CPU backend uses; None without it.
        isa_available: variants that this machine can run, best first.
        threads: threads that a solve uses by default.
        packages: version of each package that matters, None where it is not installed.
    """

    version: str
    python: str
    platform: str
    backends: dict[str, str | None]
    isa: str | None
    isa_available: tuple[str, ...]
    threads: int
    packages: dict[str, str | None]

    def __str__(self) -> str:
        lines = [f"gpudiff {self.version}, Python {self.python}, {self.platform}"]
        for name, why in self.backends.items():
            lines.append(f"  backend {name:<9} " + ("usable" if why is None else f"not usable: {why}"))
        if self.isa is not None:
            lines.append(f"  instructions      {self.isa} (this machine can run {', '.join(self.isa_available)})")
        lines.append(f"  threads           {self.threads}")
        lines += [f"  {name:<17} {version or 'not installed'}" for name, version in self.packages.items()]
        return "\n".join(lines)

    __repr__ = __str__


def info() -> Info:
    """Look at what is installed and usable; nothing is imported for it.

    Returns:
        An `Info`; printing it gives a table.

    Cost: a few milliseconds, for reading the packages' metadata.
    """
    backends = {backend.name: backend.why_unavailable() for backend in BACKENDS}
    usable = backends["cpu"] is None
    return Info(
        version=version(),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        backends=backends,
        isa=isa() if usable else None,
        isa_available=tuple(isa_available()) if usable else (),
        threads=thread_count(None),
        packages={name: version_of(name) for name in _PACKAGES},
    )


def version() -> str:
    """The version of gpudiff, "0+unknown" where it runs without having been installed."""
    return version_of("gpudiff") or "0+unknown"


def version_of(package: str) -> str | None:
    """The version of an installed package, None if it is not installed."""
    from importlib import metadata  # a third of what importing gpudiff would cost, so not before it is needed

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
