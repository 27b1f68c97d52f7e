"""Data that are affine in named parameters, constant + Σ coefficient · θ: values, tangents and cotangents.

Coefficients are kept entry by entry of the parameter, without their zeros: most parameters move few entries. Sums run
in one order, so that an item's data have the same bits alone and in any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from gpudiff._errors import ArgumentError, DataError, ShapeError
from gpudiff._problem import Array, as_array, show

Shape = tuple[int, ...]
_ROUNDING = 1e-9  # what a callable may differ from its affine model at a random point, relative


@dataclass(frozen=True, eq=False)
class Terms:
    """One parameter's part of one argument: entry j of it times `weights[j]` goes to the entries `places[j]`.

    Attributes:
        places: for each entry of the parameter, flat indices into the argument.
        weights: the coefficients there.
    """

    places: list[Array]
    weights: list[Array]


@dataclass(frozen=True, eq=False)
class Affine:
    """One argument of the problem as a function of the parameters.

    Attributes:
        name: of the argument, such as "q".
        core: its shape without the batch axis.
        constant: what does not depend on a parameter, with or without a batch axis.
        terms: by parameter.
        shapes: of the parameters that occur.
    """

    name: str
    core: Shape
    constant: Array
    terms: dict[str, Terms]
    shapes: dict[str, Shape]

    def __call__(self, values: Mapping[str, Array]) -> Array:
        """The argument; without a batch axis where neither the constant nor a parameter in it has one."""
        return self._moved(self.constant, values)

    def tangent(self, dots: Mapping[str, Array]) -> Array | None:
        """Its tangent for those of the parameters; None where none of them moves it."""
        if not any(name in self.terms for name in dots):
            return None
        return self._moved(np.zeros(self.core), dots)

    def _moved(self, start: Array, values: Mapping[str, Array]) -> Array:
        used = {name: values[name] for name in self.terms if name in values}
        batches = [value.shape[0] for name, value in used.items() if value.ndim > len(self.shapes[name])]
        if start.ndim > len(self.core):
            batches.append(start.shape[0])
        batch = next((extent for extent in batches if extent != 1), 1)
        out = np.array(np.broadcast_to(start, (batch, *self.core)), dtype=np.float64).reshape(batch, -1)
        for name, value in used.items():
            columns = value.reshape(-1, prod(self.shapes[name]))
            terms = self.terms[name]
            for j, (place, weight) in enumerate(zip(terms.places, terms.weights, strict=True)):
                if place.size:
                    out[:, place] += weight * columns[:, j, None]
        return out.reshape((batch, *self.core) if batches else self.core)

    def cotangent(self, bar: Array, name: str, shape: Shape) -> Array:
        """The part of a parameter's cotangent that comes from this argument's.

        Args:
            bar: that of the argument, of its own shape, with a batch axis wherever the parameter has one.
            name: the parameter.
            shape: of the parameter's value; where that is shared the result is the sum over the batch.
        """
        rows = bar.reshape(-1, prod(self.core))
        terms = self.terms[name]
        out = np.zeros((rows.shape[0], len(terms.places)))
        for j, (place, weight) in enumerate(zip(terms.places, terms.weights, strict=True)):
            out[:, j] = (rows[:, place] * weight).sum(axis=1)
        return (out if out.size == prod(shape) else out.sum(axis=0)).reshape(shape)


def as_affine(name: str, axes: int, value: Any, declared: Mapping[str, Shape]) -> Affine:
    """Read one argument.

    Args:
        name: of the argument.
        axes: how many it has without the batch axis.
        value: an array; a dict of coefficients by parameter, "" for the constant; or a callable.
        declared: shapes of the parameters, which a callable needs.

    Raises:
        ArgumentError: a subclass of it, with a message that names the argument and the parameter.
    """
    if callable(value):
        value = _sampled(name, axes, value, declared)
    if not isinstance(value, Mapping):
        value = {"": value}
    arrays = {key: as_array(f"{name}[{key!r}]" if key else name, part) for key, part in value.items()}
    for key in arrays:
        if not isinstance(key, str):
            raise ArgumentError(f"{name}: expected names of parameters as keys, and '' for the constant, got {key!r}")
    constant = arrays.pop("", None)
    if constant is None and not arrays:
        raise ArgumentError(f"{name}: expected an array or coefficients, got an empty dict")
    terms: dict[str, Terms] = {}
    shapes: dict[str, Shape] = {}
    if constant is not None and constant.ndim == 0 and arrays:  # a number for all entries
        constant = np.full(next(iter(arrays.values())).shape[:axes], constant)
    if constant is not None and constant.ndim not in (axes, axes + 1):
        raise ShapeError(f"{name}: expected {axes} axes, or a batch axis before them, got {show(constant.shape)}")
    core = None if constant is None else constant.shape[constant.ndim - axes :]
    for key, array in arrays.items():
        if array.ndim < axes:
            what = f"{name}[{key!r}]: expected {axes} axes of {name} before those of {key!r}"
            raise ShapeError(f"{what}, got {show(array.shape)}")
        if core is None:
            core = array.shape[:axes]
        if array.shape[:axes] != core:
            raise ShapeError(
                f"{name}[{key!r}]: expected shape {show(core)} followed by that of {key!r}, got {show(array.shape)}"
            )
        shapes[key] = array.shape[axes:]
        if key in declared and shapes[key] != declared[key]:
            expected = f"{show((*core, *declared[key]))} (that of {name}, then that of {key!r})"
            raise ShapeError(f"{name}[{key!r}]: expected shape {expected}, got {show(array.shape)}")
        columns = array.astype(np.float64).reshape(prod(core), -1)
        places = [np.flatnonzero(columns[:, j]) for j in range(columns.shape[1])]
        terms[key] = Terms(places, [columns[place, j] for j, place in enumerate(places)])
    assert core is not None
    return Affine(name, core, np.zeros(core) if constant is None else constant.astype(np.float64), terms, shapes)


def _sampled(
    name: str, axes: int, function: Callable[[dict[str, Array]], Any], declared: Mapping[str, Shape]
) -> dict[str, Array]:
    """Coefficients of a callable: its values at zero and at each unit vector, checked at a random point.

    Raises:
        DataError: it is not affine.
    """
    if not declared:
        raise ArgumentError(f"{name}: expected `parameters=`, the shapes of the parameters by name, with a callable")

    def at(point: dict[str, Array]) -> Array:
        value = as_array(name, function({key: part.copy() for key, part in point.items()}))
        if value.ndim != axes:
            raise ShapeError(f"{name}: expected a callable that gives {axes} axes, got {show(value.shape)}")
        return value.astype(np.float64)

    zero = {key: np.zeros(shape) for key, shape in declared.items()}
    constant = at(zero)
    parts, finite = {"": constant}, np.isfinite(constant)
    rng = np.random.default_rng(0)
    random = {key: rng.uniform(-1, 1, shape) for key, shape in declared.items()}
    model = constant.copy()
    for key, shape in declared.items():
        coefficient = np.zeros((*constant.shape, *shape))
        for index in np.ndindex(*shape):
            unit = {**zero, key: np.zeros(shape)}
            unit[key][index] = 1
            coefficient[(..., *index)] = np.where(finite, at(unit), 0) - np.where(finite, constant, 0)
        if coefficient.any():
            parts[key] = coefficient
            model += np.tensordot(coefficient, random[key], len(shape))
    there = at(random)
    same = np.array_equal(there[~finite], constant[~finite], equal_nan=True)
    error = float(np.abs(there[finite] - model[finite]).max(initial=0)) if same else np.inf
    if not error <= _ROUNDING * max(1.0, float(np.abs(model[finite]).max(initial=0))):
        raise DataError(
            f"{name}: expected a callable that is affine in the parameters, got one that differs by {error:.1e} from "
            "the affine function with its values at zero and at the unit vectors; for others compute the data yourself "
            "and chain their derivatives with Solution.jvp and vjp, or let torch's autograd do so"
        )
    return parts
