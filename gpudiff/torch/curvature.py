"""Second derivatives of projections onto cones: D²Π(v)[g, h], in torch operations that can be differentiated again.

The first derivative is the kernels' (kernels/cones); the second one is needed where a gradient is differentiated, for
many points at once but never inside a loop, so that plain tensor operations are fast enough. Zero and nonnegative rows
have none. Each formula is 0 where the projection is linear, and is evaluated there at a harmless point instead, so that
nothing that is not finite reaches a gradient.

Sources: second-order cone Fukushima, Luo and Tseng 2002; PSD the second divided differences of Bhatia, Matrix Analysis,
V.3; exponential and power cones by differentiating their optimality conditions twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import torch

from gpudiff._cones import PSD, Cone, DualExponential, DualPower, Exponential, Power, Product, SecondOrder, as_product
from gpudiff._svec import layout, order_of_vector

Tensor: TypeAlias = torch.Tensor


class _Run(NamedTuple):
    """Neighbouring cones of one kind and size in a product, or rows whose projection is piecewise linear.

    Attributes:
        kind: of cone; None for rows without second derivative.
        start: the first row.
        width: rows of each cone.
        parameters: of each cone: the exponents of power cones.
    """

    kind: type[Cone] | None
    start: int
    width: int
    parameters: list[float]

    @property
    def stop(self) -> int:
        """The row behind the last one."""
        return self.start + self.width * len(self.parameters)


def is_flat(cones: Product) -> bool:
    """Whether projections onto these cones are piecewise linear, and have no second derivative anywhere."""
    return all(run.kind is None for run in _runs(cones))


def curvature(project: Callable[..., Tensor], v: Tensor, g: Tensor, h: Tensor, cones: Product, dual: bool) -> Tensor:
    """D²Π(v)[g, h] of the projection onto a product of cones, or onto its dual; symmetric in g and h.

    Args:
        project: Π itself, (points, cones, dual) → projections, differentiable.
        v: [..., m].
        g: [..., m], with more leading axes in front than v where there are more directions than points.
        h: [..., m].
        cones: the cones.
        dual: whether Π is the projection onto the dual cone.
    """
    leading = torch.broadcast_shapes(v.shape, g.shape, h.shape)[:-1]
    parts: list[Tensor] = []
    for run in _runs(cones):
        rows = slice(run.start, run.stop)
        if run.kind is None:
            parts.append(v.new_zeros(*leading, run.stop - run.start))
            continue
        at, along, across = (x[..., rows].unflatten(-1, (-1, run.width)) for x in (v, g, h))
        if run.kind is SecondOrder:
            bent = _second_order(at, along, across)
        elif run.kind is PSD:
            bent = _semidefinite(at, along, across)
        else:
            bent = _triple(project, run, at, along, across, dual)
        parts.append(bent.flatten(-2))
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1) if parts else v.new_zeros(*leading, 0)


@lru_cache(maxsize=256)
def _runs(cones: Product) -> tuple[_Run, ...]:
    runs: list[_Run] = []
    start = 0
    for cone in cones.cones:
        if not cone.rows:
            continue
        kind = type(cone) if isinstance(cone, _CURVED) and cone.rows > 1 else None  # of one row: a half-line
        width = 1 if kind is None else 3 if kind in _TRIPLES else cone.rows
        count = cone.rows // width
        if runs and runs[-1].kind is kind and runs[-1].width == width:
            runs[-1].parameters.extend([cone.parameter] * count)
        else:
            runs.append(_Run(kind, start, width, [cone.parameter] * count))
        start += cone.rows
    return tuple(runs)


_TRIPLES = (Exponential, DualExponential, Power, DualPower)
_CURVED = (SecondOrder, PSD, *_TRIPLES)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products over the last axis, which stays."""
    return (a * b).sum(-1, keepdim=True)


def _second_order(v: Tensor, g: Tensor, h: Tensor) -> Tensor:
    """Between the cone and its polar, |t| < ‖x‖, Π(t, x) = ½(r + t, x + t x/r) with r = ‖x‖; elsewhere it is linear."""
    t, x = v[..., :1], v[..., 1:]
    between = t.abs() < torch.linalg.vector_norm(x.detach(), dim=-1, keepdim=True)
    t, x = torch.where(between, t, 0.0), torch.where(between, x, 1.0)
    r = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    u, slope = x / r, t / r
    radial_g, radial_h = _dot(u, g[..., 1:]), _dot(u, h[..., 1:])
    around_g, around_h = g[..., 1:] - u * radial_g, h[..., 1:] - u * radial_h
    both = _dot(around_g, around_h)
    rest = (g[..., :1] - slope * radial_g) * around_h + (h[..., :1] - slope * radial_h) * around_g - slope * both * u
    bent = torch.cat((both, rest), -1) / (2 * r)
    return torch.where(between, bent, 0.0)


