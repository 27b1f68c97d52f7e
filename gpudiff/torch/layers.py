"""`ConeLayer` and `QPLayer`: optimisation problems as modules of a network.

Each argument of the problem is given at the call, or fixed in the layer (a tensor, which becomes a buffer), or
learnable (a `torch.nn.Parameter`). A learnable P is told by its factor L, P = L Lᵀ + ε I, and stays positive definite.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch

from gpudiff._cones import as_product
from gpudiff._errors import ArgumentError, ShapeError
from gpudiff._problem import show
from gpudiff._qp import solve_qp
from gpudiff._settings import Settings, as_settings
from gpudiff._solve import Remembered, solve
from gpudiff.forms.stack import is_number
from gpudiff.torch.arrays import as_tensor, transformed

Tensor: TypeAlias = torch.Tensor

EPSILON = 1e-6  # what is added to the diagonal of L Lᵀ


class ConePoint(NamedTuple):
    """What a `ConeLayer` gives.

    Attributes:
        x: minimisers [B, n].
        y: multipliers [B, m].
        s: slacks [B, m].
        obj: objective values [B].
        status: codes of `gpudiff.Status` [B].
    """

    x: Tensor
    y: Tensor
    s: Tensor
    obj: Tensor
    status: Tensor


class QPPoint(NamedTuple):
    """What a `QPLayer` gives.

    Attributes:
        x: minimisers [B, n].
        y: multipliers of A x = b [B, p].
        z: multipliers of G x ≤ h [B, k].
        z_box: multipliers of the bounds [B, n], positive at the upper and negative at the lower one.
        obj: objective values [B].
        status: codes of `gpudiff.Status` [B].
    """

    x: Tensor
    y: Tensor
    z: Tensor
    z_box: Tensor
    obj: Tensor
    status: Tensor


class _Layer(torch.nn.Module):
    """What both layers have in common: where each argument comes from, and where the last solve ended."""

    CORES: ClassVar[dict[str, str]]  # argument → a letter for each of its axes without the batch axis

    def __init__(
        self,
        n: int,
        data: dict[str, Any],
        rows: dict[str, int],
        epsilon: float,
        settings: Settings | None,
        backend: str,
        warm_start: bool,
    ) -> None:
        super().__init__()
        try:
            self.n = operator.index(n)
        except TypeError as error:
            raise ArgumentError(f"n: expected an integer of at least 0, got {n!r}") from error
        if is_number(epsilon) and not epsilon >= 0:
            raise ArgumentError(f"epsilon: expected a number of at least 0, got {epsilon!r}")
        if not isinstance(warm_start, bool):  # pyright: ignore[reportUnnecessaryIsInstance]  # user input
            raise ArgumentError(f"warm_start: expected True or False, got {warm_start!r}")
        if isinstance(data["P"], torch.nn.Parameter):
            raise ArgumentError(
                "P: expected a tensor or None, got a Parameter; a learnable P is told by its factor, L="
            )
        if data["P"] is not None and data["L"] is not None:
            raise ArgumentError("L: expected None, for P is given, got a tensor")
        self.epsilon, self.settings, self.backend, self.warm_start = epsilon, as_settings(settings), backend, warm_start
        self._numbers: dict[str, float] = {}
        self._last: Remembered | None = None
        sizes = {"n": self.n, **rows}
        for name, value in data.items():
            if is_number(value):
                self._numbers[name] = value
                continue
            tensor = None if value is None else as_tensor(name, value)
            if tensor is not None:
                _check(name, tensor, self.CORES[name], sizes)
            if isinstance(tensor, torch.nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)

    def forget(self) -> None:
        """Let the next solve of a layer that starts warm start anew."""
        self._last = None

    def extra_repr(self) -> str:
        """Where each argument comes from."""
        fixed = [name for name in self.CORES if name in self._numbers or self._buffers.get(name) is not None]
        learnable = [name for name in self.CORES if self._parameters.get(name) is not None]
        held = {*fixed, *learnable, "L", *(["P"] if "L" in (*fixed, *learnable) else [])}
        called = [name for name in self.CORES if name not in held]
        groups = (("given at the call", called), ("fixed", fixed), ("learnable", learnable))
        parts = [f"n={self.n}", *(f"{what}: {' '.join(names)}" for what, names in groups if names)]
        return ", ".join([*parts, *(["warm_start=True"] if self.warm_start else [])])

    def __getstate__(self) -> dict[str, Any]:  # where a solve ended is no part of what is copied or stored
        return {**self.__dict__, "_last": None}

    def _arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The layer's own arguments and those of the call.

        Raises:
            ArgumentError: an argument comes from both, or q from neither.
        """
        arguments: dict[str, Any] = {}
        factor: Tensor | None = self.L  # pyright: ignore[reportAssignmentType]
        for name, value in given.items():
            own: Any = self._numbers[name] if name in self._numbers else getattr(self, name)
            if name == "P" and factor is not None:
                identity = torch.eye(self.n, dtype=factor.dtype, device=factor.device)
                with torch.autocast(factor.device.type, enabled=False):  # which would round the product
                    own = factor @ factor.mT + self.epsilon * identity
            if own is not None and value is not None:
                raise ArgumentError(f"{name}: expected None, for the layer has its own, got {type(value).__name__}")
            arguments[name] = value if own is None else own
        if arguments["q"] is None:
            raise ArgumentError("q: expected a tensor, for the layer has none of its own, got None")
        arguments["q"] = as_tensor("q", arguments["q"])
        return arguments

    def _start(self) -> Any:
        return self._last if self._remembers() else None

    def _remember(self, conic: Any) -> None:
        if self._remembers():
            self._last = Remembered(conic.linearization.point)

    def _remembers(self) -> bool:
        return self.warm_start and not torch.compiler.is_compiling() and not transformed()


