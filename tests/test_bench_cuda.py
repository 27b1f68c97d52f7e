"""The GPU benchmark, run on a device whose memory and clock are the host's: everything but the GPU itself.

``HostDevice`` takes the place of the CUDA device: its arrays are torch's on the CPU, so gpudiff answers with its CPU
backend. Events, graphs and the allocator's statistics are torch's own and are not tested here.
"""

from __future__ import annotations

import json
import os
import subprocess
from itertools import product
from pathlib import Path

import gpu_short_set
import numpy as np
import pytest
from host_device import HostDevice, torch

import gpudiff as gd
from gpudiff._cones import as_product
from gpudiff.bench import families, runner
from gpudiff.bench.cuda import data, experiments, plot, report, run, tune
from gpudiff.bench.cuda.measure import Clock, DeviceRecord, run_family, timed
from gpudiff.bench.cuda.solver import GpudiffOnDevice, GpudiffOnHost
from gpudiff.bench.families import generate
from gpudiff.bench.measure import Plan
from gpudiff.jit.driver import Compiled, Usage
from gpudiff.jit.plan import architecture
from gpudiff.jit.plan import plan as lay_out
from gpudiff.jit.specification import shape_of

PLAN = Plan(seconds=0.0, repeats=2, sample=2, seed=0)
NAMES = [family.name for family in families.FAMILIES]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_pool_holds_translated_copies(name, dtype, monkeypatch):
    """Every copy has the y and s of its original, x moved by the translation, and data of its own."""
    device, family = HostDevice(), experiments.named(name)
    monkeypatch.setattr(data, "BASE_MOST", 64)
    pool = data.Pool(device, family, 130, dtype, seed=3)
    base = pool.base.size
    assert base == 64
    assert pool.count > base
    whole = data.on_host(pool.batch)
    copies = [0, base]
    part = [whole.problem(i) for i in copies]
    drawn = generate(family, base, 3).problem(0)
    for array, original in zip(part[0], drawn, strict=True):  # the first copy is as drawn
        if original is not None:
            np.testing.assert_array_equal(array, original.astype(dtype))
    assert not np.array_equal(part[0][1], part[1][1]) or drawn[0] is None  # q stays where P is absent
    assert not np.array_equal(part[0][3], part[1][3])
    first, second = (gd.solve(*problem, pool.base.cones, backend="cpu") for problem in part)
    assert first.ok
    assert second.ok
    tolerance = 1e-6 if dtype == "float64" else 2e-2  # float32 data are those of a neighbouring problem
    np.testing.assert_allclose(first.y, second.y, atol=tolerance * max(1, np.abs(first.y).max()))
    np.testing.assert_allclose(first.s, second.s, atol=tolerance * max(1, np.abs(first.s).max()))
    assert np.abs(first.x - second.x).max() > 0.01


