"""The properties that hold for every backend, once more on a GPU: `pytest -m gpu` runs them all.

Every test of the modules below is collected again, with the CUDA backend in the place of the one for arrays on the
host. GPUDIFF_EMULATED=1 takes the emulation of CUDA instead of a GPU; then g++ compiles kernels for an hour.
"""

from __future__ import annotations

import os

import pytest
import test_batch
import test_cone_contract
import test_degenerate
import test_derivatives
import test_directions
import test_float32
import test_known_answers
import test_optimality
import test_scales
import test_smoothing
import test_solve_qp
from emulated_driver import EmulatedDriver
from test_batch import case  # noqa: F401  # a fixture

from gpudiff import _dispatch
from gpudiff.backends.cpu import CpuBackend
from gpudiff.backends.cuda import CudaBackend

MODULES = (
    test_optimality,
    test_known_answers,
    test_derivatives,
    test_cone_contract,
    test_batch,
    test_scales,
    test_float32,
    test_solve_qp,
    test_directions,
    test_degenerate,
    test_smoothing,
)
EMULATED = bool(os.environ.get("GPUDIFF_EMULATED"))
WHY_NOT = None if EMULATED else CudaBackend().why_unavailable()
if WHY_NOT is not None:
    pytest.skip(f"no GPU: {WHY_NOT}", allow_module_level=True)
pytestmark = [pytest.mark.gpu, pytest.mark.slow]


class FirstChoice(CudaBackend):
    """Takes arrays on the host without having been asked for by name."""

    def refuses(self, problem, by_name):
        return super().refuses(problem, True)


@pytest.fixture(scope="module", autouse=True)
def on_the_gpu():
    backend = FirstChoice(EmulatedDriver() if EMULATED else None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_dispatch, "BACKENDS", (backend, CpuBackend()))
        yield


for _module in MODULES:
    for _name, _test in list(vars(_module).items()):
        if _name.startswith("test_") and callable(_test):
            globals()[f"{_module.__name__}_{_name[5:]}"] = _test