class ConeLayer(_Layer):
    """A cone program as a module: `gpudiff.solve`, differentiable in all that it is given or has learnt.

        layer = gpudiff.torch.ConeLayer(cones, n, A=A, L=torch.nn.Parameter(0.1 * torch.randn(n, n)))
        x = layer(q=q, b=b).x

    Args:
        cones: as for `gpudiff.solve`.
        n: number of variables.
        P: [(B,) n, n] fixed; None where it is given at the call, or told by L, or not there.
        q: [(B,) n] fixed or learnable; None where it is given at the call, as for A and b.
        A: [(B,) m, n].
        b: [(B,) m].
        L: [(B,) n, k] with P = L Lᵀ + ε I, fixed or learnable.
        epsilon: ε.
        settings: as for `gpudiff.solve`.
        backend: as for `gpudiff.solve`.
        warm_start: start each solve from where the last one ended, if that was one of as many problems. That changes
            no answer beyond rounding. It is neither stored nor copied, and without effect in graphs and transforms.

    Raises:
        ArgumentError: an argument is not acceptable.
    """

    CORES: ClassVar[dict[str, str]] = {"P": "nn", "q": "n", "A": "mn", "b": "m", "L": "n-"}

    def __init__(
        self,
        cones: Any,
        n: int,
        *,
        P: Any = None,
        q: Any = None,
        A: Any = None,
        b: Any = None,
        L: Any = None,
        epsilon: float = EPSILON,
        settings: Settings | None = None,
        backend: str = "auto",
        warm_start: bool = False,
    ) -> None:
        product = as_product(cones)
        data = {"P": P, "q": q, "A": A, "b": b, "L": L}
        super().__init__(n, data, {"m": product.rows}, epsilon, settings, backend, warm_start)
        self.cones = list(product.cones)

    def forward(self, P: Any = None, q: Any = None, A: Any = None, b: Any = None) -> ConePoint:
        """Solve a batch of problems; what the layer has of its own is not given here.

        Args:
            P: [(B,) n, n].
            q: [(B,) n].
            A: [(B,) m, n].
            b: [(B,) m].

        Raises:
            ArgumentError: an argument is missing, or given although the layer has it, or not acceptable.
            SolveError: a problem was not solved and the settings ask for an exception.
        """
        data = self._arguments({"P": P, "q": q, "A": A, "b": b})
        solution = solve(
            **data, cones=self.cones, settings=self.settings, backend=self.backend, warm_start=self._start()
        )
        self._remember(solution)
        return ConePoint(solution.x, solution.y, solution.s, solution.obj, solution.status)

    def extra_repr(self) -> str:
        """The cones, and where each argument comes from."""
        return f"{self.cones}, {super().extra_repr()}"


