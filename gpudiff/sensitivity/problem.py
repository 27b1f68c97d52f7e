"""`Sensitivity`: a problem with named parameters; what it is made of, and its two fronts, `solve` and `solve_qp`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpudiff._errors import ArgumentError, ShapeError
from gpudiff._problem import CORE, DATA, Array, as_array, common_batch, show
from gpudiff._qp import QP_DATA, QP_POINT, solve_qp
from gpudiff._settings import Settings
from gpudiff._solution import Solution
from gpudiff._solve import solve
from gpudiff.sensitivity.affine import Affine, Shape, as_affine
from gpudiff.sensitivity.solution import SensitivitySolution
from gpudiff.sensitivity.sweep import CHUNK, Sweep

_TAKEN = ("chunk", "each")
_QP_AXES = {"P": 2, "q": 1, "G": 2, "h": 1, "A": 2, "b": 1, "lb": 1, "ub": 1}


@dataclass(frozen=True, eq=False)
class _Front:
    """A function of gpudiff that solves.

    Attributes:
        axes: its arguments, and how many axes each has without the batch axis.
        point: the fields of its solutions that have derivatives.
        solve: it, with the arguments by name.
    """

    axes: dict[str, int]
    point: tuple[str, ...]
    solve: Callable[[dict[str, Any]], Any]


class Sensitivity:
    """A problem whose data are affine in named parameters.

        minimise    ½ xᵀP(θ) x + q(θ)ᵀx
        subject to  A(θ) x + s = b(θ),   s ∈ K

    Each of P, q, A and b is an array, which no parameter moves; or a dict of coefficients by the parameter's name, with
    the constant under ""; or a callable. A coefficient has the shape of the argument followed by that of the parameter:
    of the argument alone for a parameter that is a number, [n, k] in q for one of k numbers. The linear program
    `min 2x − y subject to q·x + y ≥ 3p, y ≤ 5` in the words of `solve_qp`:

        G, h = {"": [[0, -1], [0, 1]], "q": [[-1, 0], [0, 0]]}, {"": [0, 5], "p": [-3, 0]}
        sol = gd.Sensitivity.qp(q=[2, -1], G=G, h=h).solve(p=4.0, q=2.0)
        sol.x, sol.obj  # (3.5, 5), 2
        sol.jvp(p=1.0).x, sol.jvp(q=1.0).x  # (1.5, 0), (−1.75, 0)
        sol.vjp(obj=1.0)  # {"q": −3.5, "p": 3.0}

    A parameter may have a batch axis in `solve`; arguments in which no parameter has one are stored once and shared.

    Args:
        cones: as for `gpudiff.solve`.
        P: [n, n], symmetric (each coefficient, too), or None.
        q: [n].
        A: [m, n].
        b: [m]. Constants of all four may have a batch axis.
        parameters: shapes by name; needed for callables alone, which get a dict of arrays by name and return the
            argument. A callable is sampled once for each entry of the parameters and checked to be affine.
        units: of the parameters by name, and under "obj" that of the objective; for `SensitivitySolution.report`.
        settings: as for `gpudiff.solve`.
        backend: as for `gpudiff.solve`.

    Attributes:
        shapes: of the parameters, by name.

    Raises:
        ArgumentError: an argument is not acceptable; `ShapeError` and `DataError` (a callable is not affine) are
            subclasses.

    Parameters and results are NumPy arrays in double precision. Who has torch tensors needs none of this: autograd goes
    through whatever computes the data, and through `gpudiff.solve`.

    Cost: that of `gpudiff.solve`, jvp and vjp, and O(nonzero coefficients) for each item.
    """

    def __init__(
        self,
        cones: Any = (),
        P: Any = None,
        q: Any = None,
        A: Any = None,
        b: Any = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        units: Mapping[str, str] | None = None,
        settings: Settings | None = None,
        backend: str = "auto",
    ) -> None:
        def run(data: dict[str, Any]) -> Solution:
            return solve(data.get("P"), data["q"], data.get("A"), data.get("b"), cones, settings, backend)

        front = _Front({name: CORE[name] for name in DATA}, Solution.POINT, run)
        self._read(front, {"P": P, "q": q, "A": A, "b": b}, parameters, units)

    @classmethod
    def qp(
        cls,
        P: Any = None,
        q: Any = None,
        G: Any = None,
        h: Any = None,
        A: Any = None,
        b: Any = None,
        lb: Any = None,
        ub: Any = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        units: Mapping[str, str] | None = None,
        settings: Settings | None = None,
        backend: str = "auto",
    ) -> Sensitivity:
        """The same in the words of `gpudiff.solve_qp`: minimise ½ xᵀP x + qᵀx, G x ≤ h, A x = b, lb ≤ x ≤ ub.

        Arguments are arrays, dicts or callables as those of the class; solutions have x, y, z, z_box and obj. A bound
        that is infinite stays so, whatever its coefficients.

        Raises:
            ArgumentError: an argument is not acceptable.
        """

        def run(data: dict[str, Any]) -> Any:
            rest = {name: data.get(name) for name in QP_DATA if name != "q"}
            return solve_qp(q=data["q"], **rest, settings=settings, backend=backend)

        made = cls.__new__(cls)
        arguments = {"P": P, "q": q, "G": G, "h": h, "A": A, "b": b, "lb": lb, "ub": ub}
        made._read(_Front(_QP_AXES, QP_POINT, run), arguments, parameters, units)
        return made

    def _read(
        self,
        front: _Front,
        arguments: dict[str, Any],
        parameters: Mapping[str, Any] | None,
        units: Mapping[str, str] | None,
    ) -> None:
        if arguments["q"] is None:
            raise ShapeError("q: expected an array or coefficients, got None; a zero cost is an array of zeros")
        declared: dict[str, Shape] = {name: _shape(name, value) for name, value in (parameters or {}).items()}
        self._front = front
        self._fixed: dict[str, Any] = {}
        self._moving: dict[str, Affine] = {}
        for name, value in arguments.items():
            if value is None:
                continue
            if isinstance(value, Mapping) or callable(value):
                self._moving[name] = as_affine(name, front.axes[name], value, declared)
            else:
                self._fixed[name] = value if isinstance(value, float | int) else as_array(name, value)
        self.shapes: dict[str, Shape] = dict(declared)
        for name, affine in self._moving.items():
            for key, shape in affine.shapes.items():
                if self.shapes.setdefault(key, shape) != shape:
                    expected = f"a coefficient for {key!r} of shape {show(self.shapes[key])}, as the arguments before"
                    raise ShapeError(f"{name}[{key!r}]: expected {expected} have it, got one for {show(shape)}")
        for key in self.shapes:
            if key in _TAKEN:
                raise ArgumentError(f"{key}: expected another name for a parameter, for `sweep` has an argument of it")
        self.units: dict[str, str] = dict(units or {})
        for key in self.units:
            if key != "obj" and key not in self.shapes:
                raise ArgumentError(f"units: expected names among {self._names()} or 'obj', got {key!r}")

    def solve(self, /, **values: Any) -> SensitivitySolution:
        """Solve for these values of the parameters.

        Args:
            values: every parameter, by name: of its shape, or with a batch axis in front.

        Returns:
            A `SensitivitySolution`, batched where a parameter or a constant is.

        Raises:
            ArgumentError: a parameter is missing, unknown or of a wrong shape.
            BackendError: no backend can take the problem.
            SolveError: a problem was not solved and `Settings(on_failure="raise")` asks for an exception.
        """
        return self._solved(self.checked(values))

    def sweep(
        self, /, *, chunk: int = CHUNK, each: Callable[[Any], Mapping[str, Any]] | None = None, **values: Any
    ) -> Sweep:
        """Prepare to solve for many values of the parameters, some at a time; `Sweep.run` does it.

            sweep = problem.sweep(price=prices, each=lambda sol: {"x": sol.x, "slope": sol.jvp(price=1.0).x})
            slope = sweep.run(progress=True).results["slope"]

        Memory is that of one chunk and of the results. What is done stays in `Sweep.results` whatever happens, a
        failure or an interrupt; `run` then goes on from there.

        Args:
            chunk: how many items at a time.
            each: gives the arrays [chunk, …] to keep, from the `SensitivitySolution` of each chunk; None for x, obj and
                status. What it returns must not depend on other items than its own.
            values: as for `solve`; at least one with a batch axis.

        Raises:
            ArgumentError: as for `solve`, or no parameter has a batch axis, or a constant has one.
        """
        checked = self.checked(values)
        batched = {name: value for name, value in checked.items() if value.ndim > len(self.shapes[name])}
        extents = [value.shape[0] for value in batched.values()]
        if not extents:
            raise ArgumentError("values: expected a batch axis in at least one parameter to sweep over, got none")
        if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentError(f"chunk: expected an integer of at least 1, got {chunk!r}")
        for name, constant in (*self._fixed.items(), *((name, part.constant) for name, part in self._moving.items())):
            if np.ndim(constant) > self._front.axes[name]:
                raise ShapeError(
                    f"{name}: expected a constant without a batch axis in a sweep, got {np.shape(constant)}"
                )
        total = next((extent for extent in extents if extent != 1), extents[0])

        def part(rows: slice) -> SensitivitySolution:
            taken = {name: value[rows] if value.shape[0] == total else value for name, value in batched.items()}
            return self._solved({**checked, **taken})

        return Sweep(part, total, chunk, each)

    def checked(self, values: Mapping[str, Any], partial: bool = False) -> dict[str, Array]:
        """The values of parameters as arrays; `partial`: some may be missing.

        Raises:
            ArgumentError: one is missing, unknown or of a wrong shape.
        """
        arrays: dict[str, Array] = {}
        for name, value in values.items():
            if name not in self.shapes:
                raise ArgumentError(f"{name}: expected one of the parameters {self._names()}")
            array, shape = as_array(name, value).astype(np.float64, copy=False), self.shapes[name]
            if (array.shape != shape and array.shape[1:] != shape) or array.ndim > len(shape) + 1:
                expected = f"{show(shape)} or {show(('B', *shape))}"
                raise ShapeError(f"{name}: expected shape {expected}, got {show(array.shape)}")
            arrays[name] = array
        missing = [name for name in self.shapes if name not in arrays]
        if missing and not partial:
            raise ArgumentError(f"{missing[0]}: expected a value for each of the parameters {self._names()}")
        common_batch((name, array, len(self.shapes[name])) for name, array in arrays.items())
        return {name: arrays[name] for name in self.shapes if name in arrays}

    def _solved(self, values: dict[str, Array]) -> SensitivitySolution:
        data = {**self._fixed, **{name: affine(values) for name, affine in self._moving.items()}}
        return SensitivitySolution(self._front.solve(data), values, self._moving, self._front.point, self)

    def _names(self) -> str:
        return ", ".join(map(repr, self.shapes)) or "(there are none)"

    def __repr__(self) -> str:
        parameters = ", ".join(f"{name} {show(shape)}" for name, shape in self.shapes.items())
        moved = ", ".join(f"{name}({', '.join(affine.terms)})" for name, affine in self._moving.items())
        return f"Sensitivity(parameters {parameters or 'none'}; {moved or 'nothing moves'})"


def _shape(name: str, value: Any) -> Shape:
    """The shape of a parameter as `parameters=` declares it: a tuple, or a number of entries."""
    try:
        shape = (int(value),) if isinstance(value, int) else tuple(int(extent) for extent in value)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"parameters[{name!r}]: expected a shape such as () or (3,), got {value!r}") from error
    return shape
