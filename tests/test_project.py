"""Projections onto cones: errors against proofs in extended precision, what projections are, and their derivatives."""

from __future__ import annotations

import numpy as np
import project_reference as reference
import pytest
from compare import assert_close, assert_same_bits

import gpudiff as gd

LONG = reference.LONG
extended = pytest.mark.skipif(not reference.EXTENDED, reason="needs long double of 64 bits of fraction")

ALPHAS = (0.5, 0.3, 0.9, 1e-3, 1e-6, 1 - 1e-6)
# name: the cone, its reference, the largest error of a projection, and of a derivative times its margin
TRIPLES = {"exponential": (gd.Exponential(), gd.DualExponential(), reference.Exponential(), 2e-15, 2e-15)}
TRIPLES |= {
    f"power {alpha:g}": (gd.Power(alpha), gd.DualPower(alpha), reference.Power(alpha), 1e-15, 5e-14) for alpha in ALPHAS
}
EVERY = [
    gd.Zero(2),
    gd.Nonnegative(3),
    gd.SecondOrder(4),
    gd.SecondOrder(1),
    gd.PSD(3),
    gd.PSD(1),
    gd.Exponential(2),
    gd.DualExponential(),
    gd.Power(0.3),
    gd.Power(0.6),
    gd.DualPower(0.2),
]
ROWS = sum(cone.rows for cone in EVERY)
SINGLE = [
    [gd.Zero(3)],
    [gd.Nonnegative(4)],
    [gd.SecondOrder(5)],
    [gd.PSD(4)],
    [gd.Exponential()],
    [gd.Power(0.3)],
    EVERY,
]
SINGLE += [[gd.DualExponential()], [gd.DualPower(0.7)], [gd.PSD(34)]]
names = pytest.mark.parametrize("cones", SINGLE, ids=lambda cones: " ".join(map(repr, cones))[:40])


def points(rng, cones, count: int, spread: float = 0.0) -> np.ndarray:
    v = rng.standard_normal((count, sum(cone.rows for cone in cones)))
    return v * 10 ** rng.uniform(-spread, spread, (count, 1))


def jacobian(v, cones, dual=False) -> np.ndarray:
    """[B, m, m]: columns are the derivative's images of unit vectors."""
    m = v.shape[1]
    return np.stack([gd.project_jvp(v, np.broadcast_to(np.eye(m)[i], v.shape), cones, dual) for i in range(m)], -1)


# ---- errors ----------------------------------------------------------------------------------------------------------


@extended
@pytest.mark.parametrize("name", TRIPLES)
def test_cones_of_three_rows_are_exact_to_rounding(name, rng):
    """100,000 points at scales 1e-12 … 1e12, in all regions and close to all their edges."""
    cone, dual_cone, exact, tolerance, _ = TRIPLES[name]
    v = reference.triples(exact, rng, 100_000)
    p, y = gd.project(v, [cone]), gd.project(-v, [cone], dual=True)
    assert reference.worst_error(exact, v, p, y) <= tolerance
    assert_same_bits(gd.project(-v, [dual_cone]), y, "the dual cone")
    assert_same_bits(gd.project(v, [dual_cone], dual=True), p, "the dual of the dual cone")


@extended
@pytest.mark.parametrize("name", TRIPLES)
def test_derivatives_of_cones_of_three_rows(name, rng):
    """By implicit differentiation in extended precision. Near a kink errors are multiplied by the inverse distance."""
    cone, _, exact, _, tolerance = TRIPLES[name]
    v = reference.triples(exact, rng, 20_000)
    p, y = gd.project(v, [cone]).astype(LONG), gd.project(-v, [cone], dual=True).astype(LONG)
    size = np.max(np.abs(v), -1)
    margin = np.minimum(np.max(np.abs(p), -1), np.max(np.abs(y), -1)) / np.where(size > 0, size, 1)
    curved = (margin > 1e-17) & (np.sum(np.abs(p * y), -1) > 1e-36 * size**2)
    assert np.sum(curved) > 5000
    D = reference.solve_rays(exact, v[curved], exact.parameter(p[curved]))[2]
    found = jacobian(v[curved], [cone])
    assert np.max(np.abs(found - D) * margin[curved, None, None]) <= tolerance
    assert_close(jacobian(-v[curved], [cone], dual=True), np.eye(3) - D, 1e-13 / np.min(margin[curved]), "the dual's")


