"""Sparse torch tensors: solutions in tensors, gradients sparse on the pattern of the stored entries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from compare import assert_close
from torch.autograd import forward_ad

import gpudiff as gd
from gpudiff.bench import sparse_families as families

CASE = families.mpc(0, 5)
# torch warns once that CSR is in beta
pytestmark = [
    pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
]


def tensor(matrix, layout, requires_grad=True):
    entries = matrix.tocoo()
    made = torch.sparse_coo_tensor(
        np.stack([entries.row, entries.col]), entries.data, entries.shape, check_invariants=True
    )
    made = made.to_sparse_csr() if layout == "csr" else made.coalesce()
    return made.requires_grad_(requires_grad)


@pytest.mark.parametrize("layout", ["coo", "csr"])
@pytest.mark.parametrize("backend", ["clarabel", "cpu"])
def test_gradients_are_sparse_and_those_of_the_core(layout, backend):
    P, A = tensor(CASE.P, layout), tensor(CASE.A, layout)
    q, b = (torch.tensor(each, requires_grad=True) for each in (CASE.q, CASE.b))
    sol = gd.solve(P, q, A, b, CASE.cones, backend=backend)
    assert sol.backend == backend
    ((sol.x**2).sum() + sol.obj).backward()
    core = gd.solve(*CASE, backend="clarabel")
    bar = core.vjp(x=2 * core.x, obj=1.0)
    for given, expected in ((P, bar.P), (A, bar.A)):
        assert given.grad.layout == given.layout
        assert given.grad._nnz() == expected.nnz
        assert_close(given.grad.to_dense().numpy(), expected.toarray(), 1e-11)
    assert_close(q.grad.numpy(), bar.q, 1e-11, "q")
    assert_close(b.grad.numpy(), bar.b, 1e-11, "b")
    own = sol.vjp(x=2 * sol.x.detach(), obj=1.0)
    assert own.A.layout == A.layout
    assert_close(own.A.to_dense().numpy(), bar.A.toarray(), 1e-11, "vjp")
    dot = sol.jvp(A=A.detach(), q=torch.ones_like(q))
    assert_close(dot.x.numpy(), core.jvp(A=CASE.A, q=np.ones(q.numel())).x, 1e-10, "jvp")


@pytest.mark.parametrize("kind", ["list", "coo", "csr"])
def test_batches(kind):
    """Three problems: a list of tensors, or one of three axes."""
    each = [CASE.A * factor for factor in (1.0, 1.01, 1.02)]
    if kind == "list":
        A = [tensor(one, "coo") for one in each]
    else:
        dense = torch.tensor(np.stack([one.toarray() for one in each]))
        A = (dense.to_sparse_csr() if kind == "csr" else dense.to_sparse_coo().coalesce()).requires_grad_()
    q = torch.tensor(CASE.q)
    sol = gd.solve(tensor(CASE.P, "coo", False), q, A, torch.tensor(CASE.b), CASE.cones)
    assert tuple(sol.x.shape) == (3, CASE.q.size)
    sol.x.sum().backward()
    for i, one in enumerate(each):
        bar = gd.solve(CASE.P, CASE.q, one, CASE.b, CASE.cones, backend="clarabel").vjp(x=np.ones(CASE.q.size))
        grad = A[i].grad.to_dense() if kind == "list" else A.grad.to_dense()[i]
        assert_close(grad.numpy(), bar.A.toarray(), 1e-10, f"A[{i}]")


def test_constants_of_scipy_beside_tensors():
    q = torch.tensor(CASE.q, requires_grad=True)
    sol = gd.solve(CASE.P, q, CASE.A, torch.tensor(CASE.b), CASE.cones)
    sol.obj.backward()
    assert_close(q.grad.numpy(), sol.x.detach().numpy(), 1e-12, "q")  # ∂obj/∂q = x


def test_forward_mode_and_functional_values():
    """Tangents of the stored values; and a network's output as the values of a fixed pattern."""
    entries = CASE.A.tocoo()
    indices = torch.tensor(np.stack([entries.row, entries.col]))
    values = torch.tensor(entries.data, requires_grad=True)
    A = torch.sparse_coo_tensor(indices, values, entries.shape, check_invariants=True)
    sol = gd.solve(tensor(CASE.P, "coo", False), torch.tensor(CASE.q), A, torch.tensor(CASE.b), CASE.cones)
    sol.x[0].backward()
    unit = np.eye(1, CASE.q.size)[0]
    expected = gd.solve(*CASE, backend="clarabel").vjp(x=unit).A.tocoo()
    assert_close(values.grad.numpy(), np.asarray(expected.todense())[entries.row, entries.col], 1e-11, "values")
    with forward_ad.dual_level():
        q = forward_ad.make_dual(torch.tensor(CASE.q), torch.ones(CASE.q.size, dtype=torch.float64))
        dual = gd.solve(tensor(CASE.P, "coo", False), q, tensor(CASE.A, "coo", False), torch.tensor(CASE.b), CASE.cones)
        dot = forward_ad.unpack_dual(dual.x).tangent
    expected = gd.solve(*CASE, backend="clarabel").jvp(q=np.ones(CASE.q.size)).x
    assert_close(dot.numpy(), expected, 1e-10, "forward mode")


def test_what_is_refused():
    q, b = torch.tensor(CASE.q), torch.tensor(CASE.b)
    with pytest.raises(gd.DtypeError, match="A: expected a dense, COO or CSR tensor"):
        gd.solve(None, q, tensor(CASE.A, "coo", False).to_dense().to_sparse_csc(), b, CASE.cones)
    sol = gd.solve(tensor(CASE.P, "csr"), q, tensor(CASE.A, "coo"), b, CASE.cones)
    with torch.no_grad():
        sol.x.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace"):
        sol.y.sum().backward()
