"""The peers of the GPU benchmark: their call shapes, with stand-ins that do what the packages are documented to do.

A stand-in takes exactly the arguments of the real one and answers with gpudiff, so the answers are right only if rows,
bounds, signs and gradients are sorted and put back correctly.
"""

from __future__ import annotations

import sys
import types

import pytest
from host_device import HostDevice, torch

import gpudiff as gd
from gpudiff.bench import measure
from gpudiff.bench.cuda import data, experiments
from gpudiff.bench.cuda.measure import DeviceRecord
from gpudiff.bench.families import generate
from gpudiff.bench.peers.cupiqp import Cupiqp
from gpudiff.bench.peers.moreau_cuda import MoreauCuda
from gpudiff.bench.peers.qpth import Qpth


class WarpArray:
    """As much of warp.array as is used of results."""

    def __init__(self, tensor):
        self.tensor, self.shape = tensor, tuple(tensor.shape)

    def numpy(self):
        return self.tensor.detach().numpy()


class DenseSolver:
    """cupiqp.DenseSolver (0.1.0): the signatures of setup, update, solve and backward, answered by gpudiff."""

    def __init__(self):
        self.settings = types.SimpleNamespace(eps_abs=1e-8, eps_rel=1e-9, eps_duality_gap_rel=1e-9, enable_grad=False)
        self.result = None

    def setup(self, P, c, A=None, b=None, G=None, h_u=None, h_l=None, x_u=None, x_l=None):
        assert self.result is None, "only once"
        self.result = types.SimpleNamespace(x=None, info=types.SimpleNamespace(status=None))
        self.update(P, c, A, b, G, h_u, h_l, x_u, x_l)
        self.present = [k for k, v in self.data.items() if v is not None]

    def update(self, P=None, c=None, A=None, b=None, G=None, h_u=None, h_l=None, x_u=None, x_l=None):
        self.data = {"P": P, "c": c, "A": A, "b": b, "G": G, "h_u": h_u, "x_u": x_u, "x_l": x_l}
        for value in self.data.values():
            assert value is None or (value.dtype == torch.float64 and value.is_contiguous())

    def solve(self):
        d = self.data
        self.solution = gd.solve_qp(d["P"], d["c"], d["G"], d["h_u"], d["A"], d["b"], d["x_l"], d["x_u"])
        self.result.x = WarpArray(self.solution.x)
        self.result.info.status = WarpArray(torch.where(self.solution.ok, 1, -1))

    def backward(self, grad_x=None):
        assert self.settings.enable_grad
        bar = self.solution.vjp(x=grad_x)
        names = {"P": "P", "c": "q", "A": "A", "b": "b", "G": "G", "h_u": "h", "x_u": "ub", "x_l": "lb"}
        found = {ours: getattr(bar, name) for ours, name in names.items()}
        return types.SimpleNamespace(**{k: None if v is None else WarpArray(v) for k, v in found.items()})


@pytest.mark.parametrize("name", ["qp-8-16", "qp-16-36", "portfolio-50-51", "mpc-30-120"])
def test_cupiqp_is_called_as_documented(name, monkeypatch):
    """The answers are right only if rows, bounds, signs and gradients are sorted and put back correctly."""
    status = types.SimpleNamespace(CUPIQP_SOLVED=types.SimpleNamespace(value=1))
    fake = types.SimpleNamespace(DenseSolver=DenseSolver, Status=status)
    monkeypatch.setitem(sys.modules, "cupiqp", fake)
    _check_peer(Cupiqp(), name)


@pytest.mark.parametrize("name", ["qp-8-16", "qp-16-36", "mpc-30-120"])
def test_qpth_is_called_as_documented(name, monkeypatch):
    def function(eps, check_Q_spd, verbose):
        def solve(Q, p, G, h, A, b):
            if A.numel() == 0:
                return gd.solve_qp(Q, p, G, h).x
            return gd.solve_qp(Q, p, G, h, A, b).x

        return solve

    monkeypatch.setitem(sys.modules, "qpth", types.ModuleType("qpth"))
    monkeypatch.setitem(sys.modules, "qpth.qp", types.SimpleNamespace(QPFunction=function))
    assert Qpth().unavailable() is None
    _check_peer(Qpth(), name)
    assert not Qpth().supports(generate(experiments.named("lp-20-60"), 1, 0))


class MoreauSolver:
    """moreau.torch.Solver (0.4.1): compressed rows in, an attribute x out, statuses in info; answered by gpudiff."""

    def __init__(self, n, m, P_row_offsets, P_col_indices, A_row_offsets, A_col_indices, cones, settings=None):
        self.n, self.m, self.cones, self.settings = n, m, cones, settings
        self.P_at = self._places(P_row_offsets, P_col_indices, n)
        self.A_at = self._places(A_row_offsets, A_col_indices, m)

    @staticmethod
    def _places(offsets, columns, rows):
        assert len(offsets) == rows + 1
        assert int(offsets[-1]) == len(columns)
        return torch.repeat_interleave(torch.arange(rows), offsets.diff()), columns

    def solve(self, P_values, A_values, q, b):
        def filled(values, at, rows):
            matrix = torch.zeros((*values.shape[:-1], rows, self.n), dtype=values.dtype)
            return matrix.index_put((*([torch.arange(len(values))[:, None]] * (values.ndim - 1)), *at), values)

        P = filled(P_values, self.P_at, self.n) if P_values.shape[-1] else None
        c = self.cones
        cones = {"z": c["num_zero_cones"], "l": c["num_nonneg_cones"], "q": c["so_cone_dims"]}
        solution = gd.solve(P, q, filled(A_values, self.A_at, self.m), b, cones)
        self.info = types.SimpleNamespace(status=[1 if ok else 7 for ok in solution.ok])
        assert self.settings["batch_size"] == len(q)
        return solution


@pytest.mark.parametrize("name", ["qp-16-36", "mpc-30-120", "lp-20-60", "socp-30-55"])
def test_moreau_is_called_as_documented(name, monkeypatch):
    fake = types.ModuleType("moreau")
    fake.SolverStatus = types.SimpleNamespace(Solved=1)
    fake.Cones, fake.Settings = dict, dict
    fake.device_available = lambda device: device == "cuda"
    monkeypatch.setitem(sys.modules, "moreau", fake)
    monkeypatch.setitem(sys.modules, "moreau.torch", types.SimpleNamespace(Solver=MoreauSolver))
    assert MoreauCuda().unavailable() is None
    fake.device_error = lambda device: None
    assert "moreau-cuda13" in MoreauCuda("rocm").unavailable()
    _check_peer(MoreauCuda(), name)


def _check_peer(peer, name):
    """The second of two parts, against the reference."""
    device, family = HostDevice(), experiments.named(name)
    pool = data.Pool(device, family, 8, "float64", 0)
    parts = pool.parts(4)
    assert len(parts) >= 2
    assert peer.supports(pool.base)
    for kind in ("forward", "forward_backward"):
        session = peer.prepare_parts(parts, kind != "forward")
        getattr(session, kind)(0)
        outcome = session.outcome(getattr(session, kind)(1), 2)
        batch = data.on_host(parts[1].batch)
        exact = measure.truth(batch, parts[1].x_bar.numpy(), 2)
        record = DeviceRecord(name, peer.name, 4)
        measure.judge(record, outcome, exact, batch)
        assert record.unsolved == 0
        assert len(outcome.solved) == 4
        assert record.x_error_max < 1e-6
        if kind != "forward":
            assert outcome.gradients is not None
            assert record.gradient_error_max < 1e-5
