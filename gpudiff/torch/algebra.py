"""Batches of small products in torch, and mapped axes as batch axes: what derivatives of solutions are put together of.

Data have their own axes alone, or a batch axis in front of them, which may have extent 1; directions have the batch
axis of the problem, and in front of that one more where there are many for each problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch

from gpudiff._problem import CORE, DATA

Tensor: TypeAlias = torch.Tensor

RANKS = tuple(CORE[name] for name in DATA)  # axes of P, q, A and b without the batch axis


def product(matrix: Tensor, vectors: Tensor, many: bool = False) -> Tensor:
    """Matrix times vectors: [m, n] or [B, m, n] with [(B,) n]; `many`: [K, (B,) n]."""
    if matrix.ndim == 2:
        return vectors @ matrix.mT
    if many:
        return (matrix @ vectors.movedim(0, -1)).movedim(-1, 0)
    return (matrix @ vectors.unsqueeze(-1)).squeeze(-1)


def outer(left: Sequence[Tensor], right: Sequence[Tensor], like: Tensor, many: bool = False) -> Tensor:
    """Sums of outer products left rightᵀ in the shape of a matrix of the data: over `many`, and over what shares it."""
    if like.ndim == 2 or like.shape[0] == 1:
        rows, columns = (torch.cat([v.reshape(-1, v.shape[-1]) for v in vectors]) for vectors in (left, right))
        product = rows.mT @ columns
        return product if like.ndim == 2 else product.unsqueeze(0)
    if many:
        rows, columns = (torch.cat(tuple(vectors)).movedim(0, -1) for vectors in (left, right))
        return rows @ columns.mT
    out: Tensor | None = None
    for u, w in zip(left, right, strict=True):  # several times faster than a batch of small matrix products
        u, w = u.unsqueeze(-1), w.unsqueeze(-2)
        out = u * w if out is None else torch.addcmul(out, u, w)
    assert out is not None
    return out


def symmetric(matrix: Tensor) -> Tensor:
    """M + Mᵀ."""
    return matrix + matrix.mT


def summed(vectors: Tensor, like: Tensor) -> Tensor:
    """Vectors summed to the shape of one of the data: over many directions, and over what shares it."""
    return vectors.sum_to_size(like.shape)


def total(*terms: Tensor | None) -> Tensor | None:
    """The sum of those that are there."""
    out: Tensor | None = None
    for term in terms:
        out = term if out is None else out if term is None else out + term
    return out


def batch_of(tensors: Sequence[Tensor | None], ranks: Sequence[int]) -> int | None:
    """The extent of the batch axis of tensors with so many axes of their own; None if none of them has one."""
    extents = [t.shape[0] for t, rank in zip(tensors, ranks, strict=True) if t is not None and t.ndim > rank]
    return max(extents, key=lambda extent: (extent != 1, extent)) if extents else None


def fold(
    size: int,
    tensors: Sequence[Tensor | None],
    axes: Sequence[int | None],
    ranks: Sequence[int],
    batch: int | None,
    whole: bool = False,
) -> list[Tensor | None]:
    """Data with a mapped axis as data with one batch axis; what is shared by all stays shared.

    Args:
        size: of the mapped axis.
        tensors: the data, as `torch.func.vmap` hands them over.
        axes: where the mapped axis of each is; None if it has none.
        ranks: axes of each without batch and mapped axis.
        batch: extent of the batch axis; None for problems without one.
        whole: whether none may be shared.
    """
    folded: list[Tensor | None] = []
    for tensor, axis, rank in zip(tensors, axes, ranks, strict=True):
        if tensor is None:
            folded.append(None)
            continue
        mapped = tensor if axis is None else tensor.movedim(axis, 0)
        own = mapped.shape[mapped.ndim - rank :]
        lead = mapped.ndim - rank - (axis is not None)
        if axis is None and not whole and (lead == 0 or mapped.shape[0] == 1):
            folded.append(mapped)
            continue
        if axis is None:
            mapped = mapped.unsqueeze(0)
        if batch is None:
            folded.append(mapped.expand(size, *own))
            continue
        if lead == 0:
            mapped = mapped.unsqueeze(1)
        folded.append(mapped.expand(size, batch, *own).reshape(size * batch, *own))
    return folded


def unfold(tensor: Tensor, size: int, batch: int | None, axis: int = 0) -> Tensor:
    """A result of folded problems with the mapped axis on its own, at `axis`."""
    return tensor if batch is None else tensor.unflatten(axis, (size, batch))
