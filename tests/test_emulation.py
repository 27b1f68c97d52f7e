"""The kernels and the CPU library under sanitizers.

emulation/group_solve.cpp runs the kernels with cooperative groups whose members are real threads, as a GPU would:
ThreadSanitizer then sees a missing barrier as a data race. Barriers are removed on purpose to prove that it does.
emulation/cpu_driver.cpp calls the C interface of the CPU library in every way a caller may.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "emulation"
ENTRY = Path(__file__).parents[1] / "kernels" / "entry"
VARIANT = [f"-DGD_{key}" for key in ("NAMESPACE=gpudiff_baseline", "VARIANT_NAME=baseline")]
VARIANT += ["-DGD_VARIANT_SYMBOL=gd_variant_baseline"]
LIBRARY = [ENTRY / "cpu_variant.cpp", ENTRY / "cpu_library.cpp", HERE / "cpu_driver.cpp"]
PROGRAMS = {
    # The longest compilation first. Without optimisation it is the shortest that AddressSanitizer allows.
    "library memory": (LIBRARY, ["-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", *VARIANT]),
    "library threads": (LIBRARY, ["-O1", "-fsanitize=thread", *VARIANT]),
    "group threads": ([HERE / "group_solve.cpp"], ["-O1", "-fsanitize=thread"]),
    "group": ([HERE / "group_solve.cpp"], ["-O2"]),
}
RACE = 66  # the exit code asked of ThreadSanitizer; another one than the programs' own
SIZES = (1, 2, 4, 5)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ and its sanitizers"),
]


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> dict[str, Path]:
    """All programs, built as many at a time as there are processors."""
    folder = tmp_path_factory.mktemp("programs")

    def build(name: str) -> tuple[str, Path]:
        sources, flags = PROGRAMS[name]
        path = folder / name.replace(" ", "-")
        command = ["g++", "-std=gnu++20", "-g1", "-pthread", "-Wall", "-Wextra", "-Wno-psabi", "-Wno-unknown-pragmas"]
        run([*command, *flags, *map(str, sources), "-o", str(path)], timeout=600)
        return name, path

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(pool.map(build, PROGRAMS))


@pytest.fixture(scope="module")
def fixed_addresses() -> list[str]:
    """What turns off address randomisation, of which some kernels do more than ThreadSanitizer can live with."""
    command = ["setarch", "-R"]
    if shutil.which("setarch") and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
        return command
    return []


def run(command: list[str], expected: int | None = 0, timeout: float = 120, **environment: str) -> tuple[int, str]:
    """Exit code and output; None where it did not end in time."""
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    if expected is not None:
        assert done.returncode == expected, f"exit code {done.returncode} of {command}\n{done.stdout[-8000:]}"
    return done.returncode, done.stdout


@pytest.fixture
def group(programs, fixed_addresses):
    """Run the kernels with a group of real threads under ThreadSanitizer, perhaps without one of their barriers."""

    def start(size: int, request: str = "", expected: int | None = 0, timeout: float = 120) -> tuple[int, str]:
        command = [*fixed_addresses, str(programs["group threads"]), str(size), *filter(None, [request])]
        return run(command, expected, timeout, TSAN_OPTIONS=f"halt_on_error=1 exitcode={RACE}")

    return start


@pytest.mark.parametrize("size", SIZES)
def test_a_group_computes_what_one_thread_does(programs, size):
    run([str(programs["group"]), str(size)])


@pytest.mark.parametrize("size", SIZES)
def test_no_data_race_in_a_group(group, size):
    group(size)


@pytest.mark.parametrize("size", [2, 4, 5])
def test_a_group_without_barriers_is_caught(group, size):
    assert group(size, "all", expected=None)[0] == RACE


def test_removed_barriers_are_caught(group):
    """Each barrier of the kernels in turn. Some are redundant: another one stands between the same accesses."""
    sites = [line.split()[1] for line in group(4, "sites")[1].splitlines() if line.startswith("site ")]
    sites = [site for site in sites if ".cuh:" in site]
    assert len(sites) > 30

    def noticed(site: str) -> bool:
        try:
            return group(4, site, expected=None, timeout=60)[0] != 0
        except subprocess.TimeoutExpired:  # the members lost each other
            return True

    silent = [site for site in sites if not noticed(site)]
    print(f"{len(sites) - len(silent)} of {len(sites)} removed barriers were noticed; not: {', '.join(silent)}")
    assert len(silent) <= len(sites) / 3, silent


def test_library_reads_and_writes_only_what_it_may(programs):
    run([str(programs["library memory"])], ASAN_OPTIONS="detect_leaks=1:strict_string_checks=1")


def test_no_data_race_in_the_library(programs, fixed_addresses):
    command = [*fixed_addresses, str(programs["library threads"]), "threads"]
    run(command, TSAN_OPTIONS=f"halt_on_error=1 exitcode={RACE}")
