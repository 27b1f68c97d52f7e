"""``gpudiff bench --device cuda``: all of it in one run, written to the JSON after each family."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpudiff._progress import Progress
from gpudiff.bench import machine
from gpudiff.bench.cuda import experiments, report
from gpudiff.bench.cuda.device import Device, TorchDevice
from gpudiff.bench.cuda.measure import Clock, DeviceRecord, run_family
from gpudiff.bench.cuda.solver import DeviceSolver, GpudiffOnDevice, GpudiffOnHost
from gpudiff.bench.cuda.tune import Workshop, tune
from gpudiff.bench.families import Family
from gpudiff.bench.measure import Plan
from gpudiff.bench.ours import is_ours
from gpudiff.bench.peers import CUDA_PEERS
from gpudiff.bench.solver import TOLERANCE

FORMAT = 1  # of the JSON
BATCHES = (100, 1_000, 10_000, 100_000, 1_000_000)
DTYPES = ("float64", "float32")
TAIL_BATCH = 100_000
_QUICK_BATCHES = (10, 100)


def main(options: argparse.Namespace, families: list[Family], device: Device | None = None) -> int:
    """Measures, prints, writes.

    Args:
        options: From the command line.
        families: Those to be measured.
        device: Where; None for the CUDA device.

    Returns:
        0; 1 if gpudiff failed on a family; 2 if there is no device.
    """
    device = device or TorchDevice()
    reason = device.why_unavailable()
    if reason is not None:
        print(f"gpudiff bench: --device cuda: {reason}", file=sys.stderr)
        return 2
    results = (tuning if options.tune else run)(options, families, device)
    print(text(results))
    if options.json:
        print(f"\nwritten to {options.json}", file=sys.stderr)
    if options.plot and not options.tune:
        _plot(results, options.json)
    if options.tune:
        return 0 if any(row.get("forward") for row in results["tuning"]) else 1
    ours = [r for r in results["results"] if is_ours(r["solver"])]
    return 1 if not ours or any(r["error"] or r["unsolved"] for r in ours) else 0


def run(options: argparse.Namespace, families: list[Family], device: Device) -> dict[str, Any]:
    """Measures all families and the single figures.

    Returns:
        The contents of the JSON file.
    """
    plan, batches, dtypes = _plan(options)
    ours = _ours(options)
    candidates = select_peers(options.peers, options.threads or len(machine.usable_cores()))
    reasons = {solver.name: solver.unavailable() for solver in candidates}
    solvers: list[DeviceSolver] = [ours, *(solver for solver in candidates if reasons[solver.name] is None)]
    results = _head(options, device, plan, solvers)
    results["unavailable"] = {name: reason for name, reason in reasons.items() if reason is not None}
    clock = Clock(options.limit)
    progress = Progress(4 + len(families) * len(dtypes) * len(batches) * len(solvers), options.quiet)

    def single(name: str, measure: Callable[[], Any]) -> None:
        progress.tick(name)
        if not clock.over():
            try:
                results[name] = measure()
            except Exception as error:  # what the others measured stays
                results["failures"][name] = f"{type(error).__name__}: {str(error).strip()[:1000]}"
            _write(results, options.json)

    single("ceilings", lambda: _ceilings(device))
    single("latency", lambda: experiments.latency(device, ours, plan.seed, 20 if options.quick else 300))
    single("first_result", lambda: experiments.first_result(device, ours.backend))
    single("tail", lambda: experiments.tail(device, ours, plan, 200 if options.quick else options.batch or TAIL_BATCH))
    records: list[DeviceRecord] = []
    for dtype in dtypes:
        for family in families:
            try:
                found, facts = run_family(device, family, solvers, plan, dtype, batches, clock, progress.tick)
            except Exception as error:
                results["failures"][f"{family.name} {dtype}"] = f"{type(error).__name__}: {str(error).strip()[:1000]}"
                continue
            results["families"].append(facts)
            records += found
            _fractions(records, results.get("ceilings", {}))
            results["results"] = [asdict(record) for record in records]
            results["ratios"] = report.ratios(records)
            results["complete"] = not clock.over()
            _write(results, options.json)
    progress.close()
    return results


def tuning(
    options: argparse.Namespace, families: list[Family], device: Device, workshop: Workshop | None = None
) -> dict[str, Any]:
    """Measures all combinations of group and level; what JSON file is written has "tuning" in place of "results"."""
    plan, _, dtypes = _plan(options)
    ours = _ours(options)
    results = _head(options, device, plan, [ours])
    results["tuning"] = []
    clock = Clock(options.limit)
    progress = Progress(len(families) * len(dtypes), options.quiet)
    batch = options.batch or (100 if options.quick else 20_000)
    for dtype in dtypes:
        for family in families:
            progress.tick(f"{family.name} {dtype}")
            if clock.over():
                continue
            try:
                rows = tune(device, family, dtype, plan, batch, clock, lambda _text: None, workshop, ours)
            except Exception as error:
                results["failures"][f"{family.name} {dtype}"] = f"{type(error).__name__}: {str(error).strip()[:1000]}"
                continue
            results["tuning"] += rows
            _write(results, options.json)
    progress.close()
    return results


def select_peers(names: str, threads: int) -> list[DeviceSolver]:
    """Peers by a comma-separated list of names, or all, or none."""
    peers: list[DeviceSolver] = [GpudiffOnHost(threads), *CUDA_PEERS]
    if names == "all":
        return peers
    wanted = set() if names == "none" else set(names.split(","))
    return [peer for peer in peers if peer.name in wanted]


def peer_names() -> set[str]:
    """What ``select_peers`` knows."""
    return {peer.name for peer in select_peers("all", 1)}


def text(results: dict[str, Any]) -> str:
    """The tables and the single figures, as printed."""
    about = results["machine"]
    lines = [f"{about['device'].get('gpu', about['device'])}, {about['cpu']}, tolerance {TOLERANCE:g}"]
    lines += report.single_figures(results)
    if "tuning" in results:
        lines += ["", report.tuning_table(results["tuning"])]
    else:
        lines += ["", report.throughput_table([DeviceRecord(**record) for record in results["results"]])]
        ratios = report.ratios_table(results["ratios"])
        lines += ["", "forward / forward+backward", ratios] if ratios else []
    lines += [f"failed: {name}: {reason}" for name, reason in results["failures"].items()]
    lines += [f"not measured: {name} ({reason})" for name, reason in results.get("unavailable", {}).items()]
    return "\n".join(lines)


def _ours(options: argparse.Namespace) -> GpudiffOnDevice:
    return GpudiffOnDevice(options.backend if options.backend != "auto" else "cuda", options.method or "auto")


def _plan(options: argparse.Namespace) -> tuple[Plan, tuple[int, ...], tuple[str, ...]]:
    if options.quick:
        plan = Plan(0.002, 1, 4, options.seed, options.batch)
    else:
        plan = Plan(options.seconds or 0.1, options.repeat, options.sample, options.seed, options.batch)
    batches = (options.batch,) if options.batch else _QUICK_BATCHES if options.quick else BATCHES
    return plan, batches, DTYPES if options.dtype is None else (options.dtype,)


def _head(options: argparse.Namespace, device: Device, plan: Plan, solvers: list[DeviceSolver]) -> dict[str, Any]:
    packages = ["numpy", "torch", "cuda-core", "cuda-bindings", "nvidia-cuda-nvrtc", "cupy-cuda13x"]
    overrides = {name: value for name, value in os.environ.items() if name.startswith("GPUDIFF_GPU_")}
    return {
        "format": FORMAT,
        "kind": "tuning" if options.tune else "gpu",
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": {**machine.describe(), "device": device.describe()},
        "commit": machine.commit(),
        "versions": {**machine.versions(packages), **{solver.name: solver.version() for solver in solvers}},
        "settings": {
            "tolerance": TOLERANCE,
            "plan": asdict(plan),
            "environment": overrides,
            "solvers": {solver.name: solver.settings() for solver in solvers},
        },
        "failures": {},
        "families": [],
        "results": [],
        "ratios": [],
        "complete": False,
    }


def _ceilings(device: Device) -> dict[str, float]:
    return {**{dtype: device.fma_peak(dtype) for dtype in DTYPES}, "bandwidth": device.bandwidth()}


def _fractions(records: list[DeviceRecord], ceilings: dict[str, float]) -> None:
    """Of the float64 peak, whatever the data: the last digits are always computed in double precision."""
    for record in records:
        if ceilings and record.forward and record.flops and record.bytes:
            record.peak_fraction = record.flops * record.forward / ceilings["float64"]
            record.bandwidth_fraction = record.bytes * record.forward / ceilings["bandwidth"]


def _write(results: dict[str, Any], path: Path | None) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    part.replace(path)


def _plot(results: dict[str, Any], json_path: Path | None) -> None:
    from gpudiff.bench.cuda import plot

    path = (json_path or Path("gpudiff-bench-cuda.json")).with_suffix(".png")
    try:
        records = [DeviceRecord(**record) for record in results["results"]]
        title = f"gpudiff on {results['machine']['device'].get('gpu', 'a device')}"
        plot.draw(records, results.get("ceilings", {}), path, title)
    except ImportError as error:
        print(f"no plot: {error}", file=sys.stderr)
    else:
        print(f"plotted to {path}", file=sys.stderr)
