"""The benchmark's command: ``gpudiff bench``, ``python -m gpudiff.bench`` or ``benchmarks/run.py``.

It chooses families and solvers, measures them, prints tables (report.py), and writes a JSON file that holds everything
needed to judge the figures: machine, versions, commit, settings, seed, and every speed with its accuracy. There are
six parts, of which ``--parts`` chooses: cold solves (measure.py), warm starts (warm.py), throughput by batch size
(sweep.py), the time of a single call (latency.py), projections onto cones (projections.py) and what derivatives cost
(derivatives.py).
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpudiff._progress import Progress
from gpudiff.bench import machine, measure, report, sweep, warm
from gpudiff.bench.derivatives import derivatives
from gpudiff.bench.families import FAMILIES, Family
from gpudiff.bench.latency import latency
from gpudiff.bench.measure import Plan, Record, run_family
from gpudiff.bench.ours import Gpudiff, is_ours
from gpudiff.bench.peers import CUDA_PEERS, PEERS
from gpudiff.bench.projections import projections
from gpudiff.bench.solver import TOLERANCE, Solver
from gpudiff.bench.sweep import run_sweep
from gpudiff.bench.warm import WarmRecord, run_warm

FORMAT = 2  # of the JSON
PARTS = ("cold", "warm", "sweep", "latency", "projections", "derivatives")
METHODS = ("auto", "ipm", "active_set")  # of gpudiff, each a solver of its own in the tables
_QUICK = {"seconds": 0.02, "repeat": 1, "sample": 4, "batch": 64}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        prog="gpudiff bench",
        description="Measure gpudiff and, where installed, other solvers on the same problems in the same run.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = found.add_argument
    add("--filter", metavar="REGEX", default="", help="families whose name matches; --list shows them")
    add("--peers", metavar="LIST", default="all", help="comma-separated names, or none, or all that are installed")
    add("--list", action="store_true", help="list families and peers, with the reason why one is unavailable")
    add("--parts", metavar="LIST", default=",".join(PARTS), help="what to measure (not with cuda)")
    add("--backend", default="auto", help="backend of gpudiff")
    add(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where the data lie; with cuda --cores does not matter"
    )
    add("--dtype", choices=("float64", "float32"), help="of gpudiff's data; by default float64, with cuda both")
    add("--cores", choices=("1", "all"), default="1", help="1 pins the process to one core")
    add("--threads", type=int, help="threads of gpudiff; by default as many as --cores allows")
    add(
        "--batch",
        type=int,
        help="problems per call; by default each family's own, 1 to 1 000 000 in a sweep or on cuda",
    )
    add("--seconds", type=float, help="time per measurement; by default 1, with cuda 0.1")
    add("--limit", type=float, metavar="SECONDS", help="cuda: start no new measurement after this time")
    add("--method", choices=("auto", "ipm", "active_set"), help="cuda: of gpudiff; by default auto")
    add("--tune", action="store_true", help="cuda: measure all group sizes and memory layouts instead")
    add("--repeat", type=int, default=5, help="interleaved repeats; the median is reported")
    add("--sample", type=int, default=24, help="problems compared with the exact reference")
    add("--seed", type=int, default=0, help="seed of the data")
    add("--json", type=Path, metavar="PATH", help="write everything to this file")
    add("--plot", action="store_true", help="write a PNG of the ratios beside the JSON (needs matplotlib)")
    add("--quick", action="store_true", help="small batches, short times, one repeat: to see that it works")
    add("--quiet", action="store_true", help="no progress on standard error")
    return found


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark from a command line.

    With one core, the measurement happens in a child process whose environment asks every library for one thread:
    the variables are read when a library is loaded, which is too late in this one.

    Returns:
        0; 1 if gpudiff failed on a family; 2 on a wrong argument.
    """
    argv = sys.argv[1:] if argv is None else argv
    options = parser().parse_args(argv)
    problem = _complaint(options)
    if problem:
        print(f"gpudiff bench: {problem}", file=sys.stderr)
        return 2
    if options.list:
        _print_list(options)
        return 0
    if options.device == "cuda":
        from gpudiff.bench.cuda.run import main as run_on_device

        return run_on_device(options, select_families(options.filter))
    environment = machine.single_threaded_environment() if options.cores == "1" else None
    if environment is not None:
        again = machine.fresh_interpreter("from gpudiff.bench.runner import main; sys.exit(main())")
        return subprocess.call([*again, *argv], env=environment)
    if options.cores == "1":
        machine.pin_to_one_core()
    results = run(options)
    print(results_text(results))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        print(f"\nwritten to {options.json}", file=sys.stderr)
    if options.plot:
        _plot(results, options.json)
    every = [*results["results"], *results["warm"], *results["sweep"]]
    return 1 if any(is_ours(r["solver"]) and (r["error"] or r["unsolved"]) for r in every) else 0


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures in this process, as it is.

    Args:
        options: What ``parser`` returns.

    Returns:
        The contents of the JSON file.
    """
    if options.quick:
        for name, value in _QUICK.items():
            if name != "batch" or options.batch is None:
                setattr(options, name, value)
    dtype = options.dtype or "float64"
    threads = options.threads or (1 if options.cores == "1" else len(machine.usable_cores()))
    plan = Plan(options.seconds or 1.0, options.repeat, options.sample, options.seed, options.batch)
    families, parts = select_families(options.filter), options.parts.split(",")
    methods = [Gpudiff(options.backend, dtype, threads, method) for method in METHODS]
    candidates: list[Solver] = [*methods, *select_peers(options.peers)]
    reasons = {solver.name: solver.unavailable() for solver in candidates}
    solvers = [solver for solver in candidates if reasons[solver.name] is None]

    started = datetime.datetime.now(datetime.timezone.utc)
    ours = [solver for solver in solvers if is_ours(solver.name)]
    peak = machine.fma_peak(dtype) if ours else None
    warm_families = [family for family in families if "warm" in parts and warm.applies(family)]
    swept = [family for family in families if "sweep" in parts and sweep.applies(family)]
    total = (len(families) * measure.steps(plan) * ("cold" in parts) + len(warm_families) * warm.steps(plan)) * len(
        solvers
    )
    progress = Progress(total + len(swept) * sweep.steps(plan) * len(ours), options.quiet)
    records: list[Record] = []
    warm_records: list[WarmRecord] = []
    sweep_records: list[Record] = []
    facts: list[dict[str, Any]] = []
    for family in families:
        if "cold" in parts:
            found, about = run_family(family, solvers, plan, progress.tick)
            records += found
            facts.append(about)
        if family in warm_families:
            warm_records += run_warm(family, solvers, plan, progress.tick)
        if family in swept:
            sweep_records += run_sweep(family, ours, plan, progress.tick)
        if peak is not None:  # the best of several readings: neighbours on the machine can only lower one
            peak = max([peak, *(machine.fma_peak(dtype) for _ in range(3))], key=lambda reading: reading["gflops"])
    progress.close()
    if peak is not None:
        for record in (*records, *warm_records, *sweep_records):
            if is_ours(record.solver) and record.flops and record.forward:
                record.peak_fraction = record.flops * record.forward / (peak["gflops"] * 1e9 * threads)

    results: dict[str, Any] = {
        "format": FORMAT,
        "started": started.isoformat(timespec="seconds"),
        "machine": {**machine.describe(), "pinned": options.cores == "1", "fma_peak": peak},
        "commit": machine.commit(),
        "versions": {**machine.versions(["numpy", "scipy"]), **{solver.name: solver.version() for solver in solvers}},
        "unavailable": {name: reason for name, reason in reasons.items() if reason is not None},
        "settings": {
            "tolerance": TOLERANCE,
            "cores": options.cores,
            "parts": parts,
            "plan": asdict(plan),
            "solvers": {solver.name: solver.settings() for solver in solvers},
        },
        "families": facts,
        "results": [asdict(record) for record in records],
        "ratios": report.ratios(records),
        "warm": [asdict(record) for record in warm_records],
        "warm_ratios": report.warm_ratios(warm_records),
        "sweep": [asdict(record) for record in sweep_records],
    }
    if ours and "latency" in parts:
        results["latency"] = latency(min(1.0, plan.seconds), options.backend, plan.sample, plan.seed)
        results["import_seconds"] = machine.import_seconds(max(1, plan.repeats))
    if ours and "projections" in parts:
        results["projections"] = projections(0.1 * plan.seconds, plan.repeats, peak, plan.seed)
    if ours and "derivatives" in parts:
        results["derivatives"] = derivatives(families, plan, options.backend, threads)
    return results


def results_text(results: dict[str, Any]) -> str:
    """The tables and the few single figures, as printed."""
    records = [Record(**record) for record in results["results"]]
    cpu, peak = results["machine"]["cpu"], results["machine"]["fma_peak"]
    lines = [f"{cpu}, {results['settings']['cores']} core(s), tolerance {TOLERANCE:g}"]
    if peak is not None:
        lines[0] += f"; measured FMA peak of one core {peak['gflops']:.1f} GFLOP/s ({peak['isa']})"
    if records:
        lines += ["", report.results_table(records)]
    ratios = report.ratios_table(results["ratios"])
    if ratios:
        lines += ["", "forward / forward+backward", ratios]
    if results["warm"]:
        lines += ["", report.warm_table([WarmRecord(**record) for record in results["warm"]])]
    ratios = report.warm_ratios_table(results["warm_ratios"])
    if ratios:
        lines += ["", ratios]
    if results["sweep"]:
        lines += ["", report.sweep_table([Record(**record) for record in results["sweep"]])]
    if "latency" in results:
        load = results["import_seconds"]
        lines += [
            "",
            report.latency_table(results["latency"]),
            f"import gpudiff: {1e3 * load['gpudiff']:.0f} ms, of which NumPy {1e3 * load['numpy']:.0f} ms",
        ]
    if "projections" in results:
        lines += ["", report.projections_table(results["projections"])]
    missing = dict(results["unavailable"])
    if "derivatives" in results:
        lines += ["", *report.derivatives_tables(results["derivatives"])]
        missing.update(results["derivatives"]["torch_unavailable"])
    lines += [f"not measured: {name} ({reason})" for name, reason in missing.items()]
    return "\n".join(lines)


def select_families(pattern: str) -> list[Family]:
    """Families whose name the regular expression finds a match in."""
    return [family for family in FAMILIES if re.search(pattern, family.name)]


def select_peers(names: str) -> list[Solver]:
    """Peers by a comma-separated list; "moreau" stands for both of its modes."""
    if names == "all":
        return list(PEERS)
    wanted = set() if names == "none" else set(filter(None, names.split(",")))
    return [peer for peer in PEERS if peer.name in wanted or peer.name.split("-")[0] in wanted]


def _complaint(options: argparse.Namespace) -> str | None:
    """What is wrong with the arguments beyond what argparse checks."""
    try:
        if not select_families(options.filter):
            return f"--filter {options.filter!r} matches no family; --list shows them"
    except re.error as error:
        return f"--filter {options.filter!r} is not a regular expression: {error}"
    strange = sorted(set(options.parts.split(",")) - set(PARTS))
    if strange:
        return f"--parts: {', '.join(map(repr, strange))} is not among {', '.join(PARTS)}"
    known = _peer_names(options.device)
    unknown = [] if options.peers in ("all", "none") else sorted(set(filter(None, options.peers.split(","))) - known)
    if unknown:
        return f"--peers: {', '.join(unknown)} is not among {', '.join(sorted(known))}"
    if options.device == "cpu":
        for name in ("tune", "limit", "method"):
            if getattr(options, name):
                return f"--{name} goes with --device cuda"
    for name in ("batch", "threads", "repeat", "sample", "seconds", "limit"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            return f"--{name} must be positive, not {value}"
    return None


def _peer_names(device: str) -> set[str]:
    """What may stand in --peers."""
    if device == "cuda":
        from gpudiff.bench.cuda.run import peer_names

        return peer_names()
    return {peer.name for peer in PEERS} | {peer.name.split("-")[0] for peer in PEERS}


def _print_list(options: argparse.Namespace) -> None:
    for family in select_families(options.filter):
        print(f"{family.name:16} {family.about}")
    print()
    for solver in (Gpudiff(options.backend), *PEERS, *CUDA_PEERS):
        reason = solver.unavailable()
        print(f"{solver.name:16} {solver.version() if reason is None else 'unavailable: ' + reason}")


def _plot(results: dict[str, Any], json_path: Path | None) -> None:
    from gpudiff.bench import plot

    path = (json_path or Path("gpudiff-bench.json")).with_suffix(".png")
    if not results["ratios"]:
        print("nothing to plot: no family has both gpudiff and a peer", file=sys.stderr)
        return
    try:
        title = f"gpudiff on {results['machine']['cpu']}, {results['settings']['cores']} core(s)"
        plot.draw(results["ratios"], path, title)
    except ImportError as error:
        print(f"no plot: {error}", file=sys.stderr)
    else:
        print(f"plotted to {path}", file=sys.stderr)
