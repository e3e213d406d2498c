"""What figures share: the house style, PNGs with a palette, and the parts that many of them have.

A policy looks the same in every figure: colour and marker say who it is, a hollow marker and a dashed line that it is
the smaller of two. Every other series takes the next colour, line style and marker of Matplotlib's cycle. Figures of
lines ask for no marker, figures of points for no line.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator
from PIL import Image

HOUSE = Path(__file__).with_name("house.mplstyle")
CYCLE = mpl.rc_params_from_file(HOUSE, use_default_template=False)["axes.prop_cycle"]
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK = CYCLE.by_key()["color"]
GREY = "#666666"
POLICIES = {
    "baseline": (GREY, "h"), "RL agent": (PURPLE, "X"), "published PPO": (PURPLE, "X"), "published A3C": (PURPLE, "X"),
    "textbook rule": (ORANGE, "v"), "designed rule": (BLACK, "D"), "PPO": (BLUE, "o"), "A3C": (VERMILION, "s"),
    "gradient": (GREEN, "^"), "imitation": (GREEN, "P"),
}  # fmt: skip
"""Colour and marker of a policy, by the first of these that its name has in it."""
SMALLER = ("1×", "from nothing")  # ends of the names of what had less to begin with, or to learn from
PARTS = {"holding": SKY, "shortage": VERMILION, "ordering": ORANGE, "pipeline": GREEN, "lost sales": PURPLE}
WIDTH = 7.0  # inches: the text column


class PaletteCanvas(FigureCanvasAgg):
    """Writes PNGs with a palette of 256 colours: a third of the bytes, and no difference to the eye."""

    def print_png(self, filename_or_obj: Any, **_: Any) -> None:
        """Write the figure to a file or a buffer; no metadata, so that the same figure gives the same bytes."""
        self.draw()
        image = Image.fromarray(np.asarray(self.buffer_rgba())).convert("RGB")
        # Median cut keeps the colours of areas exact; without dithering edges stay clean.
        image = image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        image.save(filename_or_obj, "png", optimize=True, dpi=(self.figure.dpi, self.figure.dpi))


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the house style; close the figure, so that a notebook shows it once, where it is returned."""

    @functools.wraps(draw)
    def wrapped(*args: Any, **kwargs: Any) -> Figure:
        with plt.style.context(HOUSE):
            figure = draw(*args, **kwargs)
        plt.close(figure)
        PaletteCanvas(figure)  # from now on the figure's own
        return figure

    return wrapped


def looks(names: Iterable[Any]) -> dict[Any, dict[str, Any]]:
    """Colour, line style and marker by name: of `POLICIES` where it is one, else what is next and not taken."""
    names = list(names)
    known = {name: look for name in map(str, names) if (look := policy(name))}
    taken = {look["color"] for look in known.values()}
    free = cycle([look for look in CYCLE if look["color"] not in taken])
    return {name: known.get(str(name)) or next(free) for name in names}


def policy(name: str) -> dict[str, Any]:
    """How a policy looks in every figure; empty if the name is of none."""
    for word, (colour, marker) in POLICIES.items():
        if word in name:
            smaller = name.endswith(SMALLER)
            return {
                "color": colour, "marker": marker, "linestyle": "--" if smaller else "-",
                "mfc": "white" if smaller else colour,
            }  # fmt: skip
    return {}


def whiskers(table: pd.DataFrame, prefix: str = "") -> np.ndarray:
    """Lengths of the whiskers of estimates with intervals, as Matplotlib's ``xerr`` and ``yerr`` want them.

    Args:
        table: columns ``value``, ``low``, ``high``.
        prefix: of the ends' columns, for example ``seeds_``.

    Returns:
        ``(2, rows)``: from the low end to the value, and from the value to the high end.

    Raises:
        ValueError: if a column is missing.
    """
    wanted = ["value", f"{prefix}low", f"{prefix}high"]
    if missing := [column for column in wanted if column not in table]:
        raise ValueError(f"an estimate has the columns {', '.join(wanted)}: missing {', '.join(missing)}")
    value, low, high = table[wanted].to_numpy(float).T
    return np.abs([low - value, high - value])


def panels(
    names: Iterable[str], height: float, ylabel: str = "", rows: int = 1, **options: Any
) -> tuple[Figure, dict[str, Axes]]:
    """A figure with one panel a name, its title.

    Args:
        names: of the panels, row by row.
        height: of the figure, in inches.
        ylabel: label of the vertical axes, shown once a row.
        rows: of panels; 2 for the four environments.
        **options: of `matplotlib.pyplot.subplot_mosaic`, for example ``sharey``.
    """
    grid = np.reshape(list(names), (rows, -1)).tolist()
    figure, axes = plt.subplot_mosaic(grid, figsize=(WIDTH, height), **options)
    for name, ax in axes.items():
        ax.set_title(name if len(grid[0]) < 3 else name.replace("-", "\n"))  # narrow panels: two lines
    for first, *_ in grid:
        axes[first].set_ylabel(ylabel)
    return figure, axes


def rows(ax: Axes, names: Iterable[Any]) -> np.ndarray:
    """Name the rows of a figure, the first at the top; returns their heights."""
    labels = list(names)
    ax.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.5, -0.5))
    return np.arange(len(labels))


def money(axis: Axis, label: str, *ticks: float) -> None:
    """Make an axis one of costs, as ``20k`` or ``1.5M``; a logarithmic one at these multiples of powers of ten."""
    axis.set(label_text=label, major_formatter=EngFormatter(sep=""))
    if ticks:
        axis.set(major_locator=LogLocator(subs=ticks), minor_locator=NullLocator())


def reference_lines(draw: Callable[..., Any], levels: Mapping[str, float] | None) -> None:
    """Draw levels to compare with, by name, with ``ax.axhline`` or ``ax.axvline``."""
    lines = cycle([(BLACK, "--"), (VERMILION, "-."), (GREY, ":")])
    for (name, level), (colour, line) in zip((levels or {}).items(), lines, strict=False):
        draw(level, color=policy(name).get("color", colour), ls=line, lw=1.1, label=name)


def cost_axis(ax: Axes, unit: str, reference: Mapping[str, float] | None = None) -> None:
    """Make the vertical axis one of mean costs, logarithmic, with lines to compare with."""
    reference_lines(ax.axhline, reference)
    ax.set_yscale("log")
    money(ax.yaxis, f"mean cost of an episode\n[{unit}]", 1, 2, 3, 5, 7)


def legend_above(ax: Axes, columns: int) -> None:
    """Put the legend above an axes."""
    ax.legend(ncols=columns, loc="lower left", bbox_to_anchor=(0, 1))


def shared_legend(figure: Figure, columns: int) -> None:
    """One legend above all axes of a figure, each label once."""
    handles = {label: h for ax in figure.axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(list(handles.values()), list(handles), ncols=columns, loc="outside upper left")