def test_pool_exceeds_the_cache_and_keeps_to_the_memory(monkeypatch):
    device, family = HostDevice(), experiments.named("qp-8-16")
    device.l2_bytes = 1 << 20
    pool = data.Pool(device, family, 10, "float64", 0)
    assert pool.count * pool.size.data >= data.CACHES * device.l2_bytes
    parts = pool.parts(10)
    assert len(parts) == min(data.MOST_SETS, pool.count // 10)
    pointers = [part.batch.A.data_ptr() for part in parts]
    assert len(set(pointers)) == len(parts)  # parts of one array, none of them twice
    assert parts[1].batch.A.data_ptr() - parts[0].batch.A.data_ptr() == 10 * 16 * 8 * 8
    monkeypatch.setattr(device, "free_bytes", lambda: 100 * pool.size.all)
    assert data.Pool(device, family, 10**6, "float64", 0).count == 70
    assert pool.size.data == 8 * (8 * 8 + 8 + 16 * 8 + 16)


def test_family_is_measured_and_judged():
    """Rates come from the device's clock, accuracy from the answers, fractions and memory from what was measured."""
    device, seen = HostDevice(tick=0.5), []
    solvers = [GpudiffOnDevice("cpu"), GpudiffOnHost(1)]
    family = experiments.named("qp-8-16")
    batches = [10, 1000]
    records, facts = run_family(device, family, solvers, PLAN, "float64", batches, Clock(None), seen.append)
    assert [(r.batch, r.solver) for r in records] == [(10, "gpudiff"), (1000, "gpudiff"), (1000, "gpudiff-cpu")]
    assert len(seen) == 4
    for r in records:
        assert r.error is None
        assert r.correct
        assert r.correct_gradient
        assert r.forward == r.forward_backward == r.batch / 0.5
        assert r.x_error_max < 1e-9
        assert r.gradient_error_max < 1e-7
        assert r.first_seconds["forward"] > 0
    ours = records[1]
    assert ours.statuses == {"SOLVED": 1000}
    assert ours.extra_bytes == {"forward": 4321, "forward_backward": 4321}
    assert ours.bytes == 8 * (8 * 8 + 8 + 16 * 8 + 16 + 8 + 2 * 16 + 5) + 5
    assert facts["flops"] == ours.flops
    counted = (
        gd.solve(*(getattr(generate(family, 512, 0), k) for k in "PqAb"), {"l": 16}, backend="cpu").work.flops / 512
    )
    assert ours.flops == pytest.approx(counted, rel=0.02)  # of other problems of the family
    assert ours.intensity == ours.flops / ours.bytes
    run._fractions(records, {"float64": 1e9, "bandwidth": 1e8})
    assert ours.peak_fraction == pytest.approx(ours.flops * 2000 / 1e9)
    assert ours.bandwidth_fraction == pytest.approx(ours.bytes * 2000 / 1e8)
    assert records[2].peak_fraction is None


def test_failures_and_time_limits_leave_the_rest():
    class Broken(GpudiffOnDevice):
        name = "broken"

        def prepare_parts(self, parts, derivatives):
            raise MemoryError("on purpose")

    class Slow(GpudiffOnDevice):
        name = "slow"

    family, device = experiments.named("qp-8-16"), HostDevice(tick=15.0)
    solvers = [GpudiffOnDevice("cpu"), Broken(), Slow("cpu")]
    records, _ = run_family(device, family, solvers, PLAN, "float64", [1000, 2000], Clock(None), lambda _: None)
    assert [(r.solver, r.batch) for r in records] == [
        ("gpudiff", 1000), ("broken", 1000), ("slow", 1000), ("gpudiff", 2000)
    ]  # fmt: skip
    assert records[1].error == "MemoryError: on purpose"
    over = Clock(0.0, started=0.0)
    assert run_family(device, family, solvers, PLAN, "float64", [10], over, lambda _: None)[0] == []
    single, _ = run_family(device, family, solvers, PLAN, "float32", [1000], Clock(None), lambda _: None)
    assert [r.solver for r in single] == ["gpudiff"]  # peers are for float64


def test_calls_go_round_the_parts():
    called = []
    found = timed(HostDevice(tick=0.5), called.append, 5, Plan(seconds=2.0, repeats=3, sample=1, seed=0))
    assert len(found) == 3
    assert called[:2] == [0, 1]
    after = called[2 + 3 :]
    assert after == [k % 5 for k in range(len(after))]
    assert len(after) == 3 * 4  # 2 s at half a second a call


def test_latency_and_graphs():
    device = HostDevice()
    found = experiments.latency(device, GpudiffOnDevice("cpu"), 0, repeats=5)
    assert device.captured == 4
    assert set(found) == {"qp-8-16", "qp-32-72"}
    assert all(value > 0 for figures in found.values() for value in figures.values())

    def refuses(call):
        raise RuntimeError("no graphs here")

    device.capture = refuses
    found = experiments.latency(device, GpudiffOnDevice("cpu"), 0, repeats=5)
    assert found["qp-8-16"]["graph_forward_us"] == "RuntimeError: no graphs here"


def test_tail_has_harder_problems():
    """One problem in a hundred takes more than twice the iterations, and the work grows by what that makes."""
    found = experiments.tail(HostDevice(), GpudiffOnDevice("cpu"), PLAN, batch=300)
    assert found["hard"] == 3
    assert found["iterations_hard"] > 2 * found["iterations"]
    share = found["hard"] * (found["iterations_hard"] / found["iterations"] - 1) / found["batch"]
    assert found["work_ratio"] == pytest.approx(1 + share, rel=0.02)
    assert found["ratio"] == found["seconds_hard"] / found["seconds"]
    assert found["statuses"] == {"SOLVED": 300}


def test_first_result_runs_in_a_fresh_process():
    found = experiments.first_result(HostDevice(), "cpu", "qp-8-16")
    assert set(found) == {"cold", "warm"}
    for figures in found.values():
        assert 0 < figures["again_forward"] <= figures["forward"] < 60
        assert figures["import"] > figures["again_forward_backward"] > 0
    with pytest.raises(RuntimeError, match="cold"):
        experiments.first_result(HostDevice(), "no-such-backend", "qp-8-16")


class FakeWorkshop(tune.Workshop):
    """Level 3 cannot be compiled; what the environment asked for at each `forget` is written down."""

    def __init__(self):
        self.asked = []

    def default(self, batch, dtype):
        return 16, 1

    def compile(self, batch, dtype, choices):
        usage = {"registers": 64, "spills": 0, "blocks": 4, "shared": 100}
        return {c: "solve: too large" if c[1] == 3 else dict.fromkeys(tune.KERNELS, usage) for c in choices}

    def forget(self):
        self.asked.append(tuple(os.environ.get(name) for name in tune.VARIABLES))


def test_tuning_tries_all_in_reach(monkeypatch):
    monkeypatch.setenv("GPUDIFF_GPU_GROUP", "8")
    monkeypatch.delenv("GPUDIFF_GPU_LEVEL", raising=False)
    workshop, device = FakeWorkshop(), HostDevice(tick=0.5)
    family = experiments.named("qp-8-16")
    arguments = (PLAN, 20, Clock(None), lambda _: None, workshop, GpudiffOnDevice("cpu"))
    rows = tune.tune(device, family, "float64", *arguments)
    assert [(row["group"], row["level"]) for row in rows] == list(product((4, 8, 16, 32, 64), range(4)))
    assert [(row["group"], row["level"]) for row in rows if row["chosen"]] == [(16, 1)]
    for row in rows:
        if row["level"] == 3:
            assert row["error"] == "solve: too large"
        else:
            assert row["forward"] == row["forward_backward"] == 20 / 0.5
            assert row["unsolved"] == 0
    assert workshop.asked[0] == ("16", "1")  # the current choice comes first
    assert len(workshop.asked) == 15 + 1
    assert workshop.asked[-1] == ("8", None)  # and in the end everything is as it was
    text = report.tuning_table(rows)
    assert ">" in text
    assert "64/64/64" in text
    assert "too large" in text


def test_workshop_plans_and_builds_with_the_kernels_own_machinery(monkeypatch):
    """Against gpudiff.jit itself, with a compiler that only writes down what it is asked for."""
    batch = generate(experiments.named("qp-32-72"), 2, 0)
    workshop, sources = tune.Workshop(), []

    def build(source, arch, name):
        sources.append((source, arch))
        usage = {f"gd_{kind}_kernel": Usage(100, 0, 8, 16) for kind in tune.KERNELS}
        return Compiled(b"", usage)

    monkeypatch.setattr(tune, "_arch", lambda: "sm_90")
    monkeypatch.setattr("gpudiff.jit.build.build", build)
    laid = lay_out("solve", shape_of(as_product(batch.cones), 32, True, "float64"), architecture("sm_90"))
    chosen = workshop.default(batch, "float64")
    assert chosen == (laid.group, laid.level)
    found = workshop.compile(batch, "float64", [chosen, (32, 3)])
    assert set(found) == {chosen, (32, 3)}
    assert found[chosen]["solve"]["registers"] == 100
    assert found[chosen]["solve"]["spills"] == 24
    assert found[chosen]["solve"]["shared"] == laid.shared_per_block
    assert len(sources) == 8
    assert all(arch == "sm_90" and "#define GD_N 32" in source for source, arch in sources)
    assert sum("#define GD_LEVEL 3" in source for source, _ in sources) == 3  # solve, careful and vjp, not sum
    too_large = generate(experiments.named("optnet-100-150"), 1, 0)
    assert workshop.compile(too_large, "float64", [(128, 0)])[128, 0].split(": ")[1] == "BackendError"


def test_the_workshop_has_the_kernels_of_the_active_set(monkeypatch):
    batch = generate(experiments.named("qp-32-72"), 2, 0)
    workshop = tune.Workshop("active_set")
    monkeypatch.setattr(tune, "_arch", lambda: "sm_90")
    monkeypatch.setattr("gpudiff.jit.build.build", lambda source, arch, name: Compiled(b"", {}))
    laid = lay_out("active_set", shape_of(as_product(batch.cones), 32, True, "float64"), architecture("sm_90"))
    assert workshop.default(batch, "float64") == (laid.group, laid.level)
    assert list(workshop.compile(batch, "float64", [(32, 1)])[32, 1]) == ["active_set", "careful", "vjp", "sum"]


def test_a_forced_method_is_measured_where_it_can_be(tmp_path):
    chosen = options("--method", "active_set", "--peers", "none", "--backend", "cpu", "--dtype", "float64")
    results = run.run(chosen, runner.select_families("^(qp-8-16|lp-20-60|socp-10-30)$"), HostDevice())
    assert {(r["solver"], r["family"]) for r in results["results"]} == {("gpudiff-as", "qp-8-16")}
    assert all(r["unsolved"] == 0 for r in results["results"])
    tuned = (PLAN, 20, Clock(None), lambda _: None, FakeWorkshop(), GpudiffOnDevice("cpu", "active_set"))
    assert len(tune.tune(HostDevice(tick=0.5), experiments.named("qp-8-16"), "float64", *tuned)) == 20
    assert tune.tune(HostDevice(tick=0.5), experiments.named("socp-10-30"), "float64", *tuned) == []


def options(*arguments):
    return runner.parser().parse_args(["--device", "cuda", "--quick", "--quiet", *arguments])


def test_whole_run_is_written(tmp_path, capsys, monkeypatch):
    path = tmp_path / "out" / "gpu.json"
    chosen = options("--json", str(path), "--plot", "--backend", "cpu", "--peers", "gpudiff-cpu")
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(experiments, "first_result", lambda *_: {"cold": {"forward": 1.5}})  # tested above
    assert run.main(chosen, runner.select_families("^(qp-8-16|mpc-30-120|socp-10-30)$"), HostDevice()) == 0
    results = json.loads(path.read_text())
    assert results["complete"]
    assert results["failures"] == {}
    assert results["ceilings"] == {"float64": 1e9, "float32": 2e9, "bandwidth": 1e8}
    assert results["machine"]["device"]["gpu"] == "none"
    assert results["settings"]["plan"]["seed"] == 0
    assert {(r["family"], r["dtype"], r["batch"]) for r in results["results"]} == {
        (family, dtype, batch)
        for family in ("qp-8-16", "mpc-30-120", "socp-10-30")
        for dtype in ("float64", "float32")
        for batch in (10, 100)
    }
    for record in results["results"]:
        assert record["unsolved"] == 0
        assert record["x_error_max"] < (1e-8 if record["dtype"] == "float64" else 1e-3)
        assert record["peak_fraction"] > 0
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert run.text(results) in printed
    for word in ("qp-8-16", "float32", "B = 1", "first result, cold", "tail", "TFLOP/s"):
        assert word in printed


def test_what_fails_is_named_and_the_rest_is_measured(tmp_path):
    device = HostDevice()

    def broken():
        raise RuntimeError("no copy today")

    device.bandwidth = broken
    chosen = options("--peers", "none", "--backend", "cpu", "--dtype", "float64", "--limit", "1000")
    families_ = runner.select_families("^qp-8-16$")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "first_result", lambda *_: {})
        results = run.run(chosen, families_, device)
    assert results["failures"] == {"ceilings": "RuntimeError: no copy today"}
    assert [r["peak_fraction"] for r in results["results"]] == [None, None]
    assert "failed: ceilings: RuntimeError: no copy today" in run.text(results)
    timed_out = options("--peers", "none", "--backend", "cpu", "--dtype", "float64", "--limit", "1e-9")
    results = run.run(timed_out, families_, HostDevice())
    assert results["results"] == []
    assert not results["complete"]
    assert run.main(timed_out, families_, HostDevice()) == 1