@extended
@pytest.mark.parametrize("order", [1, 2, 3, 5, 8, 20, 34])
def test_semidefinite_cones_are_exact_to_rounding(order, rng):
    """From eigenvectors and eigenvalues that are known: equal, nearly equal, graded, zero; scales 1e-150 … 1e150."""
    count = 20_000 // order**2 + 20
    basis, values = reference.symmetric(rng, count, order)
    scale = 10.0 ** rng.choice([-150, -12, 0, 12, 150], (count, 1)).astype(LONG)

    def build(numbers):
        return reference.svec(np.einsum("bij,bj,bkj->bik", basis, numbers, basis)) * scale

    v = build(values).astype(float)
    size = (np.max(np.abs(values), -1, keepdims=True) + 1e-30) * scale
    tolerance = (2 + order) * 1e-15
    p = gd.project(v, [gd.PSD(order)])
    assert np.max(np.abs(p - build(np.maximum(values, 0))) / size) <= tolerance
    y = gd.project(-v, [gd.PSD(order)], dual=True)
    assert np.max(np.abs(y - build(np.maximum(-values, 0))) / size) <= tolerance


@extended
@pytest.mark.parametrize("order", [1, 2, 3, 5, 8, 34])
def test_semidefinite_derivatives(order, rng):
    """The divided differences, at equal eigenvalues, too; none near zero, for there Π has kinks."""
    count = 4000 // order**2 + 20
    basis, values = reference.symmetric(rng, count, order)
    values = np.where(np.abs(values) < 0.1, np.where(values < 0, LONG(-1), LONG(1)), values)
    values *= 10.0 ** rng.uniform(-12, 12, (count, 1))
    v = reference.svec(np.einsum("bij,bj,bkj->bik", basis, values, basis)).astype(float)
    H = rng.standard_normal((count, order, order))
    H = H + np.swapaxes(H, 1, 2)
    above, size = np.maximum(values, 0), np.abs(values)
    weight = (above[:, :, None] + above[:, None, :]) / (size[:, :, None] + size[:, None, :])
    turned = weight * np.einsum("bji,bjk,bkl->bil", basis, H, basis)
    expected = reference.svec(np.einsum("bij,bjk,blk->bil", basis, turned, basis))
    assert_close(gd.project_jvp(v, reference.svec(H).astype(float), [gd.PSD(order)]), expected, 3e-13)


@extended
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 40])
def test_second_order_cones_are_exact_to_rounding(rows, rng):
    """Closed form in extended precision, whose range is larger: scales 1e-300 … 1e300, boundaries included."""
    v = rng.standard_normal((20_000, rows))
    norm = np.sqrt(np.sum(v[:, 1:] ** 2, -1))
    head = rng.choice([-1, 1], len(v)) * norm * (1 + rng.choice([-1, 0, 1], len(v)) * 10 ** rng.uniform(-17, 0, len(v)))
    v[:, 0] = np.where(rng.random(len(v)) < 0.5, v[:, 0], head)
    v *= 10.0 ** rng.choice([-300, -12, 0, 12, 300], (len(v), 1))
    w = v.astype(LONG)
    n = np.sqrt(np.sum(w[:, 1:] ** 2, -1))
    high, low = np.maximum(w[:, 0] + n, 0), np.maximum(w[:, 0] - n, 0)
    tail = w[:, 1:] * ((high - low) / (2 * np.where(n > 0, n, 1)))[:, None]
    expected = np.concatenate([(high + low)[:, None] / 2, tail], 1)
    error = np.max(np.abs(gd.project(v, [gd.SecondOrder(rows)]) - expected), -1)
    assert np.all(error <= 2e-16 * (3 + np.sqrt(rows)) * np.max(np.abs(w), -1))


# ---- what projections are --------------------------------------------------------------------------------------------


@names
@pytest.mark.parametrize("dual", [False, True])
def test_moreau_idempotence_and_points_of_the_cone(cones, dual, rng):
    v = points(rng, cones, 200, 6)
    size = np.max(np.abs(v), -1, keepdims=True)
    p, y = gd.project(v, cones, dual), gd.project(-v, cones, not dual)
    m = v.shape[1]
    assert_close((p - y) / size, v / size, 1e-14 * np.sqrt(m), "v = Π_K(v) − Π_K*(−v)")
    assert_close(np.sum(p * y, -1) / size[:, 0] ** 2, np.zeros(len(v)), 1e-14 * m, "orthogonality")
    assert_close(gd.project(p, cones, dual) / size, p / size, 1e-14 * np.sqrt(m), "idempotence")
    again = gd.project(1.7 * v, cones, dual)
    assert_close(again / size, 1.7 * p / size, 1e-14 * np.sqrt(m), "a cone")
    other = points(rng, cones, 200, 6)
    shrunk = np.linalg.norm(gd.project(other, cones, dual) - p, axis=1)
    assert np.all(shrunk <= np.linalg.norm(other - v, axis=1) * (1 + 1e-14))


