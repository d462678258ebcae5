"""Every figure of the book, in one style.

Each function takes plain arrays and returns a `Drawing`: the figure, and a description in words
that is computed from the same arrays. In a notebook the description is the figure's text form, so
it is compared when the chapter is re-run, and the book uses it as the image's alternative text.

`dashboard` and `timeline` take the `bn_core.lab.probes.Recorder` of any network and show what was
inside.

Colours are from the palette of Okabe and Ito, which readers with the common kinds of colour
blindness can tell apart; every series also has its own line style or marker. Figures have a white
ground, so that they can be read in any notebook; the book's dark theme inverts their lightness.
"""

import base64
import io
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch
from matplotlib.ticker import (
    EngFormatter,
    LogFormatterMathtext,
    LogLocator,
    MaxNLocator,
    NullLocator,
    PercentFormatter,
    StrMethodFormatter,
)
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from bn_core.lab.probes import (
    SATURATED,
    Array,
    Distribution,
    LayerHistory,
    Recorder,
    value_and_slope,
)

INK = "#1a1a1a"
FAINT = "#6b6b6b"
COLOURS = {
    "blue": "#0072B2",
    "orange": "#D55E00",
    "green": "#00966B",
    "purple": "#A0528A",
    "ink": INK,
}
# Layers by depth, from the first, dark, to the last: as many as can be told apart.
DEPTHS = 5
DEPTH_LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))

STYLE = {
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "lines.linewidth": 1.8,
    "legend.frameon": True,  # so that no line runs through its words
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "figure.facecolor": "white",
    "figure.dpi": 100,
    "savefig.dpi": 226,  # some 1,200 pixels
    "mathtext.fontset": "dejavusans",
}
WIDTH = 5.2  # inches: so that words of 10 points can still be read on a phone
PIXELS = 600  # of a page, so that on a larger screen they are as large as the text's


@dataclass(frozen=True)
class Look:
    """How one series is drawn, in every figure that it appears in.

    Attributes:
        label: its name in legends and descriptions.
        colour: "blue", "orange", "green", "purple" or "ink".
        line: matplotlib's line style.
        marker: matplotlib's marker.

    Raises:
        ValueError: another colour.
    """

    label: str
    colour: str
    line: str = "-"
    marker: str = "o"

    def __post_init__(self) -> None:
        if self.colour not in COLOURS:
            raise ValueError(
                f"Look: colour of {self.label!r} is {self.colour!r}; it must be one of "
                f"{', '.join(COLOURS)}"
            )


def depth_colours(layers: int) -> list[str]:
    """Colours of the lines of layers, from the first to the last, dark to light.

    Args:
        layers: how many; up to 5 can be told apart.
    """
    return [to_hex(colormaps["viridis"](place)) for place in np.linspace(0, 0.59, layers)]


@dataclass(frozen=True)
class Drawing:
    """A figure and what it shows, in words.

    Attributes:
        figure: the matplotlib figure.
        description: one paragraph, for a reader who does not see the figure.
    """

    figure: Figure
    description: str

    def png(self) -> bytes:
        """The figure as PNG, at twice the resolution of a page."""
        buffer = io.BytesIO()
        # Without the software's name in it, the same figure gives the same bytes for longer.
        with rc_context(STYLE):
            self.figure.savefig(
                buffer, format="png", bbox_inches="tight", metadata={"Software": None}
            )
        return buffer.getvalue()

    def __repr__(self) -> str:
        return self.description

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        data = {
            "image/png": base64.b64encode(self.png()).decode(),
            "text/plain": self.description,
        }
        return data, {"image/png": {"width": PIXELS}}


def accuracy_curves(
    steps: Sequence[int],
    accuracies: Mapping[Look, ArrayLike],
    *,
    title: str,
    floor: float = 0.0,
    target: float | None = None,
) -> Drawing:
    """Test accuracy over training, with the range over seeds as a band: Figure 1(a).

    The upper panel has steps on a linear axis, as the paper's figure has; the lower one has them on
    a logarithmic axis, where the start can be seen.

    Args:
        steps: (records,), positive.
        accuracies: for each series (seeds, records), in [0, 1].
        title: what is found.
        floor: where the vertical axis of the upper panel starts.
        target: an accuracy to mark with a line.

    Raises:
        ValueError: a series of another shape.
    """
    tables = {
        look: _table("accuracy_curves", look.label, values, (None, len(steps)), "seeds and records")
        for look, values in accuracies.items()
    }
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 5.6), layout="constrained")
        linear, logarithmic = figure.subplots(2, 1)
        for axes in (linear, logarithmic):
            for look, table in tables.items():
                _band(axes, steps, table, look)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes.set_ylabel("test accuracy")
            if target is not None:
                axes.axhline(target, color=FAINT, linewidth=1, linestyle=":")
        linear.set_ylim(floor, 1.0)
        linear.set_xlim(0, max(steps))
        linear.xaxis.set_major_formatter(EngFormatter(sep=""))
        logarithmic.set_xscale("log")
        logarithmic.set_ylim(0, 1.0)
        logarithmic.set_xlim(min(steps), max(steps))
        logarithmic.xaxis.set_major_formatter(EngFormatter(sep=""))
        logarithmic.set_xlabel("training step")
        linear.legend(loc="lower right")
        headline(figure, title)
    ends = "; ".join(
        f"{look.label} {_from_to(table[:, 0])} at step {steps[0]:,}, "
        f"{_from_to(table[:, -1])} at step {steps[-1]:,}"
        for look, table in tables.items()
    )
    return Drawing(
        figure,
        f"{title}. Two line charts of test accuracy over training steps, linear and logarithmic, "
        f"with a band from the lowest to the highest seed. {ends}.",
    )


def curves(
    x: Sequence[float],
    series: Mapping[Look, ArrayLike],
    *,
    title: str,
    x_name: str,
    y_name: str,
    log_x: bool = False,
    log_y: bool = False,
    percent: bool = False,
    limits: tuple[float, float] | None = None,
) -> Drawing:
    """One line for each series, the mean over seeds, with the range over seeds as a band.

    Args:
        x: (points,), ascending.
        series: for each series (seeds, points), or (points,) of a single run; NaN where there is
            no value.
        title: what is found.
        x_name: what the horizontal axis is, with its unit.
        y_name: what the vertical axis is, with its unit.
        log_x: whether the horizontal axis is logarithmic; then x is positive.
        log_y: whether the vertical axis is logarithmic.
        percent: whether the values are shares in [0, 1], to be shown in percent.
        limits: of the vertical axis; by default those of the values.

    Raises:
        ValueError: a series that has not one value for each of x.
    """
    tables = {look: np.atleast_2d(np.asarray(v, dtype=float)) for look, v in series.items()}
    for look, table in tables.items():
        if table.shape[1] != len(x):
            raise ValueError(
                f"curves: series {look.label!r} has shape {table.shape} and x has {len(x)} values; "
                "give (seeds, points)"
            )
    outside = len(tables) > 2  # too many to stand beside the lines
    with rc_context(STYLE):
        height = 3.4 + (0.25 * math.ceil(len(tables) / 2) if outside else 0)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots()
        for look, table in tables.items():
            _band(axes, x, table, look)
        each_named = log_x and len(x) <= 9 and all(b >= 1.5 * a for a, b in pairwise(x))
        if log_x:
            axes.set_xscale("log")
        if each_named:  # there is room for it
            axes.set_xticks(list(x), [f"{value:,g}" for value in x])
            if x[0] < 0.01:  # long, and nothing stands to the left of it
                axes.get_xticklabels()[0].set_horizontalalignment("right")
            axes.xaxis.set_minor_locator(NullLocator())
        if log_y:
            _logarithmic(axes, "{:g}")
        elif percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        if max(map(abs, x)) >= 1000 and not each_named:
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        elif len(x) <= 10 and all(float(value).is_integer() for value in x) and not log_x:
            axes.set_xticks(list(x))  # a few whole numbers, such as layers: no ticks between them
        axes.set_xlim(min(x), max(x))
        axes.set_ylim(limits)
        axes.set_xlabel(x_name)
        axes.set_ylabel(textwrap.fill(y_name, 28))
        if outside:
            figure.legend(loc="outside lower left", ncols=2)
        elif len(tables) > 1 or any(look.label for look in tables):
            axes.legend(loc="best")
        headline(figure, title)
    number: Callable[[Any], str] = _from_to if percent else _range
    ends = "; ".join(
        f"{look.label} {number(table[:, 0])} at {x[0]:,g}, {number(table[:, -1])} at {x[-1]:,g}"
        for look, table in tables.items()
    )
    seeds = any(len(table) > 1 for table in tables.values())
    band = ", with a band from the lowest to the highest seed" if seeds else ""
    return Drawing(figure, f"{title}. Line chart of {y_name} against {x_name}{band}. {ends}.")