def test_tuning_run(tmp_path, monkeypatch, capsys):
    path = tmp_path / "tuning.json"
    chosen = options("--tune", "--backend", "cpu", "--dtype", "float64", "--json", str(path))
    results = run.tuning(chosen, runner.select_families("^qp-8-16$"), HostDevice(), FakeWorkshop())
    assert len(results["tuning"]) == 20
    assert json.loads(path.read_text())["tuning"] == results["tuning"]
    assert "group" in run.text(results)


def test_without_a_gpu_it_says_why(capsys):
    reason = gd.info().backends["cuda"]
    if reason is None:
        pytest.skip("there is a GPU")
    assert runner.main(["--device", "cuda", "--quick"]) == 2
    assert f"gpudiff bench: --device cuda: {reason}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--tune"], "--tune goes with --device cuda"),
        (["--limit", "10"], "--limit goes with --device cuda"),
        (["--device", "cuda", "--limit", "-1"], "--limit must be positive"),
        (["--device", "cuda", "--peers", "daqp"], "daqp is not among"),
    ],
)
def test_wrong_arguments_are_named(arguments, word, capsys):
    assert runner.main(arguments) == 2
    assert word in capsys.readouterr().err


def synthetic(solver, batch, forward, both=None, **other):
    figures = {"unsolved": 0, "x_error_max": 1e-9, "gradient_error_median": 1e-9, "sample": 4, **other}
    return DeviceRecord("f", solver, batch, forward=forward, forward_backward=both, **figures)


