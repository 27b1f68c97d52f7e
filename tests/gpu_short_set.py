"""A few small solves and derivatives on the GPU, for compute-sanitizer: every kernel and kind of group.

Not a test for pytest: ``compute-sanitizer --tool racecheck python tests/gpu_short_set.py``. It also fails on a
wrong answer.
"""

from __future__ import annotations

import os
import sys

import numpy as np

import gpudiff as gd

# variables, zero rows, nonnegative rows, second-order cones; a few problems more than resident groups take at once
SHAPES = (
    (3, 0, 4, ()),
    (6, 1, 8, (3,)),
    (13, 2, 10, (4, 4)),
    (33, 4, 40, ()),
    (60, 6, 30, (8, 5)),
)
LEVELS = (None, 3)  # as planned, and all in global memory
CASES = (  # element type, whether P and A are shared, method
    ("float64", False, "ipm"),
    ("float64", True, "ipm"),
    ("float32", False, "ipm"),
    ("float64", False, "active_set"),
    ("float64", True, "active_set"),
)
BATCH = 5


def main() -> int:
    """How many comparisons with the CPU backend failed, or 1 without a GPU."""
    reason = gd.info().backends["cuda"]
    if reason is not None:
        print(f"no GPU: {reason}")
        return 1
    failures = 0
    for level in LEVELS:
        os.environ.pop("GPUDIFF_GPU_LEVEL", None)
        if level is not None:
            os.environ["GPUDIFF_GPU_LEVEL"] = str(level)
            _forget()
        for shape in SHAPES:
            for dtype, shared, method in CASES:
                if method == "ipm" or not shape[3]:
                    failures += differs(shape, dtype, shared, f"level {level}", method=method)
    return failures


def _forget() -> None:
    from gpudiff import _dispatch

    next(backend for backend in _dispatch.BACKENDS if backend.name == "cuda").launcher.kernels.forget()


def differs(
    shape: tuple[int, int, int, tuple[int, ...]],
    dtype: str,
    shared: bool,
    note: str,
    place: str = "cuda",
    method: str = "ipm",
) -> bool:
    """Whether solutions, jvp and vjp of some random problems are other than the CPU backend's, from NumPy arrays."""
    import torch

    n, zero, linear, second_order = shape
    cones = {"z": zero, "l": linear, "q": list(second_order)}
    rng = np.random.default_rng(n)
    m = zero + linear + sum(second_order)
    inside = rng.standard_normal((BATCH, n))
    A = rng.standard_normal((m, n) if shared else (BATCH, m, n))
    M = rng.standard_normal((n, n) if shared else (BATCH, n, n))
    P = M @ np.swapaxes(M, -1, -2) / n + 0.1 * np.eye(n)
    s = rng.random((BATCH, m))
    s[:, :zero] = 0
    start = zero + linear
    for k in second_order:
        s[:, start] += np.linalg.norm(s[:, start + 1 : start + k], axis=1)
        start += k
    arrays = [P, rng.standard_normal((BATCH, n)), A, (A @ inside[..., None])[..., 0] + s]
    host = [array.astype(dtype) for array in arrays]
    x_bar = rng.standard_normal((BATCH, n)).astype(dtype)
    settings = gd.Settings(method=method)
    want = gd.solve(*host, cones, settings, backend="cpu")
    bar = want.vjp(x=x_bar)
    dot = want.jvp(q=x_bar)
    device = [torch.from_numpy(array).to(place) for array in host]
    found = gd.solve(*device, cones, settings, backend=place)
    direction = torch.from_numpy(x_bar).to(place)
    found_bar, found_dot = found.vjp(x=direction), found.jvp(q=direction)
    pairs = [(found.x, want.x), (found.y, want.y), (found_dot.x, dot.x)]
    pairs += [(getattr(found_bar, name), getattr(bar, name)) for name in ("P", "q", "A", "b")]
    error = max(float(np.abs(a.cpu().numpy() - b).max()) / max(1.0, float(np.abs(b).max())) for a, b in pairs)
    good = bool(found.ok.all()) and error <= (1e-7 if dtype == "float64" else 1e-2)
    sharing = "shared" if shared else "each its own"
    print(f"{shape} {method} {dtype} {sharing} {note}: {error:.1e} {'' if good else 'WRONG'}")
    return not good


if __name__ == "__main__":
    sys.exit(main())
