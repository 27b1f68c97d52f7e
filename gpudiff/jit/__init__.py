"""From a problem's structure to a kernel ready to launch: specialise → plan → compile → cache → load.

Start at `Kernels` (gpudiff/jit/kernels.py). Importing this imports no CUDA package; `prepare` compiles ahead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpudiff.jit.ahead import Prepared, prepare

__all__ = ["Prepared", "prepare"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # on demand: the backend needs other parts of this package, and `import gpudiff` is to be fast
        from gpudiff.jit import ahead

        return getattr(ahead, name)
    raise AttributeError(f"module 'gpudiff.jit' has no attribute {name!r}")
