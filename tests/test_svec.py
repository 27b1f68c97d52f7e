"""svec and smat: layout, isometry, and that they are each other's inverse, for NumPy and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gpudiff as gd


def symmetric(rng, *shape):
    X = rng.standard_normal(shape)
    return X + np.swapaxes(X, -1, -2)


def test_the_layout_of_scs():
    X = np.array([[1, 2, 3], [2, 4, 5], [3, 5, 6]])
    root = np.sqrt(2)
    np.testing.assert_allclose(gd.svec(X), [1, 2 * root, 3 * root, 4, 5 * root, 6], rtol=1e-15)
    np.testing.assert_array_equal(gd.svec(np.tril(X)), gd.svec(X))


@pytest.mark.parametrize("order", [0, 1, 2, 5])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (0,)])
def test_isometry_and_inverse(rng, order, lead):
    X, Y = symmetric(rng, *lead, order, order), symmetric(rng, *lead, order, order)
    v = gd.svec(X)
    assert v.shape == (*lead, order * (order + 1) // 2)
    np.testing.assert_allclose(np.sum(v * gd.svec(Y), -1), np.sum(X * Y, (-1, -2)), rtol=1e-12, atol=1e-12)
    back = gd.smat(v)
    np.testing.assert_allclose(back, X, rtol=1e-15)
    np.testing.assert_array_equal(back, np.swapaxes(back, -1, -2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_is_kept_and_torch_agrees(rng, dtype):
    X = symmetric(rng, 2, 4, 4).astype(dtype)
    v = gd.svec(X)
    assert v.dtype == gd.smat(v).dtype == dtype
    tensor = gd.svec(torch.from_numpy(X))
    np.testing.assert_array_equal(tensor.numpy(), v)
    np.testing.assert_array_equal(gd.smat(tensor).numpy(), gd.smat(v))


def test_torch_gradients(rng):
    v = torch.from_numpy(rng.standard_normal((2, 6))).requires_grad_()
    assert torch.autograd.gradcheck(gd.smat, (v,))
    assert torch.autograd.gradcheck(lambda v: gd.svec(gd.smat(v)), (v,))
    np.testing.assert_allclose(gd.svec(gd.smat(v)).detach(), v.detach(), rtol=1e-15)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (3, 2, 3)])
def test_matrices_must_be_square(shape):
    for kind in (np.zeros, torch.zeros):
        with pytest.raises(gd.ShapeError) as error:
            gd.svec(kind(shape))
        assert str(shape) in str(error.value)


@pytest.mark.parametrize("shape", [(), (2,), (3, 4), (6, 0, 5)])
def test_vectors_must_have_a_triangular_length(shape):
    for kind in (np.zeros, torch.zeros):
        with pytest.raises(gd.ShapeError) as error:
            gd.smat(kind(shape))
        assert str(shape) in str(error.value)
