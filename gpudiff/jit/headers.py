"""Where the kernels' source lies: beside the package in a checkout, inside it when installed."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from gpudiff._errors import BackendError

SUFFIXES = (".cuh", ".h")  # what a kernel for the GPU may include
_MARK = Path("entry", "gpu", "arguments.h")


def folder() -> Path:
    """The folder of kernels that the compiler is to search.

    Raises:
        BackendError: it is missing.
    """
    packages = [Path(path) for path in sys.modules["gpudiff"].__path__]  # two in an editable install
    # A checkout first: what was installed beside it may be older.
    for candidate in [package.parent / "kernels" for package in packages] + [
        package / "kernels" for package in packages
    ]:
        if (candidate / _MARK).exists():
            return candidate
    raise BackendError(
        f"cuda: expected the kernels' source in {packages[0] / 'kernels'}, found none; "
        "install gpudiff with `pip install .`"
    )


def digest() -> str:
    """A fingerprint of every header's name and contents, read anew each time: a checkout may change."""
    top = folder()
    total = hashlib.sha256()
    for path in sorted(path for path in top.rglob("*") if path.suffix in SUFFIXES):
        content = path.read_bytes()
        total.update(f"{path.relative_to(top).as_posix()} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()
