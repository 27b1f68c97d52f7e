"""The compiled library: where it is, and how it is loaded."""

from __future__ import annotations

import ctypes
import sys
import threading
from pathlib import Path

from gpudiff._abi import ABI_VERSION, SIGNATURES
from gpudiff._errors import BackendError

NAMES = ("libgpudiff.so", "libgpudiff.dylib")

_loaded: ctypes.CDLL | None = None
_lock = threading.Lock()


def load() -> ctypes.CDLL:
    """The library, loaded on the first call.

    Raises:
        BackendError: it is missing, does not load, or belongs to another version of the package.
    """
    if _loaded is not None:
        return _loaded
    with _lock:
        return _loaded or _load()


def loaded() -> ctypes.CDLL | None:
    """The library, if it has been loaded."""
    return _loaded


def _load() -> ctypes.CDLL:
    global _loaded
    folders = [Path(folder) for folder in sys.modules["gpudiff.backends"].__path__]  # two in an editable install
    found = [folder / name for folder in folders for name in NAMES if (folder / name).exists()]
    if not found:
        raise BackendError(
            f"expected the compiled library {NAMES[0]} in {folders[0]}, found none; "
            "install gpudiff with `pip install .`, which compiles it"
        )
    try:
        library = ctypes.CDLL(str(found[0]))
    except OSError as error:
        raise BackendError(f"the compiled library does not load: {error}") from error
    version = library.gd_abi_version()
    if version != ABI_VERSION:
        raise BackendError(
            f"{found[0]}: expected version {ABI_VERSION} of the C interface, got {version}; install gpudiff again"
        )
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    _loaded = library
    return library
