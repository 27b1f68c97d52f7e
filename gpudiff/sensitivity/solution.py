"""`SensitivitySolution`: a solution with derivatives in the parameters, by their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from gpudiff._derivative import item
from gpudiff._errors import ArgumentError
from gpudiff._problem import Array
from gpudiff.sensitivity.affine import Affine

if TYPE_CHECKING:
    from gpudiff.sensitivity.problem import Sensitivity

_SHOWN = 6  # entries of a parameter that a report lists
_AT_ONCE = 64  # directions that share one factorisation: bounds the memory for them


class SensitivitySolution:
    """The solution for given values of the parameters; made by `Sensitivity.solve`.

    Every field of the solution underneath can be read here: x, y, s, obj, status, ok, margin, differentiable, ….

    Attributes:
        solution: a `Solution`, or a `QPSolution` of `Sensitivity.qp`.
        values: the parameters, by name.
    """

    def __init__(
        self,
        solution: Any,
        values: dict[str, Array],
        moving: dict[str, Affine],
        point: tuple[str, ...],
        problem: Sensitivity,
    ) -> None:
        self.solution = solution
        self.values = values
        self._moving = moving
        self._point = point
        self._problem = problem

    def __getattr__(self, name: str) -> Any:  # only for what is not here
        if name.startswith("_") or name == "solution":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.solution, name)

    def jvp(self, /, **dots: Any) -> Any:
        """How the solution moves when parameters do.

        Args:
            dots: tangents by parameter, of its shape or with a batch axis; those that are not named stay.

        Returns:
            Tangents of x, y, s (or z, z_box) and obj; see `Solution.jvp`.

        Raises:
            ArgumentError: an unknown parameter, or a wrong shape.
        """
        return self._forward(self._problem.checked(dots, partial=True))

    def _forward(self, dots: Mapping[str, Array]) -> Any:
        tangents = {name: affine.tangent(dots) for name, affine in self._moving.items()}
        return self.solution.jvp(**{name: dot for name, dot in tangents.items() if dot is not None})

    def vjp(self, /, *, wrt: Any = None, **bars: Any) -> dict[str, Array]:
        """The gradient of ⟨x̄, x⟩ + ⟨ȳ, y⟩ + … + ōbj obj in the parameters; the adjoint of `jvp`.

        Args:
            wrt: names of the parameters that are wanted, or one name; None for all.
            bars: cotangents of x, y, s (or z, z_box) and obj, by name; see `Solution.vjp`.

        Returns:
            By parameter, each of the shape it was given in: where it had no batch axis, the sum over the batch.

        Raises:
            ArgumentError: an unknown name, or a wrong shape.
        """
        for name in bars:
            if name not in self._point:
                raise ArgumentError(f"{name}: expected one of {', '.join(map(repr, self._point))}")
        names = self._wanted(wrt)
        moved = [name for name, affine in self._moving.items() if any(key in affine.terms for key in names)]
        gradient = {name: np.zeros(self.values[name].shape) for name in names}
        if not moved:
            return gradient
        found = self.solution.vjp(**bars, wrt=moved)
        for name in moved:
            affine, bar = self._moving[name], np.asarray(getattr(found, name))
            for key in names:
                if key in affine.terms:
                    gradient[key] += affine.cotangent(bar, key, self.values[key].shape)
        return {name: item(value) for name, value in gradient.items()}

    def jacobian(self, of: str, wrt: str) -> Array:
        """All derivatives of one output in one parameter.

        By forward mode, a direction for each entry of the parameter, or by reverse mode, one for each entry of the
        output, whichever are fewer; reverse mode only where items do not share the parameter, for it gives sums. One
        factorisation serves 64 directions.

        Args:
            of: "x", "y", "s", "obj", or of a QP "z" or "z_box".
            wrt: the parameter.

        Returns:
            [B, *output, *parameter], without B where the solution has no batch axis.

        Raises:
            ArgumentError: an unknown name.
        """
        if of not in self._point:
            raise ArgumentError(f"of: expected one of {', '.join(map(repr, self._point))}, got {of!r}")
        self._wanted((wrt,))
        lead = self.solution.status.shape
        outputs, inputs = getattr(self.solution, of).shape[len(lead) :], self._problem.shapes[wrt]
        if prod(outputs) < prod(inputs) and (not lead or self._own(wrt)):
            found = np.reshape(self._rows(of, outputs, wrt), (*outputs, *lead, *inputs))
            return np.moveaxis(found, range(len(outputs)), range(len(lead), len(lead) + len(outputs)))
        found = np.reshape(self._columns(of, wrt, inputs), (*inputs, *lead, *outputs))
        return np.moveaxis(found, range(len(inputs)), range(found.ndim - len(inputs), found.ndim))

    def _rows(self, of: str, outputs: tuple[int, ...], wrt: str) -> Array:
        """Cotangents of a parameter for every unit cotangent of an output, [entries of the output, …]."""
        moved = [name for name, affine in self._moving.items() if wrt in affine.terms]
        shape = self.values[wrt].shape
        gradient = np.zeros((prod(outputs), *shape))
        for start, units in _units(outputs, self.solution.status.ndim):
            found = self.solution.vjp(**{of: units}, wrt=moved)
            for name in moved:
                for k, bar in enumerate(np.asarray(getattr(found, name)), start):
                    gradient[k] += self._moving[name].cotangent(bar, wrt, shape)
        return gradient

    def _columns(self, of: str, wrt: str, inputs: tuple[int, ...]) -> Array:
        """Tangents of an output for every unit tangent of a parameter, [entries of the parameter, …]."""
        axes = (1,) * self.solution.status.ndim
        parts = [np.zeros((0, *np.shape(getattr(self.solution, of))))]
        for _, units in _units(inputs, 0):
            tangents: dict[str, Array] = {}
            for name, affine in self._moving.items():
                each = [dot for unit in units if (dot := affine.tangent({wrt: unit})) is not None]
                if each:
                    tangents[name] = np.reshape(each, (len(units), *axes, *each[0].shape))
            if tangents:
                parts.append(np.asarray(getattr(self.solution.jvp(**tangents), of)))
            else:  # declared, and in none of the data
                parts.append(np.zeros((len(units), *parts[0].shape[1:])))
        return np.concatenate(parts)

    def _wanted(self, wrt: Any) -> tuple[str, ...]:
        names = tuple(self.values) if wrt is None else (wrt,) if isinstance(wrt, str) else tuple(wrt)
        for name in names:
            if name not in self.values:
                raise ArgumentError(f"wrt: expected names among {', '.join(map(repr, self.values))}, got {name!r}")
        return names

    def _batched(self, name: str) -> bool:
        return self.values[name].ndim > len(self._problem.shapes[name])

    def _own(self, name: str) -> bool:
        """Whether each item has a value of this parameter for itself."""
        return self._batched(name) and self.values[name].shape[0] == self.solution.status.shape[0]

    def report(self) -> str:
        """A table of the parameters with their values and the derivatives of the objective, for reading.

        Derivatives are in units of the objective for each unit of the parameter. Of a batch it shows means, and the
        derivative of the mean objective in a parameter that its items share.
        """
        units, lead = self._problem.units, self.solution.status.shape
        items = max(1, int(np.prod(lead)))
        gradient = self.vjp(obj=1.0)
        rows = [("parameter", "value", "d obj / d parameter", "unit")]
        for name, values in self.values.items():
            slope = gradient[name]
            if self._batched(name):
                values, slope = values.mean(axis=0), slope.sum(axis=0)
            per = f"{units.get('obj', '')}/({units[name]})" if name in units else units.get("obj", "")
            shape = self._problem.shapes[name]
            for count, index in enumerate(np.ndindex(*shape)):
                if count == _SHOWN:
                    rows.append((f"… {prod(shape) - _SHOWN} more of {name}", "", "", ""))
                    break
                label = name + (f"[{', '.join(map(str, index))}]" if index else "")
                rows.append((label, f"{values[index]:.6g}", f"{slope[index] / items:.6g}", per))
        widths = [max(len(row[k]) for row in rows) for k in range(4)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        mean = f"mean of {items} objectives" if lead else "objective"
        return "\n".join([f"{mean} {float(np.mean(self.solution.obj)):.10g} {units.get('obj', '')}".rstrip(), *lines])

    def __repr__(self) -> str:
        return f"{self.report()}\n{self.solution!r}"


def _units(shape: tuple[int, ...], axes: int) -> Iterator[tuple[int, Array]]:
    """The unit arrays of this shape, some at a time: the number of the first, and [count, *1 × axes, *shape]."""
    size = prod(shape)
    for start in range(0, size, _AT_ONCE):
        count = min(_AT_ONCE, size - start)
        yield start, np.eye(count, size, start).reshape(count, *(1,) * axes, *shape)
