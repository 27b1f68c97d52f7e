"""Which package's arrays the caller works with, and the module of gpudiff that serves them.

The numerical core knows NumPy alone. Arrays of another package are served by a module of their own, which is imported
by name when such an array is first seen: importing gpudiff imports none of those packages.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import numpy as np

# (package, its array class, module of gpudiff that has the same functions for it)
_FOREIGN = (("torch", "Tensor", "gpudiff.torch"),)


def surface(*values: Any) -> Any:
    """The module that serves the first foreign array among `values`, or None when there is no such array."""
    for value in values:
        if value is None or type(value) is np.ndarray:
            continue
        for package, array, module in _FOREIGN:
            # An array of a package cannot come from anywhere unless the package has been imported.
            kind = getattr(sys.modules.get(package), array, None)
            if kind is not None and isinstance(value, kind):
                return import_module(module)
    return None