class QPLayer(_Layer):
    """A quadratic program as a module: `gpudiff.solve_qp`, differentiable in all that it is given or has learnt.

        layer = gpudiff.torch.QPLayer(n, L=torch.nn.Parameter(torch.eye(n)), lb=0.0, warm_start=True)
        x = layer(q=network(features)).x

    Args:
        n: number of variables.
        P: [(B,) n, n] fixed; None where it is given at the call, or told by L, or not there.
        q: [(B,) n] fixed or learnable; None where it is given at the call or not there, as for the others.
        G: [(B,) k, n].
        h: [(B,) k].
        A: [(B,) p, n].
        b: [(B,) p].
        lb: [(B,) n], or a number for all variables.
        ub: [(B,) n], or a number for all variables.
        L: [(B,) n, k] with P = L Lᵀ + ε I, fixed or learnable.
        epsilon: ε.
        settings: as for `gpudiff.solve_qp`.
        backend: as for `gpudiff.solve_qp`.
        warm_start: as for `ConeLayer`.

    Raises:
        ArgumentError: an argument is not acceptable.
    """

    CORES: ClassVar[dict[str, str]] = {
        "P": "nn",
        "q": "n",
        "G": "kn",
        "h": "k",
        "A": "pn",
        "b": "p",
        "lb": "n",
        "ub": "n",
        "L": "n-",
    }

    def __init__(
        self,
        n: int,
        *,
        P: Any = None,
        q: Any = None,
        G: Any = None,
        h: Any = None,
        A: Any = None,
        b: Any = None,
        lb: Any = None,
        ub: Any = None,
        L: Any = None,
        epsilon: float = EPSILON,
        settings: Settings | None = None,
        backend: str = "auto",
        warm_start: bool = False,
    ) -> None:
        data = {"P": P, "q": q, "G": G, "h": h, "A": A, "b": b, "lb": lb, "ub": ub, "L": L}
        super().__init__(n, data, {}, epsilon, settings, backend, warm_start)

    def forward(
        self,
        P: Any = None,
        q: Any = None,
        G: Any = None,
        h: Any = None,
        A: Any = None,
        b: Any = None,
        lb: Any = None,
        ub: Any = None,
    ) -> QPPoint:
        """Solve a batch of problems; what the layer has of its own is not given here.

        Args:
            P: [(B,) n, n].
            q: [(B,) n].
            G: [(B,) k, n].
            h: [(B,) k].
            A: [(B,) p, n].
            b: [(B,) p].
            lb: [(B,) n], or a number.
            ub: [(B,) n], or a number.

        Raises:
            ArgumentError: an argument is missing, or given although the layer has it, or not acceptable.
            SolveError: a problem was not solved and the settings ask for an exception.
        """
        data = self._arguments({"P": P, "q": q, "G": G, "h": h, "A": A, "b": b, "lb": lb, "ub": ub})
        solution = solve_qp(**data, settings=self.settings, backend=self.backend, warm_start=self._start())
        self._remember(solution.conic)
        return QPPoint(solution.x, solution.y, solution.z, solution.z_box, solution.obj, solution.status)


def _check(name: str, tensor: Tensor, letters: str, sizes: dict[str, int]) -> None:
    """See that a tensor of the layer has the axes of its argument, with or without a batch axis; "-" is any extent.

    Raises:
        ShapeError: it has not.
    """
    shape, rank = tuple(tensor.shape), len(letters)
    own = shape[len(shape) - rank :]
    fits = rank <= len(shape) <= rank + 1
    for letter, extent in zip(letters, own, strict=False):
        fits = fits and (letter == "-" or sizes.setdefault(letter, extent) == extent)
    if not fits:
        core = tuple(str(sizes.get(letter, "rows" if letter != "-" else "any")) for letter in letters)
        raise ShapeError(f"{name}: expected shape {show(core)} or {show(('B', *core))}, got {show(shape)}")
