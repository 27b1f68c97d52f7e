"""Reading problems from .npz files and writing solutions back.

Two kinds of file, told apart by the key `cones`:

- quadratic programs with the keys of qpsolvers and its benchmarks, q and any of P, G, h, A, b, lb, ub;
- cone programs with q, A, b, with or without P, and `cones`, the text of a JSON value: an SCS-style object such as
  {"z": 1, "l": 2, "q": [3]}, or a list in the order of the rows such as [["Zero", 1], ["SecondOrder", 3]].

Every array may have one leading batch axis. Nothing is ever unpickled: qpsolvers stores an absent matrix as the object
`None`, which is recognised by its size.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gpudiff as gd
from gpudiff._cones import Cone
from gpudiff.cli.errors import CommandError

Array = NDArray[Any]

QP_KEYS = ("P", "q", "G", "h", "A", "b", "lb", "ub")
CONE_KEYS = ("P", "q", "A", "b", "cones")
_CONES = 'expected JSON text such as {"z": 1, "l": 2, "q": [3]} or [["Zero", 1], ["SecondOrder", 3]]'

_PICKLED_NONE = 400
"""An array that holds None alone takes 274 bytes when pickled; the smallest sparse matrix takes more than 500."""


@dataclass(frozen=True)
class ProblemFile:
    """The arguments of `solve` (where `cones` is set) or of `solve_qp`.

    Attributes:
        arrays: Data by name; absent ones are left out.
        cones: What `solve` takes as cones, or None for a quadratic program.
        ignored: Keys of the file that mean nothing here.
    """

    arrays: dict[str, Array]
    cones: Any
    ignored: tuple[str, ...]


def read(path: Path, dtype: Any = None) -> ProblemFile:
    """Read a problem.

    Args:
        path: The .npz file.
        dtype: Floating-point type to convert the data to; None keeps what the file has.

    Raises:
        CommandError: The file cannot be read, or is not a problem.
    """
    if not path.is_file():
        raise CommandError(f"{path}: no such file")
    try:
        archive: Any = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise CommandError(f"{path}: expected an .npz archive, got a single array")
        with archive:
            content = {key: _member(archive, path, key) for key in archive.files}
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise CommandError(f"{path}: not a readable .npz file ({error})") from error

    stored_cones = content.get("cones")
    wanted = QP_KEYS if stored_cones is None else CONE_KEYS
    arrays = {key: value for key, value in content.items() if key in wanted and key != "cones" and value is not None}
    required = ("q", "A", "b") if wanted is CONE_KEYS else ("q",)
    missing = [key for key in required if key not in arrays]
    if missing:
        raise CommandError(
            f"{path}: {', '.join(missing)} missing; expected q with any of P, G, h, A, b, lb, ub, or q, A, b, cones "
            f"with or without P; found {', '.join(content) or 'nothing'}"
        )
    if dtype is not None:
        arrays = {key: value.astype(dtype) for key, value in arrays.items()}
    cones = None if stored_cones is None else parse_cones(stored_cones, path)
    return ProblemFile(arrays, cones, tuple(key for key in content if key not in wanted))


def _member(archive: Any, path: Path, key: str) -> Array | None:
    """One array of the archive, or None where the file says None."""
    try:
        return archive[key]
    except ValueError as error:  # an array of Python objects, which allow_pickle=False refuses
        if archive.zip.getinfo(f"{key}.npy").file_size < _PICKLED_NONE:
            return None
        raise CommandError(
            f"{path}: {key} is stored as a pickled Python object, which is not read; store a dense array"
        ) from error


def parse_cones(stored: Array, path: Path) -> Any:
    """What `gpudiff.solve` takes as cones, from the JSON text under the key `cones`.

    Args:
        stored: A string (an array of one string, of bytes, or of the uint8 codes of its UTF-8 form).
        path: The file, for the message.

    Raises:
        CommandError: It is no such text.
    """
    if stored.dtype == np.uint8:
        stored = np.array(stored.tobytes())
    if stored.size != 1 or stored.dtype.kind not in "SU":
        raise CommandError(f"{path}: cones: {_CONES}, got an array of {stored.dtype} of shape {stored.shape}")
    return cones_of(stored.reshape(()).item(), f"{path}: cones")


def cones_of(text: str | bytes, where: str) -> Any:
    """What `gpudiff.solve` takes as cones, from JSON text; `where` it stands, for the message.

    Raises:
        CommandError: It is no such text.
    """
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise CommandError(f"{where}: {_CONES}, got {text!r}") from error
    if isinstance(value, dict):
        return value
    public = [kind for kind in vars(gd).values() if isinstance(kind, type) and issubclass(kind, Cone)]
    kinds: dict[str, Any] = {name: kind for kind in public for name in (kind.__name__, kind.key)}
    if not isinstance(value, list) or not all(isinstance(item, list) and len(item) == 2 for item in value):
        raise CommandError(f"{where}: {_CONES}, got {text!r}")
    for name, _ in value:
        if name not in kinds:
            raise CommandError(f"{where}: expected names among {', '.join(kinds)}, got {name!r}")
    return [kinds[name](parameter) for name, parameter in value]


def write(path: Path, solution: Any, **others: Array) -> None:
    """Write a solution: one array per field that it has, and `others` beside or in place of them.

    Raises:
        OSError: The file cannot be written.
    """
    fields = ("x", "y", "s", "z", "z_box", "obj", "status", "iterations", "primal_residual", "dual_residual", "gap")
    arrays: dict[str, Any] = {name: getattr(solution, name, None) for name in fields}
    present: dict[str, Any] = {name: value for name, value in (arrays | others).items() if value is not None}
    np.savez(path, **present)