def percentile_fans(
    steps: Sequence[int],
    fans: Mapping[Look, Mapping[str, ArrayLike]],
    *,
    title: str,
    quantity: str = "input of the sigmoid",
) -> Drawing:
    """15th, 50th and 85th percentile of something over training: Figure 1(b, c).

    Args:
        steps: (records,).
        fans: for each series, one column; in it for each row's name (records, 3), ascending along
            the second axis. Every series has the same rows.
        title: what is found.
        quantity: what the percentiles are of, for the vertical axis.

    Raises:
        ValueError: a series of another shape or with other rows.
    """
    rows = list(next(iter(fans.values())))
    tables: dict[Look, dict[str, Array]] = {}
    for look, by_row in fans.items():
        if set(by_row) != set(rows):
            raise ValueError(
                f"percentile_fans: series {look.label!r} has the rows {list(by_row)} and the first "
                f"{rows}; every series must have the same"
            )
        tables[look] = {
            name: _table(
                *("percentile_fans", f"{look.label}, {name}", fan),
                *((len(steps), 3), "records and percentiles"),
            )
            for name, fan in by_row.items()
        }
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.8 + 2.3 * len(rows)), layout="constrained")
        grid = figure.subplots(len(rows), len(fans), sharex=True, sharey=True, squeeze=False)
        for column, (look, of_row) in enumerate(tables.items()):
            for row, name in enumerate(rows):
                axes = grid[row, column]
                low, middle, high = of_row[name].T
                colour = COLOURS[look.colour]
                axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
                for values, line in ((high, "--"), (middle, "-"), (low, "--")):
                    axes.plot(steps, values, color=colour, linestyle=line, linewidth=1.4)
                axes.set_title(f"{look.label}\n{name}", fontweight="normal")
                axes.set_xlim(0, max(steps))
                axes.xaxis.set_major_formatter(EngFormatter(sep=""))
                if column == 0:
                    axes.set_ylabel(textwrap.fill(quantity, 22))
                if row == len(rows) - 1:
                    axes.set_xlabel("training step")
        axes = grid[0, -1]
        for value, text in zip(
            list(tables.values())[-1][rows[0]][-1],
            ("15 %", "50 %", "85 %"),
            strict=True,
        ):
            axes.annotate(
                text,
                (1, value),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
        headline(figure, title)
    words = "; ".join(
        f"{look.label}, {name}: median between {np.min(table[:, 1]):.1f} and "
        f"{np.max(table[:, 1]):.1f}, width from 15th to 85th percentile between "
        f"{np.min(np.ptp(table, axis=1)):.1f} and {np.max(np.ptp(table, axis=1)):.1f}"
        for look, of_row in tables.items()
        for name, table in of_row.items()
    )
    return Drawing(
        figure,
        f"{title}. Charts of the 15th, 50th and 85th percentile of the {quantity} over training "
        f"steps, side by side on one scale. {words}.",
    )


def heat_maps(
    rows: Sequence[float],
    columns: Sequence[float],
    panels: Mapping[str, ArrayLike],
    *,
    row_name: str,
    column_name: str,
    title: str,
    quantity: str | None = None,
    lowest_is_best: bool = False,
) -> Drawing:
    """Accuracy, or another quantity, over two settings: one map for each panel, its best framed.

    Args:
        rows: values of the setting on the vertical axis.
        columns: values of the setting on the horizontal axis.
        panels: for each panel's name (rows, columns); NaN where there is no value.
        row_name: what the rows are.
        column_name: what the columns are.
        title: what is found.
        quantity: what the values are, shown to two digits, their colours from the lowest to the
            highest. By default they are accuracies in [0, 1], shown in percent.
        lowest_is_best: whether to frame the lowest value of a panel instead of the highest.

    Raises:
        ValueError: a panel of another shape.
    """
    shape = len(rows), len(columns)
    tables = {
        name: _table("heat_maps", name, panel, shape, "rows and columns").astype(float)
        for name, panel in panels.items()
    }
    low, high = 0.0, 1.0
    if quantity is not None:
        low = min(float(np.nanmin(table)) for table in tables.values())
        high = max(float(np.nanmax(table)) for table in tables.values())
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.0 + 2.2 * len(panels)), layout="constrained")
        best = []
        for axes, (name, values) in zip(
            figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0],
            tables.items(),
            strict=True,
        ):
            axes.imshow(values, vmin=low, vmax=high, cmap="cividis", aspect="auto", origin="lower")
            colours = np.where(values <= (low + high) / 2, "white", "black")  # on the cell's own
            for (i, j), value in np.ndenumerate(values):
                text = f"{100 * value:.0f}" if quantity is None else f"{value:.2g}"
                text = "–" if np.isnan(value) else text
                axes.text(j, i, text, ha="center", va="center", color=colours[i, j])
            chosen = np.nanargmin(values) if lowest_is_best else np.nanargmax(values)
            i, j = divmod(int(chosen), values.shape[1])
            worst = np.nanmax(values) if lowest_is_best else np.nanmin(values)
            if quantity is None:
                numbers = f"{100 * values[i, j]:.1f} %", f"{100 * worst:.0f} %"
            else:
                numbers = f"{values[i, j]:.2g}", f"{worst:.2g}"
            best.append(
                f"{name}, best {numbers[0]} at {row_name} {rows[i]:g} and "
                f"{column_name} {columns[j]:g}, {'highest' if lowest_is_best else 'lowest'} "
                f"{numbers[1]}"
            )
            axes.add_patch(
                FancyBboxPatch(
                    (j - 0.42, i - 0.38),
                    0.84,
                    0.76,
                    boxstyle="round,pad=0,rounding_size=0.1",
                    fill=False,
                    edgecolor=str(colours[i, j]),
                    linewidth=2,
                )
            )
            axes.set_title(name, fontweight="normal")
            axes.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
            if len(columns) > 8:  # no room for them side by side
                axes.tick_params(axis="x", labelrotation=45)
            axes.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
            axes.set_ylabel(textwrap.fill(row_name, 20))
            axes.grid(False)
        axes.set_xlabel(column_name)
        headline(figure, title)
    return Drawing(
        figure,
        f"{title}. Heat maps of {quantity or 'accuracy in percent'} over {row_name} and "
        f"{column_name}. {'; '.join(best)}.",
    )


