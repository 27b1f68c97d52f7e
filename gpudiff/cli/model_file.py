"""Reading quadratic programs from MPS, QPS and LP files, with HiGHS doing the parsing.

`read_qp` gives the problem as sparse matrices in the form of `gpudiff.solve_qp`, with the names of its columns and
rows; `dense` makes of it the arrays that `solve_qp` takes, where it is small enough for them.
"""

from __future__ import annotations

import gzip
import tempfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpudiff.cli.errors import CommandError, require
from gpudiff.cli.problem_file import ProblemFile

Array = NDArray[Any]

FORMATS = (".mps", ".qps", ".lp")
_COMPRESSED = ".gz"
_INFINITE = 1e20  # what the formats take for infinity
_LARGEST = 25_000_000
"""Numbers in dense P, G and A together, 200 MB: the solve needs a few times as much, and minutes."""


class Names(NamedTuple):
    """What the file calls its columns (variables) and rows (constraints)."""

    columns: list[str]
    rows: list[str]


class Model(NamedTuple):
    """A quadratic program of a file: minimise ½ xᵀP x + qᵀx  s.t.  G x ≤ h,  A x = b,  lb ≤ x ≤ ub.

    The file's own objective is `sense` times (that of the problem) + `offset`: a file that maximises is read with P and
    q negated. A row of the file is a row of A where its bounds are equal, otherwise one of G for each finite bound,
    negated for a lower one.

    Attributes:
        P: sparse symmetric [n, n], both triangles.
        q: [n].
        G: sparse [k, n].
        h: [k].
        A: sparse [p, n].
        b: [p].
        lb: [n], −inf where there is no bound.
        ub: [n], +inf where there is no bound.
        names: of columns and rows.
        offset: constant of the file's objective.
        sense: 1 where the file minimises, −1 where it maximises.
        in_G: the file's row of each row of G [k].
        side: 1 for its upper, −1 for its lower bound [k].
        in_A: the file's row of each row of A [p].
        rows: sparse [m, n], the file's rows.
        lower: their bounds [m],
        upper: infinite where there is none.
        title: the file's name.
        remarks: warnings of the parser.
    """

    P: Any
    q: Array
    G: Any
    h: Array
    A: Any
    b: Array
    lb: Array
    ub: Array
    names: Names
    offset: float
    sense: int
    in_G: Array
    side: Array
    in_A: Array
    rows: Any
    lower: Array
    upper: Array
    title: str
    remarks: tuple[str, ...]

    def objective(self, obj: Any) -> float:
        """The file's objective, of that of the problem."""
        return self.sense * float(obj) + self.offset

    def prices(self, y: Array, z: Array) -> Array:
        """The derivatives of the file's objective in the right-hand sides of its rows [m], from y [p] and z [k].

        Of a row with two bounds in the one that is active.
        """
        prices = np.zeros(len(self.names.rows))
        prices[self.in_A] = -y
        np.add.at(prices, self.in_G, -self.side * z)
        return self.sense * prices


def is_model(path: Path) -> bool:
    """Whether a file's name says that it is one of these formats, compressed or not."""
    name = path.name.lower()
    return name.removesuffix(_COMPRESSED).endswith(FORMATS)


def read_qp(path: Path) -> Model:
    """Read a quadratic or linear program from an MPS, QPS or LP file, or one of these compressed by gzip.

    MPS files may be fixed or free, with RANGES, OBJSENSE, a constant (minus the right-hand side of the objective) and
    the sections QUADOBJ (one triangle) or QMATRIX (both). Free rows are left out, except the first, the objective.

    Raises:
        CommandError: The file cannot be read, is no such program, or has integer variables; or highspy is missing.
    """
    if not path.is_file():
        raise CommandError(f"{path}: no such file")
    highspy: Any = require("highspy", "files")
    from scipy import sparse  # not before it is needed, as throughout gpudiff

    model, remarks = _parsed(highspy, path)
    lp = model.lp_
    n, m = int(lp.num_col_), int(lp.num_row_)
    discrete = [kind for kind in lp.integrality_ if kind != highspy.HighsVarType.kContinuous]
    if discrete:
        raise CommandError(f"{path}: expected continuous variables alone, got {len(discrete)} that are not")
    columns = lp.a_matrix_.format_ == highspy.MatrixFormat.kColwise
    kind = sparse.csc_matrix if columns else sparse.csr_matrix
    entries = lp.a_matrix_
    rows = kind((entries.value_, entries.index_, entries.start_), shape=(m, n)).tocsr()
    sense = -1 if lp.sense_ == highspy.ObjSense.kMaximize else 1
    P = sense * _hessian(highspy, model.hessian_, n)
    lb, ub = _bound(lp.col_lower_), _bound(lp.col_upper_)
    lower, upper = _bound(lp.row_lower_), _bound(lp.row_upper_)
    in_A = np.flatnonzero(lower == upper)
    above = np.flatnonzero((lower != upper) & (upper < np.inf))
    below = np.flatnonzero((lower != upper) & (lower > -np.inf))
    in_G = np.concatenate([above, below])
    side = np.repeat([1.0, -1.0], [above.size, below.size])
    G = sparse.diags(side) @ rows[in_G]
    h = np.concatenate([upper[above], -lower[below]])
    names = Names(_names(lp.col_names_, n, "x"), _names(lp.row_names_, m, "row"))
    q = sense * np.array(lp.col_cost_, float)
    rest = (rows, lower, upper, path.name, remarks)
    return Model(
        P, q, G, h, rows[in_A], upper[in_A], lb, ub, names, float(lp.offset_), sense, in_G, side, in_A, *rest
    )  # fmt: skip


