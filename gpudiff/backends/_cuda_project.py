"""Projections of points that lie on a GPU: one launch on the caller's stream, in memory of the caller's package.

Nothing in here waits for the device or reads a value from it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpudiff._cones import Product
from gpudiff._problem import Array
from gpudiff.backends._views import rows_of
from gpudiff.jit.arguments import GpuProject
from gpudiff.jit.kernels import Kernels
from gpudiff.jit.projection import KIND, projection_shape

_DOUBLE = np.dtype(np.float64)


def project(kernels: Kernels, v: Array, cones: Product, dual: bool, direction: Array | None) -> Array:
    """Projections, or with a direction their derivative; see `Backend`."""
    home: Any = v
    package, device = home.package, home.device
    out = package.empty(v.shape, v.dtype, device)
    if out.size == 0:
        return out
    batch = v.shape[0]
    shape = projection_shape(cones, v.dtype.name)
    kernel = kernels.get(device, KIND, shape)
    grid = kernel.grid(batch * shape.items)
    size = kernel.workspace_bytes(grid)
    # Dropped as soon as the launch is made, for later work on the same stream to use.
    workspace = package.empty((size // _DOUBLE.itemsize,), _DOUBLE, device) if size else None
    primal, derivative = (out, None) if direction is None else (None, out)
    arguments = GpuProject(
        batch,
        *(rows_of(array) for array in (v, direction, primal, derivative)),
        None if workspace is None else workspace.pointer,
        dual,
        0,
    )
    kernel.launch(grid, package.stream(device), arguments)
    return out