def ratio_curves(
    targets: Sequence[float], ratios: Mapping[Look, ArrayLike], *, title: str, ratio_name: str
) -> Drawing:
    """How many times faster, against the accuracy that is asked for, one line for each seed.

    Args:
        targets: (targets,) accuracies in [0, 1].
        ratios: for each series (seeds, targets), positive; NaN where there is none.
        title: what is found.
        ratio_name: what the ratio is, for the vertical axis.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        axes = figure.subplots()
        for look, values in ratios.items():
            for seed, line in enumerate(np.asarray(values)):
                axes.plot(
                    targets,
                    line,
                    color=COLOURS[look.colour],
                    linestyle=look.line,
                    linewidth=1.3,
                    alpha=0.9,
                    label=look.label if seed == 0 else None,
                )
        axes.axhline(1, color=INK, linewidth=1)
        _logarithmic(axes, "{:g}×")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("test accuracy to reach")
        axes.set_ylabel(textwrap.fill(ratio_name, 26))
        axes.legend(loc="lower left")
        headline(figure, title)
    words = "; ".join(
        f"{look.label}: {_ratio(np.asarray(values)[:, 0])} at {100 * targets[0]:g} %, "
        f"{_ratio(np.asarray(values)[:, -1])} at {100 * targets[-1]:g} %"
        for look, values in ratios.items()
    )
    return Drawing(
        figure,
        f"{title}. Line chart of {ratio_name} against the test accuracy to reach, one line for "
        f"each seed; above 1, batch normalization is faster. {words}.",
    )


def unit_dots(groups: Mapping[Look, Sequence[ArrayLike]], *, title: str, quantity: str) -> Drawing:
    """One dot for every unit, one column for every seed, the mean of a column as a bar.

    Args:
        groups: for each series, one list of (units,) positive values for each seed.
        title: what is found.
        quantity: what the vertical, logarithmic axis measures.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        axes = figure.subplots()
        ticks = []
        scatter = np.random.default_rng(0)  # sideways only, so that dots do not hide each other
        start = 0
        for look, seeds in groups.items():
            for seed, values in enumerate(seeds):
                here = start + seed
                units = np.asarray(values)
                axes.scatter(
                    here + scatter.uniform(-0.28, 0.28, len(units)),
                    units,
                    s=7,
                    alpha=0.5,
                    color=COLOURS[look.colour],
                    marker=look.marker,
                    linewidths=0,
                )
                axes.plot([here - 0.4, here + 0.4], [units.mean()] * 2, color=INK, linewidth=2)
            ticks.append((start + (len(seeds) - 1) / 2, textwrap.fill(look.label, 16)))
            start += len(seeds) + 1
        _logarithmic(axes, "{:g}")
        axes.set_xticks([at for at, _ in ticks], [name for _, name in ticks])
        axes.tick_params(axis="x", length=0)
        axes.grid(False, axis="x")
        axes.set_ylabel(textwrap.fill(quantity, 26))
        headline(figure, title)
    words = "; ".join(
        f"{look.label}: mean {table.mean(1).min():.2f} to {table.mean(1).max():.2f} over seeds, "
        f"single units {table.min():.2f} to {table.max():.2f}"
        for look, table in ((look, np.asarray(seeds)) for look, seeds in groups.items())
    )
    return Drawing(
        figure, f"{title}. One dot for each unit, one column for each seed, of {quantity}. {words}."
    )


def strips(
    columns: Mapping[str, ArrayLike],
    marks: Sequence[float],
    *,
    title: str,
    x_name: str,
    y_name: str,
    dots_name: str,
    marks_name: str,
    level: float | None = None,
) -> Drawing:
    """Columns of dots, with one mark in each: what varies, and what stands in its place.

    Args:
        columns: for each column's name, the values of its dots, at least one.
        marks: one value for each column.
        title: what is found.
        x_name: what the columns are.
        y_name: what the vertical axis measures.
        dots_name: what a dot is, for the legend.
        marks_name: what a mark is, for the legend.
        level: a value to mark with a line.

    Raises:
        ValueError: not as many marks as columns.
    """
    if len(marks) != len(columns):
        raise ValueError(
            f"strips: {len(marks)} marks for {len(columns)} columns; give one for each column"
        )
    tables = [np.asarray(values, dtype=float) for values in columns.values()]
    dot: dict[str, Any] = {"color": COLOURS["orange"], "linestyle": "", "marker": "o"}
    if max(map(len, tables)) <= 20:  # few: each is to be seen
        dot |= {"markersize": 6, "alpha": 0.9, "zorder": 3}
    else:
        dot |= {"markersize": 2.6, "alpha": 0.45}
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        axes = figure.subplots()
        scatter = np.random.default_rng(0)  # sideways only, so that dots do not hide each other
        for place, values in enumerate(tables):
            axes.plot(
                place + scatter.uniform(-0.24, 0.24, len(values)),
                values,
                markeredgewidth=0,
                **dot,
            )
            axes.plot([place - 0.38, place + 0.38], [marks[place]] * 2, color=COLOURS["blue"])
        if level is not None:
            axes.axhline(level, color=FAINT, linewidth=1, linestyle=":")
        axes.set_xticks(range(len(tables)), list(columns))
        axes.tick_params(axis="x", length=0)
        axes.grid(False, axis="x")
        axes.set_xlabel(x_name)
        axes.set_ylabel(textwrap.fill(y_name, 28))
        key = [
            Line2D([], [], label=dots_name, **{**dot, "alpha": 0.9}),
            Line2D([], [], color=COLOURS["blue"], label=marks_name),
        ]
        figure.legend(handles=key, loc="outside lower left", ncols=2)
        headline(figure, title)
    words = "; ".join(
        f"{name} {_positions(np.array([v.min(), v.max()]), 1.0)}, mark "
        f"{round(float(mark), 1) + 0.0:.1f}"
        for name, v, mark in zip(columns, tables, marks, strict=True)
    )
    return Drawing(
        figure,
        f"{title}. Columns of dots, one for each of {x_name}, of {y_name}; a dot is {dots_name}, a "
        f"mark {marks_name}. {words}.",
    )