@lru_cache(maxsize=64)
def _places(order: int) -> list[list[int]]:
    """For each entry of a matrix where it is in its vector."""
    rows, columns, _ = layout(order)
    places = [[0] * order for _ in range(order)]
    for place, (row, column) in enumerate(zip(rows, columns, strict=True)):
        places[row][column] = places[column][row] = place
    return places


def _semidefinite(v: Tensor, g: Tensor, h: Tensor) -> Tensor:
    """With V = Q diag(λ) Qᵀ, in the basis Q: Σₖ f[λᵢ, λₖ, λⱼ] (gᵢₖ hₖⱼ + hᵢₖ gₖⱼ) for f(λ) = max(λ, 0).

    The second divided difference is |λₒ| / ((|λₒ| + |λ|)(|λₒ| + |λ′|)) where λₒ is the one of the three that has a sign
    of its own, and 0 where there is none. With Rᵢⱼ = 1/(|λᵢ| + |λⱼ|) between signs and 0 else, it is the sum of three
    products, of which one at most is not zero; and the sum over k is one of matrix products.
    """
    order = order_of_vector(tuple(v.shape))
    rows, columns, factors = layout(order)
    scale = torch.tensor(factors, dtype=v.dtype, device=v.device)
    place = torch.tensor(_places(order), device=v.device)
    V, *directions = ((vector / scale)[..., place] for vector in (v, g, h))
    # The solver refuses what is not finite; only failed points, whose directions are zero, can be that.
    values, basis = torch.linalg.eigh(torch.where(torch.isfinite(V), V, 0.0))
    positive, size = values > 0, values.abs()
    apart = positive[..., :, None] != positive[..., None, :]
    sums = size[..., :, None] + size[..., None, :]
    R = torch.where(apart, 1 / torch.where(apart, sums, torch.ones_like(sums)), torch.zeros_like(sums))
    G, H = (basis.mT @ matrix @ basis for matrix in directions)
    RG, RH = R * G, R * H
    one = size[..., :, None] * R * (RG @ H + RH @ G)
    middle = (RG * size[..., None, :]) @ RH
    bent = basis @ (one + one.mT + middle + middle.mT) @ basis.mT
    return bent[..., rows, columns] * scale


class _Surface(NamedTuple):
    """The surface φ = 0 of a convex φ, homogeneous of degree one, at points of it, over N = ‖∇φ‖.

    Attributes:
        normal: ∇φ / N.
        weight: the Hessian of φ is weight·N·w wᵀ;
        w: see there, w ⊥ p.
        third: (a, b) → the third derivative of φ along a and b, over N.
    """

    normal: Tensor
    weight: Tensor
    w: Tensor
    third: Callable[[Tensor, Tensor], Tensor]


