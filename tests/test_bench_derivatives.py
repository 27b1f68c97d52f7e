"""The benchmark of derivatives: its figures are those of the calls that it names, and its errors see what is wrong."""

from __future__ import annotations

import json
import types

import numpy as np
import pytest

from gpudiff.bench import derivatives, report, runner, training
from gpudiff.bench.families import FAMILIES, generate
from gpudiff.bench.measure import Plan, interleaved

PLAN = Plan(seconds=0.0, repeats=2, sample=1, seed=0, batch=4)
RUN = derivatives._solver("auto", 1)


def named(name):
    return next(family for family in FAMILIES if family.name == name)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_adjoint_identity_holds_in_every_family(family):
    """Relative to the norms of what is multiplied; 1e-10 as in the tests of derivatives."""
    found = derivatives.adjoint(family, PLAN, RUN)
    assert found["problems"] == 4
    assert found["unsolved"] == 0
    assert found["median"] <= found["max"] <= 1e-10


@pytest.mark.parametrize("name", ["P", "q", "A", "b"])
def test_the_identity_sees_each_cotangent(name):
    """One entry of the cotangent of one argument of one problem is off by its norm."""

    class Spoilt:
        def __init__(self, batch):
            self.right = RUN(batch)

        def __getattr__(self, key):
            return getattr(self.right, key)

        def vjp(self, **bars):
            bar = self.right.vjp(**bars)
            value = {key: np.array(getattr(bar, key)) for key in "PqAb"}
            value[name][1].flat[0] += np.linalg.norm(value[name][1])
            return types.SimpleNamespace(**value)

    found = derivatives.adjoint(named("qp-8-16"), PLAN, Spoilt)
    assert found["max"] > 1e-4
    assert found["median"] <= 1e-10


def test_problems_that_were_not_solved_are_counted_apart():
    class Failed:
        def __init__(self, batch):
            self.right = RUN(batch)
            self.ok = np.array([False, True, True, True])

        def __getattr__(self, key):
            return getattr(self.right, key)

        def jvp(self, **dots):
            dot = self.right.jvp(**dots)
            value = {key: np.array(getattr(dot, key)) for key in ("x", "y", "s", "obj")}
            value["x"][0] = 1e6
            return types.SimpleNamespace(**value)

    found = derivatives.adjoint(named("qp-8-16"), PLAN, Failed)
    assert found["unsolved"] == 1
    assert found["max"] <= 1e-10


def test_shared_data_are_given_to_each_problem():
    batch = generate(named("mpc-30-120"), 3, 0)
    own = derivatives.separate(batch)
    assert batch.shared
    assert not own.shared
    for i in range(3):
        for mine, one in zip(own.problem(i), batch.problem(i), strict=True):
            np.testing.assert_array_equal(mine, one)
    linear = derivatives.separate(generate(named("lp-20-60"), 2, 0))
    assert linear.P is None


@pytest.mark.parametrize("name", ["qp-16-36", "mpc-30-120", "lp-20-60", "socp-10-30", "sdp-3", "gp"])
def test_a_reverse_pass_is_measured_beside_the_solve(name):
    found = derivatives.backward(named(name), PLAN, RUN)
    assert found["forward"] > 0
    assert found["backward"] > 0
    assert 0 < found["share_range"][0] <= found["share"] <= found["share_range"][1] < 1
    assert found["gradient_error_median"] <= found["gradient_error_max"] <= 1e-6
    assert found["batch"] == 4


def test_a_wrong_gradient_is_seen():
    def run(batch):
        right = RUN(batch)

        def vjp(**bars):
            bar = right.vjp(**bars)
            return types.SimpleNamespace(P=bar.P, q=-bar.q, A=bar.A, b=bar.b)

        return types.SimpleNamespace(vjp=vjp, method=right.method)

    assert derivatives.backward(named("qp-8-16"), PLAN, run)["gradient_error_max"] > 1e-2


def test_calls_take_turns():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in ("a", "b")}
    seconds = interleaved(calls, Plan(seconds=0.0, repeats=2, sample=0, seed=0))
    assert order == ["a", "b"] * 3  # once to warm up
    assert [len(each) for each in seconds.values()] == [2, 2]
    assert all(one > 0 for each in seconds.values() for one in each)