def speed_and_gap(
    arms: Mapping[Look, ArrayLike],
    *,
    title: str,
    x_name: str,
    y_name: str,
    joined: bool = False,
) -> Drawing:
    """Networks as points in a plane: how soon they learn, and what they lose on new examples.

    Args:
        arms: for each series (networks, 2): a positive number of steps, and a gap; rows with NaN
            are left out. A series may be empty.
        title: what is found.
        x_name: what the horizontal, logarithmic axis is, with its unit.
        y_name: what the vertical axis is, with its unit.
        joined: whether a line leads through the points of a series in their order.

    Raises:
        ValueError: a series of another shape.
    """
    tables = {}
    for look, points in arms.items():
        pairs = points if np.size(points) else np.empty((0, 2))
        table = _table(
            "speed_and_gap", look.label, pairs, (None, 2), "networks, and their steps and gap"
        ).astype(float)
        tables[look] = table[~np.isnan(table).any(1)]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
        axes = figure.subplots()
        for look, table in tables.items():
            axes.plot(
                *table.T,
                color=COLOURS[look.colour],
                linestyle=look.line if joined else "",
                linewidth=1,
                marker=look.marker,
                markersize=6,
                alpha=0.75,
                markeredgewidth=0,
                label=look.label,
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(x_name)
        axes.set_ylabel(textwrap.fill(y_name, 32))
        figure.legend(loc="outside lower left", ncols=2)
        headline(figure, title)
    words = "; ".join(
        f"{look.label}: {_range(table[:, 0])} and {_range(table[:, 1])}"
        for look, table in tables.items()
    )
    return Drawing(figure, f"{title}. Points in a plane of {y_name} over {x_name}. {words}.")


def histograms(
    groups: Mapping[Look, Mapping[str, ArrayLike]], *, title: str, quantity: str
) -> Drawing:
    """Distributions side by side: a column for each series, a row for each name.

    Each is in units of its own standard deviation, with the normal distribution of the same mean
    and standard deviation as a dotted line; they differ in shape alone.

    Args:
        groups: for each series, values of any shape by the name of the row; finite, and not all
            equal. Every series has the same rows.
        title: what is found.
        quantity: what the values are.

    Raises:
        ValueError: no values, values that are not finite, or that are all equal.
    """
    rows = list(next(iter(groups.values())))
    edges = np.linspace(-4, 4, 41)
    at = np.linspace(-4, 4, 200)
    normal = np.exp(-(at**2) / 2) / math.sqrt(2 * math.pi) * (edges[1] - edges[0])
    words = []
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.1 + 1.55 * len(rows)), layout="constrained")
        grid = figure.subplots(len(rows), len(groups), sharex=True, sharey=True, squeeze=False)
        for column, (look, by_row) in enumerate(groups.items()):
            for row, name in enumerate(rows):
                values = np.asarray(by_row[name], dtype=float).ravel()
                finite = np.isfinite(values)
                if not finite.all() or not len(values) or values.min() == values.max():
                    fault = "are none" if not len(values) else "are all equal"
                    if not finite.all():
                        fault = f"are not finite in {(~finite).sum()} of {len(values)} places"
                    raise ValueError(
                        f"histograms: the values of series {look.label!r}, row {name!r}, {fault}; "
                        "they have no shape"
                    )
                values = (values - values.mean()) / values.std()
                axes = grid[row, column]
                # The few values beyond the edges are counted in the outermost bars.
                shares = np.histogram(np.clip(values, -4, 4), edges)[0] / values.size
                axes.stairs(shares, edges, fill=True, color=COLOURS[look.colour], alpha=0.6)
                axes.plot(at, normal, color=INK, linestyle=":", linewidth=1.4)
                axes.set_title(f"{look.label}\n{name}", fontweight="normal", fontsize=10)
                axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
                if column == 0:
                    axes.set_ylabel("share")
                words.append(
                    f"{look.label}, {name}: skewness {(values**3).mean():.1f}, kurtosis "
                    f"{(values**4).mean():.1f}, fullest bar {_percent(shares.max())}"
                )
        figure.supxlabel(
            textwrap.fill(f"{quantity}, in standard deviations from its mean", 60), fontsize=10.5
        )
        headline(figure, title)
    return Drawing(
        figure,
        f"{title}. Histograms of {quantity}, in standard deviations from the mean, with the normal "
        f"distribution as a dotted line. {'; '.join(words)}.",
    )


def singular_values(groups: Mapping[Look, ArrayLike], *, title: str) -> Drawing:
    """Histograms of singular values, one panel for each series, beside the quarter-circle law.

    The dotted line is the density sqrt(4 - s^2) / pi on [0, 2]: of large square matrices of
    independent entries of mean 0 and variance 1 / (their size).

    Args:
        groups: for each series, singular values of any shape.
        title: what is found.
    """
    edges = np.linspace(0, 4, 41)
    at = np.linspace(0, 2, 200)
    words = []
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.0 + 1.5 * len(groups)), layout="constrained")
        column = figure.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (look, given) in zip(column, groups.items(), strict=True):
            values = np.asarray(given, dtype=float).ravel()
            # The few beyond the edge are counted in the last bar.
            counts = np.histogram(np.clip(values, 0, edges[-1]), edges)[0]
            density = counts / values.size / (edges[1] - edges[0])
            axes.stairs(density, edges, fill=True, color=COLOURS[look.colour], alpha=0.6)
            axes.plot(at, np.sqrt(4 - at**2) / math.pi, color=INK, linestyle=":", linewidth=1.6)
            axes.set_ylim(0, 1.2)
            axes.set_xlim(0, edges[-1])
            zero = float(np.mean(values < 1e-3))
            axes.set_title(look.label, fontweight="normal")
            if zero > 0.05:
                axes.annotate(
                    f"{100 * zero:.0f} % are 0", (0.1, 1.05), xytext=(0.5, 1.0), va="center",
                    arrowprops={"arrowstyle": "->", "color": FAINT},
                )  # fmt: skip
            axes.set_ylabel("density")
            words.append(
                f"{look.label}: {_percent(zero)} are 0, {_percent(float(np.mean(values > 2)))} are "
                f"above 2, root mean square {np.sqrt(np.mean(values**2)):.2f}"
            )
        column[-1].set_xlabel("singular value")
        headline(figure, title)
    return Drawing(
        figure,
        f"{title}. Histograms of singular values, with the quarter-circle law as a dotted line. "
        f"{'; '.join(words)}.",
    )


def map_panels(
    panels: Mapping[str, Mapping[str, ArrayLike]], *, title: str, quantity: str
) -> Drawing:
    """Feature maps, or other tables over positions, as images: a row and a column for each name.

    Args:
        panels: for each row's name, by the name of the column (height, width). Every row has the
            same columns and colours of its own, from its lowest value to its highest.
        title: what is found.
        quantity: what the values are.
    """
    columns = list(next(iter(panels.values())))
    words = []
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.7 + 1.75 * len(panels)), layout="constrained")
        grid = figure.subplots(len(panels), len(columns), squeeze=False)
        for axes_row, (name, by_column) in zip(grid, panels.items(), strict=True):
            tables = [np.asarray(by_column[column], dtype=float) for column in columns]
            low, high = min(t.min() for t in tables), max(t.max() for t in tables)
            for axes, column, table in zip(axes_row, columns, tables, strict=True):
                image = axes.imshow(table, vmin=low, vmax=high, cmap="Greys")
                axes.set_xticks([])
                axes.set_yticks([])
                axes.grid(False)
                axes.set_title(column, fontweight="normal", fontsize=10)
                words.append(f"{name}, {column}: {table.min():.1f} to {table.max():.1f}")
            axes_row[0].set_ylabel(textwrap.fill(name, 16), fontsize=10)
            figure.colorbar(image, ax=list(axes_row), shrink=0.85)
        headline(figure, title)
    return Drawing(
        figure, f"{title}. Images of {quantity}, one for each row and column. {'; '.join(words)}."
    )