def test_ratios_are_those_of_one_batch_size():
    records = [
        synthetic("gpudiff", 1000, 100.0, 80.0),
        synthetic("qpth", 1000, 10.0, 4.0),
        synthetic("gpudiff", 10_000, 900.0, 450.0),
        synthetic("qpth", 10_000, 30.0, 15.0),
        synthetic("cupiqp", 10_000, 30.0, 15.0, x_error_max=0.5),
    ]
    found = report.ratios(records)
    assert [(e["batch"], e["peer"], e["forward"], e["forward_backward"]) for e in found] == [
        (1000, "qpth", 10.0, 20.0),
        (10_000, "qpth", 30.0, 30.0),
    ]
    assert "30× / 30×" in report.ratios_table(found)
    assert report.backward_share(records[0]) == pytest.approx(0.2)
    table = report.throughput_table(records)
    assert "inaccurate" in table
    assert "1e4" in table


def test_roofline_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    records = [synthetic("gpudiff", b, 1e3 * b, 8e2 * b, flops=1e6, bytes=1000) for b in (100, 1000)]
    ceilings_ = {"float64": 3e13, "float32": 6e13, "bandwidth": 4e12}
    plot.draw(records, ceilings_, tmp_path / "a.png", "a GPU")
    plot.draw([], {}, tmp_path / "b.png", "nothing was measured")
    assert (tmp_path / "a.png").stat().st_size > (tmp_path / "b.png").stat().st_size > 0


def test_short_set_compares(capsys):
    """What compute-sanitizer runs, here without a GPU: two ways to the CPU backend agree, and a wrong answer shows."""
    shape = gpu_short_set.SHAPES[2]
    assert not gpu_short_set.differs(shape, "float64", True, "", "cpu")
    with pytest.MonkeyPatch.context() as patch:
        from_numpy = torch.from_numpy
        patch.setattr(torch, "from_numpy", lambda array: from_numpy(1.01 * array))
        assert gpu_short_set.differs(shape, "float64", False, "", "cpu")
    assert "WRONG" in capsys.readouterr().out


def test_script_for_the_device_is_valid():
    """benchmarks/gpu_all.sh parses; it is run where there is a GPU."""
    script = Path(__file__).parents[1] / "benchmarks" / "gpu_all.sh"
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
