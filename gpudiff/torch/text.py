"""What of a solve is no tensor as text, and back: graphs of torch hold strings, and caches of graphs compare them."""

from __future__ import annotations

import ast
import dataclasses

from functools import lru_cache
from typing import Any

from gpudiff._cones import PSD, Cone, DualExponential, DualPower, Exponential, Power, Product, as_product
from gpudiff._settings import Settings


_SETTINGS = tuple([field.name for field in dataclasses.fields(Settings)])


def cones_text(cones: Any) -> str:
    """Cones as text: for each its key in an SCS-style dict and the number that it is told by there, such as "z1 l4 q3 p0.5".

    Raises:
        ConeError: they are no cones.
    """
    # A list is not read by `as_product`, whose memory torch.compile would have to look past.
    listed = cones if isinstance(cones, list | tuple) else as_product(cones).cones
    for cone in listed:
        if not isinstance(cone, Cone):
            as_product(cones)  # raises
    return " ".join([_entry(cone) for cone in listed])


@lru_cache(maxsize=256)
def parsed_cones(text: str) -> Product:
    """The cones that a text stands for."""
    cones: list[Cone] = []
    for word in text.split():
        key = word.rstrip("0123456789.e+-") or word
        number = float(word[len(key) :])
        cones += as_product({key: [number] if key == "p" else [int(number)]}).cones
    return as_product(cones)


def settings_text(settings: Settings | None) -> str:
    """Settings as text: fields and their values, such as "max_iter=50 on_failure='zero'"; none for the defaults."""
    if settings is None:
        return ""
    return " ".join([f"{name}={getattr(settings, name)!r}" for name in _SETTINGS])


@lru_cache(maxsize=256)
def parsed_settings(text: str) -> Settings:
    """The settings that a text stands for."""
    pairs = (word.split("=") for word in text.split())
    return Settings(**{name: ast.literal_eval(value) for name, value in pairs})


def _entry(cone: Cone) -> str:
    # Attributes alone: torch.compile does not see properties of frozen dataclasses.
    if isinstance(cone, Power):
        return f"{cone.key}{'-' if isinstance(cone, DualPower) else ''}{cone.alpha!r}"
    if isinstance(cone, PSD):
        return f"{cone.key}{cone.order}"
    return f"{cone.key}{cone.rows // 3 if isinstance(cone, Exponential | DualExponential) else cone.rows}"