def dense_numbers(model: Model) -> int:
    """How many numbers dense P, G and A would be."""
    n = model.q.size
    return n * (model.h.size + model.b.size + (n if model.P.nnz else 0))


def dense(model: Model, dtype: Any, where: Path) -> ProblemFile:
    """The arguments of `gpudiff.solve_qp`.

    Args:
        model: What was read.
        dtype: Floating-point type; None for float64.
        where: The file, for the message.

    Raises:
        CommandError: It is too large to be solved as a dense problem.
    """
    numbers = dense_numbers(model)
    if numbers > _LARGEST:
        size = f"{model.q.size:,} variables and {model.h.size + model.b.size:,} bounds of rows"
        raise CommandError(
            f"{where}: {size} are {numbers:,} numbers as dense matrices; expected at most {_LARGEST:,}, or "
            "--backend auto or clarabel"
        )
    arrays: dict[str, Array] = {"q": model.q}
    if model.P.nnz:
        arrays["P"] = model.P.toarray()
    for matrix, vector, given in (("G", "h", model.h), ("A", "b", model.b)):
        if given.size:
            arrays[matrix], arrays[vector] = getattr(model, matrix).toarray(), given
    if np.isfinite(model.lb).any():
        arrays["lb"] = model.lb
    if np.isfinite(model.ub).any():
        arrays["ub"] = model.ub
    return ProblemFile({name: array.astype(dtype or np.float64) for name, array in arrays.items()}, None, ())


def _parsed(highspy: Any, path: Path) -> tuple[Any, tuple[str, ...]]:
    """HiGHS's model of a file, and the warnings that reading it gave."""
    with tempfile.TemporaryDirectory() as folder:
        log, readable = Path(folder, "log"), path
        known = path.name.lower().replace(".qps", ".mps").removesuffix(_COMPRESSED)
        if known != path.name:  # HiGHS goes by the ending, and does not know all of these
            readable = Path(folder, known)
            try:
                with (gzip.open if path.name.lower().endswith(_COMPRESSED) else open)(path, "rb") as file:
                    readable.write_bytes(file.read())
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise CommandError(f"{path}: not a readable gzip file ({error})") from error
        solver = highspy.Highs()
        solver.setOptionValue("log_to_console", False)
        solver.setOptionValue("log_file", str(log))
        status = solver.readModel(str(readable))
        text = log.read_text() if log.is_file() else ""
        said = {
            word: tuple(
                line.partition(":")[2].strip().replace(str(readable), str(path))
                for line in text.splitlines()
                if line.startswith(word)
            )
            for word in ("ERROR", "WARNING")
        }
        if status == highspy.HighsStatus.kError:
            why = "; ".join((*said["ERROR"], *said["WARNING"])) or "HiGHS gives no reason"
            raise CommandError(f"{path}: not a readable MPS, QPS or LP file ({why})")
        return solver.getModel(), said["WARNING"]


def _hessian(highspy: Any, stored: Any, n: int) -> Any:
    """The symmetric matrix of HiGHS's, which holds its lower triangle or all of it, column by column."""
    from scipy import sparse

    if stored.dim_ == 0:
        return sparse.csc_matrix((n, n))
    matrix = sparse.csc_matrix((stored.value_, stored.index_, stored.start_), shape=(n, n))
    if stored.format_ == highspy.HessianFormat.kTriangular:
        matrix = matrix + sparse.tril(matrix, -1).T
    matrix = matrix.tocsc()
    matrix.eliminate_zeros()
    return matrix


def _bound(values: Any) -> Array:
    bound = np.array(values, float)
    bound[bound >= _INFINITE] = np.inf
    bound[bound <= -_INFINITE] = -np.inf
    return bound


def _names(given: Any, count: int, stem: str) -> list[str]:
    names = [str(name) for name in given]
    return names if len(names) == count else [f"{stem}{i}" for i in range(count)]
