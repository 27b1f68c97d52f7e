"""Versions of installed packages, read on demand: finding a package's metadata costs more than importing gpudiff."""

from __future__ import annotations


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
