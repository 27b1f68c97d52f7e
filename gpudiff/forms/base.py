"""What every form of constraint has in common, and what a solution says of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from gpudiff.forms.plan import Site


@dataclass(frozen=True, eq=False, repr=False)
class Form:
    """Base class of the forms: constraints in the user's own words, each a few rows of a cone program.

    A form is a frozen dataclass of its arguments, all of which default to None, for it also carries tangents and
    cotangents: `jvp` takes, and `vjp` gives, forms whose arguments are those of the data. A new form is a subclass with
    the class attributes and the method below.

    Attributes:
        AXES: argument → a letter for each of its axes without the batch axis: n is that of the variables, m that of the
            rows of `cones`; other letters are extents that are read off the arrays.
        REQUIRED: arguments that must not be None.
        NUMBERS: vectors for which a number may stand, the same in all rows.
        INFINITE: vectors of bounds → the infinite value that is no bound.
    """

    AXES: ClassVar[dict[str, str]] = {}
    REQUIRED: ClassVar[tuple[str, ...]] = ()
    NUMBERS: ClassVar[tuple[str, ...]] = ()
    INFINITE: ClassVar[dict[str, float]] = {}

    def constants(self) -> Any:
        """What `lay` needs to know beside shapes; hashable.

        Raises:
            ArgumentError: it is not acceptable; the message begins with the name of the argument.
        """
        return None

    @classmethod
    def lay(cls, at: Site) -> None:
        """Lay the rows of the cone program, and say how y and s are made of its multipliers and slacks.

        Raises:
            ShapeError: the arguments do not go together.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        given = ((name, getattr(self, name)) for name in self.AXES)
        return f"{type(self).__name__}({', '.join(_shown(name, value) for name, value in given if value is not None)})"


@dataclass(frozen=True, eq=False)
class Values:
    """What a solution says of one form; tangents and cotangents of it likewise.

    Attributes:
        y: multipliers; what they are is said at the form.
        s: slacks; what they are is said at the form.
    """

    y: Any = None
    s: Any = None


def _shown(name: str, value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"{name}={value!r}" if shape is None else f"{name} [{', '.join(map(str, shape))}]"
