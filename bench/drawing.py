"""How the pictures of the documentation look that are drawn from figures: the same figures give the
same files.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: A light card, in colours that most eyes tell apart.
INK, FAINT, CARD = "#222222", "#d8d8d8", "#ffffff"
BLUE, SKY, RED, GREEN, PINK = "#0072b2", "#56b4e9", "#d55e00", "#009e73", "#cc79a7"
_SETTINGS: Any = {
    # Text stays text, and what else would differ from run to run does not.
    "svg.fonttype": "none",
    "svg.hashsalt": "staggerdns",
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
}


@contextlib.contextmanager
def sheet(path: Path, title: str, x: str, y: str) -> Iterator[Any]:
    """Give axes of matplotlib to draw on, from 0 upwards, and write what is there in the end."""
    # A second to import, which only pictures are worth.
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context():
        mpl.rcdefaults()  # whatever somebody has set for pictures of their own
        mpl.rcParams.update(_SETTINGS)
        figure = Figure(figsize=(8.7, 4.0), facecolor=CARD, layout="constrained")
        axes = figure.subplots()
        axes.set_facecolor(CARD)
        axes.set_title(title, loc="left")
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        yield axes
        axes.set_ylim(bottom=0)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    lines = text.getvalue().splitlines()
    path.write_text("".join(f"{line.rstrip()}\n" for line in lines), encoding="utf-8")


def bars(axes: Any, groups: list[str], lines: list[tuple[str, str, list[float]]]) -> None:
    """Draw a group of bars for each of ``groups``: one of each line, which are label, colour and
    values.
    """
    width = 0.8 / len(lines)
    for number, (label, color, values) in enumerate(lines):
        at = [group + (number - (len(lines) - 1) / 2) * width for group in range(len(groups))]
        axes.bar(at, values, width=0.9 * width, label=label, color=color)
    axes.set_xticks(range(len(groups)), groups)
    axes.grid(visible=False, axis="x")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=len(lines))
