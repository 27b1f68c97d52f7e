"""`solve_forms`: a problem as a list of forms, solved as one cone program, and its solution in the forms' own terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

from gpudiff._arrays import surface
from gpudiff._errors import ArgumentError
from gpudiff._settings import Settings, as_settings
from gpudiff._solution import Outcome, Solution
from gpudiff._solve import finish, run_short
from gpudiff.forms.base import Form, Values
from gpudiff.forms.plan import Placed
from gpudiff.forms.stack import Stack, StackLinearization, is_number

_FIELDS = ("y", "s")


class _Named:
    """Fields by their names in the whole problem, such as "forms[2].y", and what they are together."""

    placed: tuple[Placed, ...]

    def __init__(self, placed: tuple[Placed, ...], **fields: Any) -> None:
        self.__dict__.update(fields, placed=placed)


class FormsTangents(_Named):
    """Forward-mode derivatives of a solution of forms.

    Attributes:
        x: [B, n].
        obj: [B].
    """

    x: Any
    obj: Any

    @property
    def forms(self) -> tuple[Values, ...]:
        """The tangents of each form's y and s."""
        return _values(self)


class FormsCotangents(_Named):
    """Reverse-mode derivatives, each of exactly its argument's shape; None where absent or not asked for.

    Attributes:
        P: cotangent of P.
        q: cotangent of q.
    """

    P: Any = None
    q: Any = None

    @property
    def forms(self) -> tuple[Any, ...]:
        """For each form one of the same class with the cotangents of its arguments."""
        return tuple(
            form.kind(**{own: getattr(self, name, None) for own, name in form.arguments.items()})
            for form in self.placed
        )


@dataclass(frozen=True, eq=False, init=False, repr=False)
class FormsSolution(Outcome[FormsTangents, FormsCotangents]):
    """The solutions of a batch of problems in forms, in the caller's own kind of array.

    Attributes:
        x: minimisers [B, n].
        placed: the forms and the names of what is theirs.
        conic: the solution of the stacked cone program, rows in the order of the forms.
        obj: see `Solution`, as for all fields that are not listed here.
    """

    placed: tuple[Placed, ...]
    conic: Solution

    @property
    def forms(self) -> tuple[Values, ...]:
        """Each form's multipliers y and slacks s, in the order of the list; see the forms for what they are."""
        return _values(self)

    def jvp(self, P: Any = None, q: Any = None, forms: Any = None) -> FormsTangents:
        """Forward-mode derivative: how the solutions move when the data do; see `Solution.jvp`, also for K directions.

        Args:
            P: tangent [n, n] or [B, n, n]; its symmetric part counts.
            q: tangent [n] or [B, n].
            forms: for each form one of its class with tangents for arguments, or None; or a dictionary of such by
                position in the list. Each has the shape of its argument without or with the batch axis.

        Returns:
            Tangents of x, obj and each form's y and s; 0 where a problem was not solved
            (`Settings.failed_derivatives`).

        Raises:
            ArgumentError: wrong shape or type, or a tangent for an argument that the problem does not have.
        """
        directions = {"P": P, "q": q}
        for placed, form in _pairs(self.placed, forms, "forms"):
            if type(form) is not placed.kind:
                where = f"forms[{self.placed.index(placed)}]"
                raise ArgumentError(f"{where}: expected a {placed.kind.__name__} or None, got {type(form).__name__}")
            directions.update((name, getattr(form, own)) for own, name in placed.arguments.items())
        return self.linearization.jvp(directions)

    def vjp(
        self, x: Any = None, forms: Any = None, obj: Any = None, *, wrt: Iterable[str] | None = None
    ) -> FormsCotangents:
        """Reverse-mode derivative, the adjoint of `jvp`; see `Solution.vjp`, also for K directions at once.

        Args:
            x: cotangent [n] or [B, n].
            forms: for each form a `Values` with cotangents of its y and s, or None; or a dictionary of such by position
                in the list.
            obj: cotangent, a number or [B].
            wrt: names of the arguments whose cotangents are wanted, such as "q", "forms[2].G", or "forms[2]" for all of
                a form; None for all. Nothing is computed for the others.

        Returns:
            Cotangents of P, q and each form's arguments, each of exactly its argument's shape (summed over the batch
            where it is shared, and over rows where a number stands for all of them); 0 at infinite bounds and where a
            problem was not solved (`Settings.failed_derivatives`).

        Raises:
            ArgumentError: wrong shape or type, or an unknown name in `wrt`.
        """
        seeds = {"x": x, "obj": obj}
        for placed, values in _pairs(self.placed, forms, "forms"):
            if not isinstance(values, Values):
                where = f"forms[{self.placed.index(placed)}]"
                raise ArgumentError(f"{where}: expected a Values or None, got {type(values).__name__}")
            seeds.update((placed.fields[name], getattr(values, name)) for name in _FIELDS)
        whole = {f"forms[{i}]": tuple(form.arguments.values()) for i, form in enumerate(self.placed)}
        if wrt is None:
            names = ["P", "q", *(name for group in whole.values() for name in group)]
        else:
            listed = (wrt,) if isinstance(wrt, str) else tuple(wrt)
            names = [name for entry in listed for name in whole.get(entry, (entry,))]
        return self.linearization.vjp(seeds, names)


