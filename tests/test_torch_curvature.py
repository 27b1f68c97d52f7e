"""Second derivatives of projections, gpudiff/torch/curvature.py, against differences of the kernels' first ones."""

from __future__ import annotations

import pytest
import torch

import gpudiff as gd
from gpudiff._cones import as_product
from gpudiff.torch.curvature import curvature, is_flat

LISTS = {
    "second-order": [gd.SecondOrder(4), gd.SecondOrder(4), gd.SecondOrder(1), gd.SecondOrder(2)],
    "psd": [gd.PSD(3), gd.PSD(1), gd.PSD(2)],
    "exponential": [gd.Exponential(2), gd.DualExponential(1)],
    "power": [gd.Power(0.3), gd.Power(0.8), gd.DualPower(0.4)],
    "every": [gd.Nonnegative(2), gd.Exponential(1), gd.Zero(2), gd.SecondOrder(3), gd.PSD(2), gd.Power(0.5)],
}


def directions(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(60, rows, dtype=torch.float64, generator=generator) for _ in range(3)]


@pytest.mark.parametrize("dual", [False, True])
@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_differences_of_first_derivatives(name, dual, scale):
    """Homogeneous of degree −1, so that the same holds at any scale; a difference may straddle a kink."""
    cones = as_product(LISTS[name])
    v, g, h = directions(cones.rows)
    step = 1e-6
    ends = [gd.project_jvp(scale * (v + sign * step * h), g, cones, dual) for sign in (1, -1)]
    expected = (ends[0] - ends[1]) / (2 * step)
    actual = scale * curvature(gd.project, scale * v, g, h, cones, dual)
    error = (actual - expected).abs().amax(-1) / (1 + expected.abs().amax(-1))
    assert error.quantile(0.95) < 2e-9
    assert actual.any(-1).sum() > 20
    other = scale * curvature(gd.project, scale * v, h, g, cones, dual)
    torch.testing.assert_close(other, actual, rtol=1e-11, atol=1e-11)


def test_equal_and_zero_eigenvalues():
    """diag(1, 1, −1): in closed form, by g₀₂h₀₂/((1+1)(1+1)) and its like; nothing is divided by zero."""
    cones = as_product([gd.PSD(3)])
    v = gd.svec(torch.diag(torch.tensor([1.0, 1, -1], dtype=torch.float64)))
    g = gd.svec(torch.tensor([[0, 0, 1.0], [0, 0, 0], [1, 0, 0]], dtype=torch.float64))
    bent = gd.smat(curvature(gd.project, v, g, g, cones, False))
    expected = torch.zeros(3, 3, dtype=torch.float64)
    expected[0, 0], expected[2, 2] = 0.5, 0.5  # 2 · 1/4 · 1² each, on either side of the kink
    torch.testing.assert_close(bent, expected, rtol=1e-12, atol=1e-14)
    assert not curvature(gd.project, torch.zeros_like(v), g, g, cones, False).any()


def test_flat_cones_have_none():
    cones = as_product([gd.Zero(2), gd.Nonnegative(3), gd.SecondOrder(1), gd.PSD(1)])
    assert is_flat(cones)
    v, g, h = directions(cones.rows)
    assert not curvature(gd.project, v, g, h, cones, True).any()
    assert curvature(gd.project, v[:, :0], g[:, :0], h[:, :0], as_product([]), True).shape == (60, 0)


def test_what_is_not_finite_stays_where_it_is():
    cones = as_product(LISTS["every"])
    v, g, h = directions(cones.rows)
    expected = curvature(gd.project, v, g, h, cones, True)
    v[7] = torch.nan
    actual = curvature(gd.project, v, g, h, cones, True)
    others = torch.arange(60) != 7
    torch.testing.assert_close(actual[others], expected[others], rtol=1e-13, atol=1e-13)
