"""The peers gpudiff is measured against, one file each; a new peer is one file and one line below.

``PEERS`` run on the host, ``CUDA_PEERS`` on data that lie on a GPU.
"""

from __future__ import annotations

from gpudiff.bench.cuda.solver import DeviceSolver
from gpudiff.bench.peers.clarabel import Clarabel
from gpudiff.bench.peers.cupiqp import Cupiqp
from gpudiff.bench.peers.daqp import Daqp
from gpudiff.bench.peers.diffcp import Diffcp
from gpudiff.bench.peers.moreau import MoreauActiveSet, MoreauInteriorPoint
from gpudiff.bench.peers.moreau_cuda import MoreauCuda
from gpudiff.bench.peers.piqp import Piqp
from gpudiff.bench.peers.proxqp import Proxqp
from gpudiff.bench.peers.qoco import Qoco
from gpudiff.bench.peers.qpth import Qpth
from gpudiff.bench.peers.scs import Scs
from gpudiff.bench.solver import Solver

PEERS: tuple[Solver, ...] = (
    Clarabel(),
    Daqp(),
    Piqp(),
    Qoco(),
    Proxqp(),
    MoreauInteriorPoint(),
    MoreauActiveSet(),
    Diffcp(),
    Scs(),
)

CUDA_PEERS: tuple[DeviceSolver, ...] = (MoreauCuda(), Cupiqp(), Qpth())