def test_ten_cotangents_at_once_have_the_bits_of_one():
    found = derivatives.several(named(derivatives.SEVERAL), PLAN, RUN)
    assert [each["wrt"] for each in found] == ["PqAb", "qb"]
    for each in found:
        assert each["same_bits"] is True
        assert each["one"] > 0
        assert 0 < each["ratio_range"][0] <= each["ratio"] <= each["ratio_range"][1]
        assert 0 < each["calls_ratio_range"][0] <= each["calls_ratio"] <= each["calls_ratio_range"][1]


def test_second_derivatives_are_measured_and_judged():
    """Errors are those of difference quotients, 1e-8 of the largest entry; none of these problems is near a kink."""
    pytest.importorskip("torch")
    found = training.twice(named("qp-16-36"), PLAN, "auto", 1)
    assert found["batch"] == 4
    assert found["error_median"] <= found["error_max"] <= 1e-6
    assert found["double"] > 0
    assert found["recorded"] > 0


def test_training_steps_are_measured(monkeypatch):
    """The layers of gpudiff and of cvxpylayers have the same gradient; a peer that breaks is reported."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("sklearn")

    def breaks(solver, options):
        def project(y, G, h):
            raise ZeroDivisionError("on purpose")

        return project if solver == "DIFFCP" else training._ours("auto", 1)

    monkeypatch.setattr(training, "_cvxpylayers", breaks)
    found, missing = training.training(PLAN, "auto", 1)
    assert missing == {"cvxpylayers, DIFFCP": "ZeroDivisionError: on purpose"}
    assert [each["layer"] for each in found] == ["gpudiff", "cvxpylayers, MOREAU", "ReLU"]
    assert [each["difference"] for each in found] == [None, 0.0, None]
    assert found[0]["ratio"] == 1.0
    assert all(each["ms"] > 0 and each["batch"] == 4 for each in found)

    network = training.Classifier(training._ours("auto", 1))
    random = torch.Generator().manual_seed(0)
    images = torch.rand(16, 64, generator=random, dtype=torch.float64)
    labels = torch.arange(16) % 10
    losses = [float(network.step(images, labels).detach()) for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0]


def test_the_peer_has_the_same_gradient():
    """1e-3, for diffcp's derivative is that of an interior point at 1e-8, near rows that are weakly active."""
    for module in ("torch", "sklearn", "cvxpylayers"):
        pytest.importorskip(module)
    found, missing = training.training(PLAN, "auto", 1)
    assert "cvxpylayers, DIFFCP" not in missing
    (peer,) = (each for each in found if each["layer"] == "cvxpylayers, DIFFCP")
    assert peer["difference"] <= 1e-3


def test_the_command_writes_and_prints_them(tmp_path, monkeypatch, capsys):
    for name in runner.machine.THREAD_VARIABLES:
        monkeypatch.setenv(name, "1")  # measure in this process instead of a child
    monkeypatch.setattr(runner.machine, "pin_to_one_core", lambda: None)
    monkeypatch.setattr(training, "CVXPYLAYERS", {})
    path = tmp_path / "derivatives.json"
    command = ["--parts", "derivatives", "--peers", "none", "--filter", "^qp-32|^sdp-3", "--quick", "--quiet"]
    assert runner.main([*command, "--batch", "4", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert found["machine"]["cpu"]
    assert found["results"] == []
    for kind in ("adjoint", "backward"):
        assert [each["family"] for each in found["derivatives"][kind]] == ["qp-32-72", "sdp-3"]
    assert [each["family"] for each in found["derivatives"]["several"]] == ["qp-32-72"] * 2
    printed = capsys.readouterr().out
    for table in report.derivatives_tables(found["derivatives"]):
        assert table in printed
    assert "ten cotangents at once" in printed
    assert "% peak" not in printed  # no table of solvers


def test_without_torch_the_rest_is_measured(monkeypatch):
    def load(module):
        raise ModuleNotFoundError(f"No module named {module!r}")

    monkeypatch.setattr(training, "load", load)
    found = training.through_torch([named("qp-16-36")], PLAN, "auto", 1)
    assert found["torch_unavailable"] == {"torch": "No module named 'torch'"}
    assert found["twice"] == found["training"] == []
