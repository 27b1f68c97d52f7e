"""A bar chart of the ratios: how many times faster than each peer, per family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def draw(found: list[dict[str, Any]], path: Path, title: str) -> None:
    """Writes a PNG with two panels, forward and forward + backward, on a logarithmic axis.

    Args:
        found: What ``report.ratios`` returns.
        path: Where to write it.
        title: What the figure is headed with, such as the processor.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    families = list(dict.fromkeys(entry["family"] for entry in found))
    panels = {"forward": "forward", "forward_backward": "forward + backward"}
    panels = {key: label for key, label in panels.items() if any(entry[key] for entry in found)}
    size = (2.0 + 1.1 * len(families), 0.5 + 3.5 * len(panels))
    figure, axes = plt.subplots(len(panels), 1, figsize=size, layout="constrained", squeeze=False)
    colours = {peer: f"C{k}" for k, peer in enumerate(dict.fromkeys(entry["peer"] for entry in found))}
    for axis, (key, label) in zip(axes[:, 0], panels.items(), strict=True):
        peers = list(dict.fromkeys(entry["peer"] for entry in found if entry[key]))
        width = 0.8 / len(peers)
        for k, peer in enumerate(peers):
            heights = {e["family"]: e[key] for e in found if e["peer"] == peer and e[key]}
            at = [families.index(family) + (k - (len(peers) - 1) / 2) * width for family in heights]
            # Bars start at 1, the line of equal speed: shorter ones point down.
            axis.bar(at, np.array(list(heights.values())) - 1.0, width, bottom=1.0, label=peer, color=colours[peer])
        axis.axhline(1.0, color="black", linewidth=0.8)
        axis.set_yscale("log")
        axis.set_ylabel(f"times faster, {label}")
        axis.set_xticks(range(len(families)), families, rotation=30, ha="right")
        axis.grid(axis="y", alpha=0.3)
        axis.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.suptitle(title)
    figure.savefig(path, dpi=130)
    plt.close(figure)