def histogram_on_activation(
    groups: Mapping[Look, ArrayLike],
    activation: Callable[[Tensor], Tensor],
    *,
    title: str,
    name: str | None = None,
    share: float = SATURATED,
) -> Drawing:
    """A batch's pre-activations as a histogram, with the activation and its derivative over it.

    Bars stand in the dead zone, and are hatched, where the derivative is below a share of its
    maximum, without regard to signs: what is there passes next to no gradient on.

    Args:
        groups: for each series, one panel, pre-activations of any shape. NaN is left out, and
            infinite values are counted in the outermost bars.
        activation: maps each value of a tensor by itself: a module or a function.
        title: what is found.
        name: the activation's; by default that of the class or function, in small letters.
        share: of the largest derivative, in (0, 1); by default 0.1.

    Raises:
        ValueError: share is out of range, or a series is without a finite value.
    """
    if not 0 < share < 1:
        raise ValueError(f"histogram_on_activation: share is {share}; it must be in (0, 1)")
    tables = {look: np.asarray(v, dtype=float).ravel() for look, v in groups.items()}
    for look, values in tables.items():
        if not np.isfinite(values).any():
            raise ValueError(
                f"histogram_on_activation: series {look.label!r} has no finite value to show"
            )
    finite = {look: values[np.isfinite(values)] for look, values in tables.items()}
    tables = {look: values[~np.isnan(values)] for look, values in tables.items()}
    name = name or getattr(activation, "__name__", type(activation).__name__).lower()

    def curve(x: Array) -> tuple[Array, Array]:
        value, slope = value_and_slope(activation, torch.from_numpy(x))
        return value.numpy(), slope.numpy()

    enough = share * np.abs(curve(np.linspace(-20, 20, 4001))[1]).max()

    def is_flat(x: Array) -> NDArray[np.bool_]:
        slope = curve(np.nan_to_num(x, posinf=1e6, neginf=-1e6))[1]  # of infinity it may be unknown
        flat: NDArray[np.bool_] = np.abs(slope) < enough
        return flat

    ends = [np.percentile(values, (0.5, 99.5)) for values in finite.values()]
    low, high = min(-5.0, *(e[0] for e in ends)), max(5.0, *(e[1] for e in ends))
    edges = np.linspace(low, high, 41)
    x = np.linspace(low, high, 400)
    value, slope = curve(x)
    words = []
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 2.1 * len(tables)), layout="constrained")
        grid = figure.subplots(len(tables), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, (look, values) in zip(grid, tables.items(), strict=True):
            # The few values beyond the edges are counted in the outermost bars.
            counts = np.histogram(np.clip(values, low, high), edges)[0] / len(values)
            flat = is_flat((edges[1:] + edges[:-1]) / 2)
            for chosen, style in (
                (~flat, {"color": COLOURS[look.colour], "alpha": 0.55}),
                (flat, {"facecolor": "white", "edgecolor": COLOURS[look.colour], "hatch": "/////"}),
            ):
                width = edges[1] - edges[0]
                axes.bar(
                    edges[:-1][chosen], counts[chosen], width, align="edge", linewidth=0.6, **style
                )
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.set_ylabel("share of values")
            function = axes.twinx()
            function.plot(x, value, color=INK, linewidth=1.8)
            function.plot(x, slope, color=INK, linewidth=1.8, linestyle=":")
            function.spines["right"].set_visible(True)
            function.grid(False)
            function.yaxis.set_major_locator(MaxNLocator(4))
            if min(value.min(), slope.min()) >= 0:
                function.set_ylim(0, 1.08 * max(value.max(), slope.max()))
            axes.set_xlim(low, high)
            dead = float(is_flat(values).mean())
            axes.set_title(
                f"{look.label}: {100 * dead:.0f} % in the dead zone", fontweight="normal"
            )
            words.append(
                f"{look.label}: {100 * dead:.0f} % of the values in the dead zone, middle 70 % "
                f"from {_positions(np.percentile(finite[look], (15, 85)), finite[look].std())}"
            )
        grid[-1].set_xlabel(f"pre-activation, what enters the {name}")
        zone = Patch(facecolor="white", edgecolor=INK, hatch="/////", linewidth=0.6)
        figure.legend(
            [*function.get_lines(), zone],
            [name, "its derivative", "dead zone"],
            loc="outside lower left",
            ncols=3,
            handlelength=1.8,
            title=f"In the dead zone the derivative is below {100 * share:.0f} % of its maximum.",
            title_fontsize=9.5,
            alignment="left",
            borderpad=0,
        )
        headline(figure, title)
    return Drawing(
        figure,
        f"{title}. Histograms of pre-activations, with the {name} and its derivative drawn over "
        f"them; the dead zone is where the derivative is below {100 * share:.0f} % of its maximum. "
        f"{'; '.join(words)}.",
    )


def dashboard(
    recorders: Recorder | Mapping[Look, Recorder] | Mapping[str, Recorder],
    *,
    title: str | None = None,
    at: Sequence[int] | None = None,
    layers: Sequence[str] | None = None,
) -> Drawing:
    """What was inside one network, or two, at a few moments of training, layer by layer.

    From top to bottom: the distributions of what entered the layers and of what left them, the
    shares of saturated values and of dead units where the layers have such, and the size of the
    gradient that arrived, from its median to its 99th percentile. From left to right: the moments.
    Of two networks, the first is on the left of each layer's mark and the second on the right.

    Args:
        recorders: of one network, or those of two by name, or by `Look`. Layers are matched by
            their order.
        title: what is found.
        at: steps, at most 4, in any order; of each the nearest record is shown, once and in the
            order of training. By default the first, the middle and the last record.
        layers: names. By default the nonlinearities, or else all recorded layers; of more than 8,
            8 that are evenly spaced from the first to the last.

    Raises:
        RuntimeError: nothing was recorded.
        ValueError: more than two networks, more than four moments, or none; or layers are a
            string.
        KeyError: a layer that was not recorded.
    """
    networks = _networks("dashboard", recorders, layers, most_layers=8)
    first = next(iter(networks.values()))
    if at is None:
        at = [int(first.steps[i]) for i in (0, len(first.steps) // 2, -1)]
    elif not 1 <= len(at) <= 4:
        raise ValueError(f"dashboard: `at` has {len(at)} steps; 1 to 4 fit side by side")
    at = sorted({int(first.steps[first.nearest(step)]) for step in at})
    # The two halves of a mark belong to two networks; with one network, both are its own.
    halves = ((-1,), (1,)) if len(networks) == 2 else ((-1, 1),)
    enters, leaves = _ends(networks)
    shares = _shares(networks)
    with rc_context(STYLE):
        height = 1.5 + 1.35 * (3 + len(shares))
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        grid = figure.subplots(3 + len(shares), len(at), sharex=True, sharey="row", squeeze=False)
        for (look, network), sides in zip(networks.items(), halves, strict=True):
            colour = COLOURS[look.colour]
            for column, step in enumerate(at):
                record = network.nearest(step)
                for place, history in enumerate(network.layers.values(), 1):
                    top, second, *middle, bottom = grid[:, column]
                    _violin(top, place, sides, history.input, record, colour)
                    _violin(second, place, sides, history.output, record, colour)
                    for axes, share in zip(middle, shares, strict=True):
                        _bar(axes, place, sides, getattr(history, share)[record], colour)
                    _span(bottom, place, sides, history, record, look)
        for axes, step in zip(grid[0], at, strict=True):
            axes.set_title(f"step {step:,}", fontweight="normal")
        for axes, name in zip(grid[:, 0], (enters, leaves, *shares, "gradient"), strict=True):
            axes.set_ylabel(textwrap.fill(name, 14, break_on_hyphens=False))
        for axes, end in ((grid[0, 0], "input"), (grid[1, 0], "output")):
            axes.set_ylim(_limits(networks, end, at))
            axes.yaxis.set_major_locator(MaxNLocator(4))
        for row in grid[2:-1]:
            _percentages(row)
        _decades(grid[-1])
        most = max((network.numbers for network in networks.values()), key=len)
        for axes in grid.flat:
            axes.set_xlim(0.4, len(most) + 0.6)
            axes.set_xticks(range(1, len(most) + 1), [str(number) for number in most])
            axes.grid(False, axis="x")
        for axes in grid[-1]:
            axes.set_xlabel("layer")
        figure.align_ylabels(grid[:, 0])
        _network_key(figure, networks)
        title = title or f"Inside the network from step {at[0]:,} to step {at[-1]:,}"
        headline(figure, title)
    words = "; ".join(
        f"{look.label}, step {network.steps[record]:,}, {name}: "
        + _moment(history, record, (enters, leaves), shares)
        for look, network in networks.items()
        for record in dict.fromkeys(network.nearest(step) for step in (at[0], at[-1]))
        for name, history in network.outermost().items()
    )
    return Drawing(
        figure,
        f"{title}. Small charts by layer, one column for each of the steps "
        f"{', '.join(f'{step:,}' for step in at)}: distributions of the {enters} and of the "
        f"{leaves}, {''.join(f'share {share}, ' for share in shares)}size of the gradient. "
        f"{_all_layers_in_words(networks)} {words}.",
    )


def timeline(
    recorders: Recorder | Mapping[Look, Recorder] | Mapping[str, Recorder],
    *,
    title: str | None = None,
    layers: Sequence[str] | None = None,
) -> Drawing:
    """How layers changed over training, in one network or in two side by side.

    From top to bottom: mean and standard deviation of the pre-activations, the shares of saturated
    values and of dead units where the layers have such, and the median size of the gradient that
    arrived. One line for each layer. Pre-activations are what enters a nonlinearity; if other
    layers are shown too, mean and standard deviation are of what leaves the layers.

    Args:
        recorders: of one network, or those of two by name, or by `Look`.
        title: what is found.
        layers: names. By default the nonlinearities, or else all recorded layers; of more than 5,
            5 that are evenly spaced from the first to the last.

    Raises:
        RuntimeError: nothing was recorded.
        ValueError: more than two networks, or none; or layers are a string.
        KeyError: a layer that was not recorded.
    """
    networks = _networks("timeline", recorders, layers, most_layers=DEPTHS)
    what, output = _ends(networks)
    end = "input"
    if what != "pre-activation":
        what, end = output, "output"
    shares = _shares(networks)
    rows: list[tuple[str, Callable[[LayerHistory], Array]]] = [
        (f"mean of {what}", attrgetter(f"{end}.mean")),
        (f"std of {what}", attrgetter(f"{end}.std")),
        *((share, attrgetter(share)) for share in shares),
        ("median gradient", attrgetter("gradient_median")),
    ]
    first, last = (
        int(getattr(np, pick)([network.steps[i] for network in networks.values()]))
        for pick, i in (("min", 0), ("max", -1))
    )
    with rc_context(STYLE):
        height = 1.5 + 1.35 * len(rows)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        grid = figure.subplots(len(rows), len(networks), sharex=True, sharey="row", squeeze=False)
        for column, (look, network) in enumerate(networks.items()):
            colours = depth_colours(len(network.layers))
            for axes, (_, values) in zip(grid[:, column], rows, strict=True):
                for place, history in enumerate(network.layers.values()):
                    y = values(history)
                    y = np.where(y > 0, y, np.nan) if axes is grid[-1, column] else y
                    axes.plot(network.steps, y, color=colours[place], linestyle=DEPTH_LINES[place])
            if len(networks) > 1:
                grid[0, column].set_title(look.label, fontweight="normal")
            grid[-1, column].set_xlabel("training step")
            grid[-1, column].xaxis.set_major_formatter(EngFormatter(sep=""))
            grid[-1, column].set_xlim(first, max(last, first + 1))
        for axes, (name, _) in zip(grid[:, 0], rows, strict=True):
            axes.set_ylabel(textwrap.fill(name, 14, break_on_hyphens=False))
            axes.yaxis.set_major_locator(MaxNLocator(4))
        for row in grid[2:-1]:
            _percentages(row)
        _decades(grid[-1])
        figure.align_ylabels(grid[:, 0])
        _depth_key(figure, networks)
        title = title or f"Layer by layer from step {first:,} to step {last:,}"
        headline(figure, title)
    words = "; ".join(
        f"{look.label}, {name}: "
        + ", ".join(
            f"{row} {_course(row, values(history), history, end)}"
            for row, values in rows
            if row not in shares or np.isfinite(values(history)).any()
        )
        for look, network in networks.items()
        for name, history in network.outermost().items()
    )
    return Drawing(
        figure,
        f"{title}. Line charts over training steps, one line for each layer. "
        f"{_all_layers_in_words(networks)} From the first record to the last: {words}.",
    )


def chain(
    boxes: Sequence[str], probes: Mapping[int, str], *, title: str, emphasis: Sequence[int] = ()
) -> Drawing:
    """A network as boxes in a row, with arrows where a probe looks between two of them.

    Args:
        boxes: what is in each box, from input to output.
        probes: for the index of a box, the name of the probe at its entrance; at most two.
        title: what is shown.
        emphasis: indices of boxes to draw in colour.

    Raises:
        ValueError: no box, more than two probes, or an index that no box has.
    """
    if len(probes) > 2 or not boxes or not {*probes, *emphasis} <= set(range(len(boxes))):
        raise ValueError(
            f"chain: probes are at {list(probes)} and emphasis is {list(emphasis)}, of "
            f"{len(boxes)} boxes; give at most two probes, at indices of boxes from 0 on"
        )
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.9), layout="constrained")
        axes = figure.subplots()
        axes.set_axis_off()
        gap, y = 0.32, 0.0
        for i, text in enumerate(boxes):
            x = i * (1 + gap)
            colour = COLOURS["blue"] if i in emphasis else FAINT
            axes.add_patch(
                FancyBboxPatch(
                    (x, y),
                    1,
                    0.9,
                    boxstyle="round,pad=0,rounding_size=0.08",
                    facecolor="white",
                    edgecolor=colour,
                    linewidth=1.6,
                )
            )
            axes.text(x + 0.5, y + 0.45, text, ha="center", va="center", fontsize=8.5)
            if i:
                axes.add_patch(
                    FancyArrowPatch(
                        (x - gap, y + 0.45),
                        (x, y + 0.45),
                        arrowstyle="-|>",
                        mutation_scale=9,
                        color=INK,
                        shrinkA=0,
                        shrinkB=0,
                    )
                )
            if i in probes:
                at = x - gap / 2
                axes.plot([at, at], [y + 0.45, y + 1.3], color=COLOURS["orange"], linewidth=1.4)
                axes.plot([at], [y + 0.45], marker="o", markersize=6, color=COLOURS["orange"])
                # Names of probes that are close to each other lean away from each other.
                side, shift = ("right", 0.1) if i == min(probes) else ("left", -0.1)
                axes.text(at + shift, y + 1.35, probes[i], ha=side, va="bottom", fontsize=9)
        axes.set_xlim(-0.1, len(boxes) * (1 + gap) - gap + 0.1)
        axes.set_ylim(-0.1, 2.0)
        headline(figure, title)
    row = " → ".join(text.replace("\n", " ") for text in boxes)
    where = "; ".join(
        f"{name.replace(chr(10), ' ')} at the entrance of {boxes[i].replace(chr(10), ' ')}"
        for i, name in probes.items()
    )
    return Drawing(figure, f"{title}. Boxes in a row: {row}. Probes: {where}.")


# ---- Networks in dashboard and timeline ---------------------------------------------------


@dataclass(frozen=True)
class _Network:
    """What of one recorder is shown.

    Attributes:
        layers: their names and histories, from the first to the last.
        numbers: of the layers, among those that there were to choose from; the first is 1.
        recorded: how many layers there were to choose from.
    """

    layers: dict[str, LayerHistory]
    numbers: tuple[int, ...]
    recorded: int

    @property
    def steps(self) -> NDArray[np.int64]:
        return next(iter(self.layers.values())).steps

    def nearest(self, step: int) -> int:
        """The index of the record nearest to a step."""
        return int(np.abs(self.steps - step).argmin())

    def outermost(self) -> dict[str, LayerHistory]:
        """The first and the last layer; one if there is one."""
        return {name: self.layers[name] for name in (next(iter(self.layers)), [*self.layers][-1])}


def _networks(
    who: str,
    recorders: Recorder | Mapping[Look, Recorder] | Mapping[str, Recorder],
    layers: Sequence[str] | None,
    most_layers: int,
) -> dict[Look, _Network]:
    if isinstance(recorders, Recorder):
        recorders = {"the network": recorders}
    if not 1 <= len(recorders) <= 2:
        raise ValueError(f"{who}: got {len(recorders)} networks; 1 or 2 fit side by side")
    if isinstance(layers, str):
        raise ValueError(f"{who}: layers is the string {layers!r}; give a list, [{layers!r}]")
    series = zip(COLOURS, ("-", "--", "-.", ":"), "os^D", strict=False)
    networks = {}
    for (name, recorder), style in zip(recorders.items(), series, strict=False):
        look = name if isinstance(name, Look) else Look(str(name), *style)
        histories = {name: recorder.layer(name) for name in layers or recorder.layers or ("",)}
        if layers is None:
            chosen = [n for n, history in histories.items() if history.kind == "nonlinearity"]
            histories = {name: histories[name] for name in chosen or histories}
        kept = np.linspace(0, len(histories) - 1, min(most_layers, len(histories)))
        numbers = tuple(int(i) + 1 for i in kept.round())
        names = list(histories)
        shown = {names[number - 1]: histories[names[number - 1]] for number in numbers}
        networks[look] = _Network(shown, numbers, len(histories))
    return networks


def _histories(networks: Mapping[Look, _Network]) -> list[LayerHistory]:
    return [history for network in networks.values() for history in network.layers.values()]


def _ends(networks: Mapping[Look, _Network]) -> tuple[str, str]:
    """What to call that which enters the layers, and that which leaves them."""
    if all(history.kind == "nonlinearity" for history in _histories(networks)):
        return "pre-activation", "activation"
    return "layer's input", "layer's output"


def _shares(networks: Mapping[Look, _Network]) -> list[str]:
    """Those of the shares that any of the layers has."""
    return [
        share
        for share in ("saturated", "dead")
        if any(np.isfinite(getattr(history, share)).any() for history in _histories(networks))
    ]


def _called(name: str, history: LayerHistory) -> str:
    """A layer's name, with its class where the name is a number, as in `nn.Sequential`."""
    last = name.split("#")[0].split(".")[-1]
    return f"{name} ({history.type_name})" if last.isdigit() else name


def _layers_in_words(look: Look, network: _Network) -> str:
    """Such as "1 = relu1, 2 = relu2"; says when there are more layers than are shown."""
    names = ", ".join(
        f"{number} = {_called(name, history)}"
        for number, (name, history) in zip(network.numbers, network.layers.items(), strict=True)
    )
    some = len(network.layers) < network.recorded
    return names + (f" ({len(network.layers)} of {network.recorded} shown)" if some else "")


def _all_layers_in_words(networks: Mapping[Look, _Network]) -> str:
    words = {look.label: _layers_in_words(look, network) for look, network in networks.items()}
    if len(set(words.values())) == 1:
        return f"Layers: {next(iter(words.values()))}."
    return " ".join(f"Layers {label}: {names}." for label, names in words.items())


def _violin(
    axes: Axes, place: int, sides: Sequence[int], seen: Distribution, record: int, colour: str
) -> None:
    """A histogram on its side, on one or both sides of the layer's place; the median as a line."""
    edges, shares = seen.edges[record], seen.shares[record]
    if not np.isfinite(shares).all():
        return
    # One value only has no histogram to speak of, but a median.
    width = 0.42 * shares / shares.max() if edges[-1] > edges[0] else np.zeros_like(shares)
    median = seen.percentiles[record, 2]
    bin_of_median = int(np.clip(np.searchsorted(edges, median) - 1, 0, len(width) - 1))
    for side in sides:
        axes.fill_betweenx(
            np.repeat(edges, 2)[1:-1],
            place,
            place + side * np.repeat(width, 2),
            color=colour,
            alpha=0.45,
            linewidth=0,
        )
        reach = max(float(width[bin_of_median]), 0.12)
        axes.plot([place, place + side * reach], [median] * 2, color=colour, linewidth=2)


def _bar(axes: Axes, place: int, sides: Sequence[int], share: float, colour: str) -> None:
    for side in sides:
        axes.bar(place + side * 0.2, share, 0.4, color=colour, alpha=0.75, linewidth=0)
        # A share of zero shows as a line on the ground, a missing one does not.
        if np.isfinite(share):
            axes.plot([place, place + side * 0.4], [share] * 2, color=colour, linewidth=1.6)


def _span(
    axes: Axes, place: int, sides: Sequence[int], history: LayerHistory, record: int, look: Look
) -> None:
    """The size of the gradient: a dot at the median, a line from there to the 99th percentile."""
    at = place + 0.2 * sum(sides)
    low, high = history.gradient_median[record], history.gradient_top[record]
    if high > 0:
        dot = [low] if low > 0 else []
        colour = COLOURS[look.colour]
        axes.plot([at] * 2, [low if low > 0 else high / 1e3, high], color=colour, linewidth=1.6)
        axes.plot([at] * len(dot), dot, color=colour, marker=look.marker, markersize=5)


def _limits(networks: Mapping[Look, _Network], end: str, at: Sequence[int]) -> tuple[float, float]:
    """Limits that hold nearly all values of the shown moments, if not a few far outliers."""
    seen = [
        (getattr(history, end), network.nearest(step))
        for network in networks.values()
        for history in network.layers.values()
        for step in at
    ]
    fans = np.concatenate([d.percentiles[record] for d, record in seen])
    edges = np.concatenate([d.edges[record] for d, record in seen])
    if not np.isfinite(fans).any():
        return 0.0, 1.0
    fans, edges = fans[np.isfinite(fans)], edges[np.isfinite(edges)]
    room = 0.3 * np.ptp(fans) or max(abs(float(fans.max())), 1.0)
    low, high = max(fans.min() - room, edges.min()), min(fans.max() + room, edges.max())
    margin = 0.05 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def _network_key(figure: Figure, networks: Mapping[Look, _Network]) -> None:
    """Below a dashboard: which number is which layer, which colour which network."""
    handles = [Patch(color=COLOURS[look.colour], alpha=0.75, label=look.label) for look in networks]
    figure.legend(
        handles=handles if len(handles) > 1 else [],
        loc="outside lower left",
        ncols=2,
        title=_filled(
            f"{_all_layers_in_words(networks)} Line across a distribution: its median. Gradient: "
            "from the median (dot) to the 99th percentile of its size."
        ),
        title_fontsize=9.5,
        alignment="left",
        borderpad=0,
    )


def _depth_key(figure: Figure, networks: Mapping[Look, _Network]) -> None:
    """Below a timeline: which line is which layer."""
    most = max((network.numbers for network in networks.values()), key=len)
    lines = [
        Line2D([], [], color=colour, linestyle=line, label=f"layer {number}")
        for number, colour, line in zip(most, depth_colours(len(most)), DEPTH_LINES, strict=False)
    ]
    figure.legend(
        handles=lines,
        loc="outside lower left",
        ncols=3,
        handlelength=2.6,
        title=_filled(_all_layers_in_words(networks)),
        title_fontsize=9.5,
        alignment="left",
        borderpad=0,
    )


def _filled(text: str) -> str:
    return textwrap.fill(text, 72, break_on_hyphens=False)


def _moment(
    history: LayerHistory, record: int, names: tuple[str, str], shares: Sequence[str]
) -> str:
    """One layer at one record, in words."""
    words = []
    for name, seen in zip(names, (history.input, history.output), strict=True):
        middle = _positions(seen.percentiles[record, [1, 3]], seen.std[record])
        words.append(f"middle 70 % of the {name} {middle}")
    for share in shares:
        value = getattr(history, share)[record]
        words += [f"{share} {_percent(value)}"] if math.isfinite(value) else []
    return ", ".join([*words, f"median gradient {_size(history.gradient_median[record])}"])


def _course(row: str, values: Array, history: LayerHistory, end: str) -> str:
    """A quantity at the first and the last record, in words."""
    ends = values[[0, -1]]
    if row.startswith("mean"):
        return _positions(ends, float(np.nanmax(getattr(history, end).std)))
    number = _percent if row in ("saturated", "dead") else _size
    return f"{number(ends[0])} to {number(ends[1])}"


# ---- Parts of pictures --------------------------------------------------------------------


def _table(
    who: str, name: str, values: ArrayLike | Tensor, shape: tuple[int | None, int], what: str
) -> NDArray[Any]:
    """Values as an array of two axes, whatever the length of an axis that is None."""
    table: NDArray[Any] = np.asarray(values.detach() if isinstance(values, Tensor) else values)
    if table.ndim != 2 or any(n not in (None, m) for n, m in zip(shape, table.shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{who}: {name!r} has shape {table.shape}; it must be ({wanted}): {what}")
    return table


def _band(axes: Axes, x: Sequence[float], values: Any, look: Look) -> None:
    colour = COLOURS[look.colour]
    known = np.ma.masked_invalid(values)
    axes.fill_between(x, known.min(0), known.max(0), color=colour, alpha=0.22, linewidth=0)
    axes.plot(x, known.mean(0), color=colour, linestyle=look.line, label=look.label)


def _logarithmic(axes: Axes, form: str) -> None:
    """A logarithmic vertical axis: numbers at 1, 2 and 5 of every decade, or at some decades."""
    axes.set_yscale("log")
    low, high = axes.dataLim.minposy, axes.dataLim.y1
    if 0 < low < math.inf and high > 10_000 * low:
        axes.yaxis.set_major_locator(LogLocator(numticks=8))
        axes.yaxis.set_major_formatter(LogFormatterMathtext())
    else:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: form.format(value))
    axes.yaxis.set_minor_locator(NullLocator())


def _percentages(row: Sequence[Axes]) -> None:
    """A common axis of shares, from 0 to a little above the highest, and at least to 10 %."""
    tops = [axes.dataLim.y1 for axes in row]
    axis = row[0].yaxis
    row[0].set_ylim(0, min(1.0, max(0.1, *(1.1 * top for top in tops if math.isfinite(top)))))
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))


