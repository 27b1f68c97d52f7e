"""What of a solve is no tensor as text, and back: graphs of torch hold strings, and caches of graphs compare them."""

from __future__ import annotations

import ast
import dataclasses

from functools import lru_cache
from typing import Any

from gpudiff._cones import PSD, Cone, DualExponential, DualPower, Exponential, Product, as_product
from gpudiff._settings import Settings


_SETTINGS = tuple([field.name for field in dataclasses.fields(Settings)])


def cones_text(cones: Any) -> str:
    """Cones as text: for each its key in an SCS-style dict and the number that it is told by there, such as "z1 l4 q3 p0.5".

    Raises:
        ConeError: they are no cones.
    """
    # A list is not read by `as_product`, whose memory torch.compile would have to look past.
    listed = cones if isinstance(cones, list | tuple) else as_product(cones).cones
    return " ".join([_entry(cone) if isinstance(cone, Cone) else _entry(as_product(cones).cones[0]) for cone in listed])


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
    number = cone.parameter or (cone.order if isinstance(cone, PSD) else cone.rows)
    if isinstance(cone, Exponential | DualExponential):
        number = cone.rows // 3
    return f"{cone.key}{-number if isinstance(cone, DualPower) else number!r}"
