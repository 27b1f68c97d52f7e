"""What of a solve is no tensor as text, and back: graphs of torch hold strings, and caches of graphs compare them."""

from __future__ import annotations

import ast
import dataclasses
from functools import lru_cache
from operator import index
from typing import Any

from gpudiff._cones import PSD, Cone, DualExponential, DualPower, Exponential, Power, Product, as_product
from gpudiff._settings import Settings

_SETTINGS = tuple([field.name for field in dataclasses.fields(Settings)])


def cones_text(cones: Any) -> str:
    """Cones as text: for each its key in an SCS-style dict and the number that it is told by there, as "z1 l4 p0.5".

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
    """Settings as text: fields and their values, such as "max_iter=50 on_failure=zero"; none for the defaults."""
    if settings is None:
        return ""
    return " ".join([name + "=" + str(getattr(settings, name)) for name in _SETTINGS])


@lru_cache(maxsize=256)
def parsed_settings(text: str) -> Settings:
    """The settings that a text stands for."""
    fields: dict[str, Any] = dict(word.split("=") for word in text.split())
    default = Settings()
    for name, value in fields.items():
        if not isinstance(getattr(default, name), str):  # numbers, True, False and None
            fields[name] = ast.literal_eval(value)
    return Settings(**fields)


def _entry(cone: Cone) -> str:
    # Attributes alone, for torch.compile does not see properties of frozen dataclasses; and `index`, which makes
    # it take a number for what it is where it would take it for the extent of some axis.
    if isinstance(cone, Power):
        return f"{cone.key}{'-' if isinstance(cone, DualPower) else ''}{cone.alpha!r}"
    if isinstance(cone, PSD):
        return f"{cone.key}{index(cone.order)}"
    rows = index(cone.rows)
    return f"{cone.key}{rows // 3 if isinstance(cone, Exponential | DualExponential) else rows}"