def _decades(row: Sequence[Axes]) -> None:
    """A common logarithmic axis of sizes, in whole decades."""
    low = min(axes.dataLim.minposy for axes in row)
    high = max(axes.dataLim.y1 for axes in row)
    if not 0 < low <= high < math.inf:  # nothing to show
        row[0].set_yticks([])
        return
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    row[0].set_yscale("log")
    row[0].set_ylim(10.0**first, 10.0 ** max(last, first + 1))
    row[0].yaxis.set_major_locator(LogLocator(numticks=5))
    row[0].yaxis.set_minor_locator(NullLocator())


def headline(figure: Figure, title: str) -> None:
    """Write what a figure shows above it, broken into lines that fit."""
    figure.suptitle(textwrap.fill(title, 52), x=0.01, ha="left", fontsize=11, fontweight="bold")


def _from_to(values: Any) -> str:
    return f"{100 * values.min():.1f} to {100 * values.max():.1f} %"


def _range(values: Any) -> str:
    """Such as "0.5 to 0.71", the lowest and the highest; one number if they are one."""
    known = values[np.isfinite(values)]
    if not len(known):
        return "no value"
    low, high = (f"{value:.2g}" for value in (known.min(), known.max()))
    return low if low == high else f"{low} to {high}"


def _positions(values: Any, scale: float) -> str:
    """Two places on an axis, to a tenth or less of a scale: what is small beside it is 0."""
    if not np.isfinite(values).all():
        return "unknown"
    # The digits change at scales of 0.7, 7 and so on. Of normalized values the scale is 1, of their
    # sigmoid 0.2, and a change in the last place must not change the digits.
    if not 1e-4 < scale < 1e5:  # or not a number
        return " to ".join(f"{v:.2g}" for v in values)
    digits = 1 - math.floor(math.log10(scale / 0.7))
    low, high = (f"{round(float(v), digits) + 0.0:.{max(digits, 0)}f}" for v in values)
    return f"{low} to {high}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if math.isfinite(share) else "unknown"


def _size(value: float) -> str:
    return f"{value:.2g}" if math.isfinite(value) else "unknown"


def _ratio(values: Any) -> str:
    known = values[~np.isnan(values)]
    if not len(known):
        return "no ratio"
    seeds = "" if len(known) == len(values) else f" ({len(known)} of {len(values)} seeds)"
    return f"{known.min():.1f} to {known.max():.1f}{seeds}"
