"""How a kernel is laid onto a multiprocessor: threads for each problem, where its data lie, blocks side by side.

Tables decide, and a search. `ARCHITECTURES` is what the hardware gives. `GROUPS` is how many threads share a problem,
by the order of the system that is factorised, and `ACTIVE_SET_GROUPS` the same for the active set: with too few a
problem is slow and its neighbours crowd shared memory, with too many they wait for each other. The level of the memory
layout is searched (`plan`): the more lies in shared memory the faster one problem, but the fewer run side by side.

The environment variables GPUDIFF_GPU_GROUP and GPUDIFF_GPU_LEVEL override group and level, for measurements.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from gpudiff._errors import ArgumentError, BackendError
from gpudiff.jit.specification import Compilable, Shape, Specification, memory

WARP = 32
LEVELS = range(4)
EVERYTHING_FAR = LEVELS[-1]
REGISTERS = 65536  # of 32 bits, per multiprocessor, on every architecture below
REGISTERS_PER_THREAD = 255  # what the kernels take; with fewer they spill, and compile for longer
ENOUGH_WARPS = 8  # resident on a multiprocessor: two for each of its schedulers hide most of the latency
MOST_GLOBAL = 2**31 - 1  # bytes of a problem's workspace: the kernels count in 32 bits
STATIC_SHARED = 2048  # bytes that a block of several warps declares for its reductions, at most


class Architecture(NamedTuple):
    """What a multiprocessor has.

    Args:
        shared: bytes of shared memory.
        reserved: of those, what the driver takes for each block.
        threads: resident threads, at most.
        blocks: resident blocks, at most.
    """

    shared: int
    reserved: int
    threads: int
    blocks: int

    @property
    def shared_per_block(self) -> int:
        """Bytes of shared memory that one block may have."""
        return self.shared - self.reserved


# By compute capability. Source: CUDA C++ Programming Guide, "Technical specifications per compute capability", and the
# architecture traits of CCCL. A device between two entries takes the lower one.
ARCHITECTURES = {
    75: Architecture(64 << 10, 0, 1024, 16),
    80: Architecture(164 << 10, 1024, 2048, 32),
    86: Architecture(100 << 10, 1024, 1536, 16),
    87: Architecture(164 << 10, 1024, 1536, 16),
    88: Architecture(100 << 10, 1024, 1536, 16),
    89: Architecture(100 << 10, 1024, 1536, 24),
    90: Architecture(228 << 10, 1024, 2048, 32),
    100: Architecture(228 << 10, 1024, 2048, 32),
    110: Architecture(228 << 10, 1024, 1536, 24),
    120: Architecture(100 << 10, 1024, 1536, 24),
}

# Largest order (variables and rows of the zero cone) → threads that share a problem.
GROUPS = ((8, 4), (16, 8), (24, 16), (56, 32), (96, 64), (160, 128))
LARGEST_GROUP = 256
# Largest number of variables → threads that share a problem of the active set. Not measured yet. At least a warp:
# problems go their own ways, and those that share a warp would wait for each other.
ACTIVE_SET_GROUPS = ((47, 32), (96, 64), (160, 128))
GROUP_SIZES = (1, 2, 4, 8, 16, 32, 64, 96, 128, 160, 192, 224, 256)


class Plan(NamedTuple):
    """How one kernel is laid onto a multiprocessor.

    Attributes:
        group: threads that share a problem.
        threads: per block.
        level: memory layout, from 0 (all in shared memory) to 3 (all in global memory).
        min_blocks: blocks per multiprocessor that the compiler leaves registers for.
        shared_bytes: dynamic shared memory of a group,
        global_bytes: and its part of the workspace in global memory.
    """

    group: int
    threads: int
    level: int
    min_blocks: int
    shared_bytes: int
    global_bytes: int

    @property
    def groups_per_block(self) -> int:
        """Problems that a block works on at a time."""
        return self.threads // self.group

    @property
    def shared_per_block(self) -> int:
        """Dynamic shared memory of a block."""
        return self.shared_bytes * self.groups_per_block

    def specification(self, kind: str, shape: Compilable, quick: str = "float32") -> Specification:
        """The kernel that this plan is for."""
        return Specification(kind, shape, self.group, self.threads, self.level, self.min_blocks, quick)


def architecture(arch: str) -> Architecture:
    """What a multiprocessor of an architecture has; one that is newer than the table has what the newest has.

    Args:
        arch: such as "sm_90".

    Raises:
        ArgumentError: no such name, or too old.
    """
    number = arch.removeprefix("sm_").rstrip("af")  # sm_90a: the same hardware
    if not number.isdecimal() or not arch.startswith("sm_"):
        raise ArgumentError(f"arch: expected an architecture such as 'sm_90', got {arch!r}")
    known = [capability for capability in ARCHITECTURES if capability <= int(number)]
    if not known:
        raise ArgumentError(f"arch: expected sm_{min(ARCHITECTURES)} or newer, got {arch}")
    return ARCHITECTURES[max(known)]


def group_for(shape: Shape, kind: str = "solve") -> int:
    """How many threads share a problem."""
    if kind == "active_set":
        return next((group for largest, group in ACTIVE_SET_GROUPS if shape.n <= largest), LARGEST_GROUP)
    return next((group for largest, group in GROUPS if shape.order <= largest), LARGEST_GROUP)


def overrides() -> tuple[int | None, int | None]:
    """Group and level that the environment asks for.

    Raises:
        ArgumentError: it asks for what there is not.
    """
    return _from_environment("GPUDIFF_GPU_GROUP", GROUP_SIZES), _from_environment("GPUDIFF_GPU_LEVEL", tuple(LEVELS))


def _from_environment(name: str, choices: tuple[int, ...]) -> int | None:
    text = os.environ.get(name, "")
    if not text:
        return None
    if not text.isdecimal() or int(text) not in choices:
        raise ArgumentError(f"{name}: expected one of {', '.join(map(str, choices))}, got {text!r}")
    return int(text)


def plan(
    kind: str,
    shape: Shape,
    machine: Architecture,
    quick: str = "float32",
    group: int | None = None,
    level: int | None = None,
) -> Plan:
    """Lay a kernel onto a multiprocessor.

    Of the levels whose shared memory fits, the lowest that leaves `ENOUGH_WARPS` resident; where none does, the one
    that leaves most. Everything in global memory is for problems that fit no other way.

    Args:
        kind: the kernel, one of `gpudiff.jit.specification.KINDS` or `SMOOTHED`.
        shape: what it is compiled for.
        machine: of `architecture`.
        quick: scalar of the fast interior-point run.
        group: threads that share a problem; None takes them from the tables.
        level: memory layout; None searches.

    Raises:
        ArgumentError: no kernel has such a group.
        BackendError: the level asked for does not fit, or the problem is too large for the kernels altogether.
    """
    if kind == "sum":  # one thread for each word, no memory of its own
        return Plan(1, WARP, 0, 1, 0, 0)
    if group is None:
        group = group_for(shape, kind)
    elif group not in GROUP_SIZES:
        raise ArgumentError(f"group: expected one of {', '.join(map(str, GROUP_SIZES))}, got {group}")
    best: tuple[int, Plan] | None = None
    for candidate in LEVELS if level is None else (level,):
        laid = _lay(kind, shape, machine, quick, group, candidate)
        if laid is None:
            continue
        warps = laid.min_blocks * laid.threads // WARP
        if best is not None and (candidate == EVERYTHING_FAR or warps <= best[0]):
            continue
        best = warps, laid
        if warps >= ENOUGH_WARPS:
            break
    if best is None:
        wanted = "any level" if level is None else f"level {level}"
        raise BackendError(
            f"cuda: {wanted} of the {kind} kernel for {shape.describe()}, group {group}, takes more than the "
            f"{machine.shared_per_block} bytes of shared memory of a block, or than {MOST_GLOBAL} bytes of global "
            "memory"
        )
    return best[1]


def _lay(kind: str, shape: Shape, machine: Architecture, quick: str, group: int, level: int) -> Plan | None:
    """The plan with this group and level; None if its memory does not fit.

    `min_blocks` is how many blocks can be resident when each thread has its registers.
    """
    threads = max(WARP, group)
    shared, far = memory(kind, shape, quick, level, group)
    block = shared * (threads // group) + (STATIC_SHARED if threads > WARP else 0)
    if block > machine.shared_per_block or far > MOST_GLOBAL:
        return None
    resident = min(
        machine.shared // max(1, block + machine.reserved),
        REGISTERS // (REGISTERS_PER_THREAD * threads),
        machine.threads // threads,
        machine.blocks,
    )
    return Plan(group, threads, level, max(1, resident), shared, far)
