"""Problems whose data are affine in named parameters: solved, swept and differentiated by those names."""

from gpudiff.sensitivity.problem import Sensitivity
from gpudiff.sensitivity.solution import SensitivitySolution
from gpudiff.sensitivity.sweep import Sweep

__all__ = ["Sensitivity", "SensitivitySolution", "Sweep"]