def solve_forms(
    P: Any,
    q: Any,
    forms: Iterable[Form],
    settings: Settings | None = None,
    backend: str = "auto",
    warm_start: FormsSolution | None = None,
) -> FormsSolution:
    """Solve a batch of convex problems whose constraints are told as a list of forms.

        minimise    ½ xᵀP x + qᵀx
        subject to  every form in `forms`
        dual        P x + q + the sum of the forms' terms in their multipliers = 0

    Forms are `gpudiff.forms.Equal`, `AtMost`, `Between`, `Bounds`, `Free`, `Norm`, `Quadratic`, `Rotated` and `Conic`.
    Each becomes rows of one cone program for `solve`, exactly; what comes back, derivatives included, is in terms of
    the form's own arguments. Sharing, element types and kinds of array are those of `solve`; Python numbers take the
    element type of the arrays. Problems of linear forms alone are QPs, which the active set solves.

    Args:
        P: [B, n, n], symmetric positive semidefinite, both triangles; None for a linear objective.
        q: [B, n].
        forms: the constraints.
        settings: tolerances and options; None for the defaults of `Settings`.
        backend: "auto", or the name of a backend.
        warm_start: an earlier `FormsSolution` of the same forms, of the same sizes and with bounds in the same places,
            to start from; see `solve`.

    Returns:
        A `FormsSolution` with x, obj, status, and y and s of each form in `forms`; jvp and vjp are in P, q and every
        argument of every form.

    Raises:
        ArgumentError: an argument has a wrong shape, type or value (`ShapeError`, `DtypeError`, … are subclasses); the
            arguments of forms are named like "forms[2].G".
        BackendError: no backend can take the problem.
        SolveError: a problem was not solved and `Settings(on_failure="raise")` asks for an exception.

    Cost: that of `solve` with as many rows as the forms have, of dense A and b that are stacked anew in each call.

    Source: Lobo, Vandenberghe, Boyd and Lebret 1998 (quadratic and hyperbolic constraints as second-order cones).
    """
    flat = flattened(forms)
    foreign = surface(P, q, *flat.values.values())
    if foreign is not None:
        return foreign.solve_forms(P, q, flat, settings, backend, warm_start)
    return solve_flat(P, q, flat, settings, backend, warm_start)


class Flat(NamedTuple):
    """A list of forms taken apart.

    Attributes:
        placed: what they are.
        values: their arguments, by name.
        constants: of each, see `Form.constants`.
    """

    placed: tuple[Placed, ...]
    values: dict[str, Any]
    constants: tuple[Any, ...]

    def arrays(self) -> dict[str, Any]:
        """The arguments that are not Python numbers."""
        return {name: value for name, value in self.values.items() if not is_number(value)}

    def with_arrays(self, arrays: Mapping[str, Any]) -> Flat:
        """The same forms with others in place of those of their arguments that are no Python numbers."""
        return self._replace(values={name: arrays.get(name, value) for name, value in self.values.items()})


