"""Which package's arrays the caller works with, and the module of gpudiff that serves them.

The numerical core knows NumPy and `DeviceArray` alone. Arrays of another package are served by a module of their own,
which is imported by name when such an array is first seen: importing gpudiff imports none of those packages. Arrays on
a GPU of a package that gpudiff has no module for are taken where they lie, through `__dlpack__` or
`__cuda_array_interface__`, and results come back as CuPy arrays, or torch tensors where CuPy is not installed.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from gpudiff._device import DeviceArray
from gpudiff._errors import DeviceError

# (package, its array class, module of gpudiff that has the same functions for it)
_FOREIGN = (("torch", "Tensor", "gpudiff.torch"), ("cupy", "ndarray", "gpudiff.cupy"))
_HOSTS = ("cupy", "torch")  # packages that take other packages' device arrays, in order of preference

_CUDA_DEVICES = (2, 13)  # kDLCUDA, kDLCUDAManaged of DLPack


def surface(*values: Any) -> Any:
    """The module that serves the first foreign array among `values`, or None when there is no such array.

    Raises:
        DeviceError: there is an array on a GPU, of a package that is not known, and none that is known is installed.
    """
    other = None
    for value in values:
        if value is None or type(value) is np.ndarray or type(value) is DeviceArray:
            continue
        for package, array, module in _FOREIGN:
            # An array of a package cannot come from anywhere unless the package has been imported.
            kind = getattr(sys.modules.get(package), array, None)
            if kind is not None and isinstance(value, kind):
                # A module that is there is looked up: torch.compile cannot follow an import.
                return sys.modules.get(module) or import_module(module)
        if other is None and exposes_cuda(value):
            other = value
    return None if other is None else _host_of(other)


def exposes_cuda(value: Any) -> bool:
    """Whether an object says that it is an array on a GPU."""
    kind = type(value)  # looked up on the class, for NumPy arrays and lists to be done with quickly
    if kind is list or kind is tuple or kind is float or kind is int:
        return False
    if hasattr(value, "__dlpack_device__"):
        try:
            return int(value.__dlpack_device__()[0]) in _CUDA_DEVICES
        except (TypeError, ValueError, RuntimeError, BufferError, AttributeError):
            return False
    return hasattr(value, "__cuda_array_interface__")


def _host_of(value: Any) -> Any:
    for package, _, module in sorted(_FOREIGN, key=lambda entry: _HOSTS.index(entry[0])):
        if sys.modules.get(package) is not None or find_spec(package) is not None:
            return import_module(module)
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise DeviceError(
        f"expected arrays of NumPy, torch or CuPy, got {kind} on a GPU, which needs CuPy or torch to be handled: "
        "`pip install 'gpudiff[cupy]'`"
    )