def _stack(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(torch.broadcast_tensors(*parts), -1)


def _triple(project: Callable[..., Tensor], run: _Run, v: Tensor, g: Tensor, h: Tensor, onto_dual: bool) -> Tensor:
    """Cones of three rows: on the surface φ(p) = 0 the projection p of u solves p − u = λ ∇φ(p).

    Differentiated along g, and then along h, with μ = ‖u − p‖ = −λN:

        (I − λ∇²φ) p_g = g + λ_g ∇φ,                                                     ∇φᵀp_g = 0
        (I − λ∇²φ) p_gh = λ_gh ∇φ + ∇²φ (λ_h p_g + λ_g p_h) + λ ∇³φ[p_g, p_h],           ∇φᵀp_gh = −p_gᵀ ∇²φ p_h

    which is three equations in the directions of p, of ∇φ and across both; ∇²φ p = 0, as φ is homogeneous. By Moreau
    Π onto the dual cone has at v the second derivative that Π onto the cone has at −v.
    """
    dual_kind = run.kind in (DualExponential, DualPower)
    power = run.kind in (Power, DualPower)
    u = v if dual_kind == onto_dual else -v
    count = u.shape[-2]
    cones = as_product([Exponential(count)] if not power else [Power(alpha) for alpha in run.parameters])
    p = project(u.flatten(-2), cones, False).reshape(u.shape)
    alpha = torch.tensor(run.parameters, dtype=u.dtype, device=u.device)[:, None] if power else None
    inner = p[..., :2] if power else p[..., 1:]
    on_surface = (inner > 0).all(-1, keepdim=True) & (p != u).any(-1, keepdim=True) & torch.isfinite(u).all(-1, True)
    if power:
        on_surface = on_surface & (p[..., 2:] != 0)
    away = torch.tensor([1.0, 1.0, 1.0] if power else [0.0, 1.0, 1.0], dtype=u.dtype, device=u.device)
    p, u = torch.where(on_surface, p, away), torch.where(on_surface, u, away)
    surface = _exponential(p) if alpha is None else _power(p, alpha)
    normal, weight, w, third = surface
    length = torch.linalg.vector_norm(p, dim=-1, keepdim=True)
    ray = p / length
    across = torch.linalg.cross(ray, normal, dim=-1)
    distance = _dot(normal, u - p)
    across_w, normal_w = _dot(across, w), _dot(normal, w)
    softness = 1 / (1 + distance * weight * across_w**2)  # the eigenvalue of DΠ between 0 and 1

    def first(along: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The derivative of p along a direction, wᵀ times it, and N times that of λ."""
        moved = _dot(across, along) * softness
        p_along = ray * _dot(ray, along) + across * moved
        w_along = across_w * moved
        return p_along, w_along, distance * weight * normal_w * w_along - _dot(normal, along)

    p_g, w_g, rate_g = first(g)
    p_h, w_h, rate_h = first(h)
    curved = weight * w_g * w_h
    pull = weight * (rate_h * w_g + rate_g * w_h)
    inside = (
        across_w * pull - distance * _dot(across, third(p_g, p_h)) - distance * weight * across_w * normal_w * (-curved)
    )
    bent = ray * (distance * curved / length) + across * (softness * inside) - normal * curved
    return torch.where(on_surface, bent, 0.0)


def _scaled(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """A gradient over its length, and the length; its largest entry is taken out first, so that no square overflows."""
    largest = gradient.detach().abs().amax(-1, keepdim=True)
    short = gradient / largest
    length = torch.linalg.vector_norm(short, dim=-1, keepdim=True)
    return short / length, length * largest


def _exponential(p: Tensor) -> _Surface:
    """φ = x − y log(z/y): ∇φ = (1, 1 − x/y, −y/z), ∇²φ = w wᵀ/y with w = (0, 1, −y/z)."""
    x, y, z = p[..., :1], p[..., 1:2], p[..., 2:]
    ratio, none = y / z, torch.zeros_like(y)
    normal, length = _scaled(_stack((torch.ones_like(y), 1 - x / y, -ratio)))

    def third(a: Tensor, b: Tensor) -> Tensor:
        a1, a2, b1, b2 = a[..., 1:2] / y, a[..., 2:] / z, b[..., 1:2] / y, b[..., 2:] / z
        zz = a2 * b2
        return _stack((torch.zeros_like(zz), zz - a1 * b1, ratio * (a1 * b2 + a2 * b1 - 2 * zz))) / length

    return _Surface(normal, 1 / (y * length), _stack((none, torch.ones_like(y), -ratio)), third)


def _power(p: Tensor, alpha: Tensor) -> _Surface:
    """φ = |z| − xᵅ y¹⁻ᵅ, of which |z| is the second term on the surface: ∇²φ = α(1−α)|z| w wᵀ, w = (1/x, −1/y, 0)."""
    x, y, z = p[..., :1], p[..., 1:2], p[..., 2:]
    beta, height = 1 - alpha, z.abs()
    normal, length = _scaled(_stack((-alpha * (height / x), -beta * (height / y), torch.sign(z))))
    # w is made as long as 1/min(x, y) is; that factor goes into the weight.
    near = torch.minimum(x, y)
    weight = alpha * beta * (height / near) / near / length

    def third(a: Tensor, b: Tensor) -> Tensor:
        a1, a2, b1, b2 = a[..., :1] / x, a[..., 1:2] / y, b[..., :1] / x, b[..., 1:2] / y
        xx, mixed, yy = a1 * b1, a1 * b2 + a2 * b1, a2 * b2
        along_x = (height / x) * (-(1 + beta) * xx + beta * mixed + alpha * yy)
        along_y = (height / y) * (beta * xx + alpha * mixed - (1 + alpha) * yy)
        return _stack((along_x, along_y, torch.zeros_like(along_x))) * (alpha * beta / length)

    return _Surface(normal, weight, _stack((near / x, -near / y, torch.zeros_like(x))), third)