def flattened(forms: Any) -> Flat:
    """Take a list of forms apart.

    Raises:
        ArgumentError: it is not one.
    """
    if isinstance(forms, Form | str | bytes) or not isinstance(forms, Iterable):
        raise ArgumentError(f"forms: expected a list of forms, got {type(forms).__name__}")
    placed: list[Placed] = []
    values: dict[str, Any] = {}
    constants: list[Any] = []
    for position, form in enumerate(forms):
        if not isinstance(form, Form):
            raise ArgumentError(f"forms[{position}]: expected a form of gpudiff.forms, got {type(form).__name__}")
        place = _place(type(form), position)
        placed.append(place)
        for own, name in place.arguments.items():
            values[name] = getattr(form, own)
        try:
            constants.append(form.constants())
        except ArgumentError as error:
            raise type(error)(f"forms[{position}].{error}") from error
    return Flat(tuple(placed), values, tuple(constants))


def solve_flat(
    P: Any, q: Any, flat: Flat, settings: Settings | None, backend: str, warm_start: FormsSolution | None
) -> FormsSolution:
    """`solve_forms` for arrays of the core.

    Raises:
        ArgumentError: an argument is not acceptable.
        BackendError: no backend can take the problem.
        SolveError: a problem was not solved and the settings ask for an exception.
    """
    settings = as_settings(settings)
    stack = Stack.of(P, q, flat.placed, flat.values, flat.constants)
    conic = run_short(stack.problem, settings, backend, start_of(warm_start))
    return finish(forms_solution(flat.placed, stack, conic), settings)


def start_of(warm_start: Any) -> Solution | None:
    """The solution of the cone program to start from.

    Raises:
        ArgumentError: the warm start is no `FormsSolution`.
    """
    if warm_start is None:
        return None
    if not isinstance(warm_start, FormsSolution):
        raise ArgumentError(f"warm_start: expected a FormsSolution or None, got {type(warm_start).__name__}")
    return warm_start.conic


def forms_solution(placed: tuple[Placed, ...], stack: Stack, conic: Solution) -> FormsSolution:
    """The solution of a problem in forms from that of its cone program."""
    tangents, cotangents = partial(FormsTangents, placed), partial(FormsCotangents, placed)
    linearization: Any = StackLinearization(stack, conic, tangents, cotangents, _sizes)
    names = tuple(stack.plan.fields)
    return FormsSolution(
        linearization, placed=placed, conic=conic, POINT=("x", *names, "obj"), LATE=(*Outcome.LATE, *names)
    )


@lru_cache(maxsize=1024)
def _place(kind: type[Form], position: int) -> Placed:
    prefix = f"forms[{position}]."
    return Placed(kind, {own: prefix + own for own in kind.AXES}, {name: prefix + name for name in _FIELDS})


def _sizes(stack: Stack) -> str:
    problem = stack.problem
    batch = f"B={problem.batch}, " if problem.batched else ""
    return f"{batch}n={problem.n}, {len(stack.plan.counts)} forms, {problem.m} rows, {problem.dtype}"


def _values(owner: Any) -> tuple[Values, ...]:
    return tuple(Values(*(getattr(owner, form.fields[name]) for name in _FIELDS)) for form in owner.placed)


def _pairs(placed: tuple[Placed, ...], given: Any, what: str) -> Iterable[tuple[Placed, Any]]:
    """Forms with what is given for them, without those for which nothing is.

    Raises:
        ArgumentError: neither a list with an entry for each form nor a dictionary by position.
    """
    if given is None:
        return
    if isinstance(given, Mapping):
        for position, entry in given.items():
            if not isinstance(position, int) or not 0 <= position < len(placed):
                raise ArgumentError(f"{what}: expected positions from 0 to {len(placed) - 1}, got {position!r}")
            if entry is not None:
                yield placed[position], entry
        return
    listed = list(given) if isinstance(given, Iterable) else None
    if listed is None or len(listed) != len(placed):
        came = type(given).__name__ if listed is None else len(listed)
        raise ArgumentError(f"{what}: expected {len(placed)} entries, one for each form, got {came}")
    for form, entry in zip(placed, listed, strict=True):
        if entry is not None:
            yield form, entry
