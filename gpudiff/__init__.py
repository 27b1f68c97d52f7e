"""gpudiff: solve and differentiate batches of small convex QPs and cone programs."""

from typing import Any

from gpudiff import forms
from gpudiff._cones import PSD, DualExponential, DualPower, Exponential, Nonnegative, Power, SecondOrder, Zero
from gpudiff._errors import (
    ArgumentError,
    BackendError,
    CompileError,
    ConeError,
    DataError,
    DeviceError,
    DtypeError,
    GpudiffError,
    SettingsError,
    ShapeError,
    SolveError,
)
from gpudiff._info import info
from gpudiff._matrices import SparseBatch
from gpudiff._project import project, project_jvp, project_vjp
from gpudiff._qp import QPSolution, solve_qp
from gpudiff._settings import Settings
from gpudiff._solution import Solution
from gpudiff._solve import Solver, solve
from gpudiff._status import Status
from gpudiff._svec import smat, svec
from gpudiff.backends._memory import release_memory
from gpudiff.forms import FormsSolution, solve_forms
from gpudiff.given import differentiate
from gpudiff.sensitivity import Sensitivity, SensitivitySolution, Sweep

__all__ = [
    "PSD",
    "ArgumentError",
    "BackendError",
    "CompileError",
    "ConeError",
    "DataError",
    "DeviceError",
    "DtypeError",
    "DualExponential",
    "DualPower",
    "Exponential",
    "FormsSolution",
    "GpudiffError",
    "Nonnegative",
    "Power",
    "QPSolution",
    "SecondOrder",
    "Sensitivity",
    "SensitivitySolution",
    "Settings",
    "SettingsError",
    "ShapeError",
    "Solution",
    "SolveError",
    "Solver",
    "SparseBatch",
    "Status",
    "Sweep",
    "Zero",
    "__version__",
    "differentiate",
    "forms",
    "info",
    "project",
    "project_jvp",
    "project_vjp",
    "release_memory",
    "smat",
    "solve",
    "solve_forms",
    "solve_qp",
    "svec",
]

__version__: str


def __getattr__(name: str) -> Any:
    if name == "__version__":  # read on demand: finding a package's metadata costs more than importing this one
        from gpudiff._version import version

        return version()
    raise AttributeError(f"module 'gpudiff' has no attribute {name!r}")