def test_a_point_inside_comes_back_as_it_is(rng):
    inside = [
        ([gd.SecondOrder(3)], [2.0, 0.3, -0.7]),
        ([gd.PSD(2)], [2.0, 0.3, 1.1]),
        ([gd.Exponential()], [-0.3, 0.7, 1.9]),
        ([gd.DualExponential()], [-0.3, 0.7, 1.9]),
        ([gd.Power(0.3)], [0.7, 1.9, -0.3]),
        ([gd.DualPower(0.3)], [0.7, 1.9, -0.3]),
        ([gd.Nonnegative(2)], [0.7, 0.1]),
    ]
    for cones, point in inside:
        for scale in (1.0, 1e-200, 1e200):
            v = np.array(point) * scale
            assert_same_bits(gd.project(v, cones), v, repr(cones))
            assert_close(gd.project_jvp(v, np.array(point), cones), np.array(point), 1e-15, repr(cones))


def test_known_answers():
    """By hand: apex, polar cone, faces, and a symmetric matrix of eigenvalues 3 and −1."""
    root = np.sqrt(2)
    cases = [
        ([gd.Zero(2)], [3, -1], [0, 0], [3, -1]),
        ([gd.Nonnegative(3)], [3, -1, 0], [3, 0, 0], [3, 0, 0]),
        ([gd.SecondOrder(3)], [0, 3, 4], [2.5, 1.5, 2], [2.5, 1.5, 2]),
        ([gd.SecondOrder(3)], [-6, 3, 4], [0, 0, 0], [0, 0, 0]),
        ([gd.PSD(2)], [1, 2 * root, 1], [1.5, 1.5 * root, 1.5], [1.5, 1.5 * root, 1.5]),
        ([gd.Exponential()], [-1, -2, 3], [-1, 0, 3], None),
        ([gd.Exponential()], [-1, -2, -3], [-1, 0, 0], None),
        ([gd.Exponential()], [0, 0, -1], [0, 0, 0], None),
        ([gd.Exponential()], [0, -1, 0], [0, 0, 0], None),
        ([gd.Exponential()], [1, 1, -np.exp(-1)], None, None),
        ([gd.Power(0.5)], [0, 0, 1], [1 / 3, 1 / 3, 1 / 3], None),
        ([gd.Power(0.3)], [-1, 2, 0], [0, 2, 0], None),
        ([gd.Power(0.3)], [-1, -2, 0], [0, 0, 0], None),
        ([gd.DualPower(0.3)], [-1, 2, 0], [0, 2, 0], None),
    ]
    for cones, v, p, dual in cases:
        for expected, flag in ((p, False), (dual, True)):
            if expected is not None:
                assert_close(
                    gd.project(np.array(v, float), cones, flag), np.array(expected, float), 1e-15, f"{cones} {v}"
                )
    for cones in SINGLE:
        m = sum(cone.rows for cone in cones)
        assert not np.any(gd.project(np.zeros(m), cones))


@names
def test_derivatives_are_symmetric_between_zero_and_one_and_difference_quotients(cones, rng):
    v = points(rng, cones, 12)
    for dual in (False, True):
        D = jacobian(v, cones, dual) if v.shape[1] < 100 else None
        h = rng.standard_normal(v.shape)
        step = 1e-6
        quotient = (gd.project(v + step * h, cones, dual) - gd.project(v - step * h, cones, dual)) / (2 * step)
        tangent = gd.project_jvp(v, h, cones, dual)
        close = np.max(np.abs(quotient - tangent), -1) <= 1e-6 * np.max(np.abs(h))
        assert np.mean(close) >= 0.75, "more points than can be near a kink"
        assert_same_bits(gd.project_vjp(v, h, cones, dual), tangent)
        if D is not None:
            assert_close(np.einsum("bij,bj->bi", D, h), tangent, 1e-13)
            assert_close(D, np.swapaxes(D, 1, 2), 3e-15, "symmetry")
            values = np.linalg.eigvalsh(D)
            assert values.min() >= -1e-14
            assert values.max() <= 1 + 1e-14
            assert_close(np.einsum("bij,bj->bi", D, v), gd.project(v, cones, dual), 1e-13, "D(v) v = Π(v)")
            assert_close(
                D + jacobian(-v, cones, not dual), np.eye(v.shape[1]) + 0 * D, 1e-13, "the polar's is the rest"
            )


def test_power_cone_near_its_face(rng):
    """With a coordinate negative and z → 0 the derivative in z tends to 0 or 1, on the scale of z itself."""
    for z in (1e-3, 1e-9, 1e-30):
        for alpha, limit in ((0.8, 0.0), (0.2, 1.0)):
            D = jacobian(np.array([[-1.0, 2.0, z]]), [gd.Power(alpha)])[0]
            assert_close(D, np.diag([0, 1, limit]), max(3 * z ** (abs(2 * alpha - 1) / max(alpha, 1 - alpha)), 1e-15))
    D = jacobian(np.array([[-1.0, 2.0, 0.0]]), [gd.Power(0.5)])[0]
    assert_close(D, np.diag([0, 1, 1 / 2]), 1e-15)
    near = jacobian(np.array([[-1.0, 2.0, 1e-9]]), [gd.Power(0.5)])[0]
    assert_close(near, D, 1e-8)
