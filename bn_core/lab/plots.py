"""Every figure of the book, in one style.

Each function takes plain arrays and returns a `Drawing`: the figure, and a description in words
that is computed from the same arrays. In a notebook the description is the figure's text form, so
it is compared when the chapter is re-run, and the book uses it as the image's alternative text.

Colours are from the palette of Okabe and Ito, which readers with the common kinds of colour
blindness can tell apart; every series also has its own line style or marker. Figures have a white
ground, so that they can be read in any notebook; the book's dark theme inverts their lightness.
"""

import base64
import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator, PercentFormatter
from numpy.typing import ArrayLike

INK = "#1a1a1a"
FAINT = "#6b6b6b"
COLOURS = {"blue": "#0072B2", "orange": "#D55E00", "green": "#00966B", "purple": "#A0528A"}

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
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "mathtext.fontset": "dejavusans",
}
WIDTH = 5.2  # inches: so that words of 10 points can still be read on a phone
PIXELS = 600  # of a page, so that on a larger screen they are as large as the text's


@dataclass(frozen=True)
class Look:
    """How one series is drawn, in every figure that it appears in.

    Attributes:
        label: its name in legends and descriptions.
        colour: a key of `COLOURS`.
        line: matplotlib's line style.
        marker: matplotlib's marker.
    """

    label: str
    colour: str
    line: str = "-"
    marker: str = "o"


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
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 5.6), layout="constrained")
        linear, logarithmic = figure.subplots(2, 1)
        for axes in (linear, logarithmic):
            for look, values in accuracies.items():
                _band(axes, steps, np.asarray(values), look)
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
        _headline(figure, title)
    ends = "; ".join(
        f"{look.label} {_from_to(np.asarray(values)[:, 0])} at step {steps[0]:,}, "
        f"{_from_to(np.asarray(values)[:, -1])} at step {steps[-1]:,}"
        for look, values in accuracies.items()
    )
    return Drawing(
        figure,
        f"{title}. Two line charts of test accuracy over training steps, linear and logarithmic, "
        f"with a band from the lowest to the highest seed. {ends}.",
    )


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
    """
    rows = list(next(iter(fans.values())))
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.8 + 2.3 * len(rows)), layout="constrained")
        grid = figure.subplots(len(rows), len(fans), sharex=True, sharey=True, squeeze=False)
        for column, (look, by_row) in enumerate(fans.items()):
            for row, name in enumerate(rows):
                axes = grid[row, column]
                low, middle, high = np.asarray(by_row[name]).T
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
            np.asarray(list(fans.values())[-1][rows[0]])[-1],
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
        _headline(figure, title)
    words = "; ".join(
        f"{look.label}, {name}: median between {np.min(np.asarray(fan)[:, 1]):.1f} and "
        f"{np.max(np.asarray(fan)[:, 1]):.1f}, width from 15th to 85th percentile between "
        f"{np.min(np.ptp(np.asarray(fan), axis=1)):.1f} and "
        f"{np.max(np.ptp(np.asarray(fan), axis=1)):.1f}"
        for look, by_row in fans.items()
        for name, fan in by_row.items()
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
) -> Drawing:
    """Accuracy over two settings, one map for each panel, the best cell of each framed.

    Args:
        rows: values of the setting on the vertical axis.
        columns: values of the setting on the horizontal axis.
        panels: for each panel's name (rows, columns), in [0, 1].
        row_name: what the rows are.
        column_name: what the columns are.
        title: what is found.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.0 + 2.2 * len(panels)), layout="constrained")
        best = []
        for axes, (name, panel) in zip(
            figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0],
            panels.items(),
            strict=True,
        ):
            values = np.asarray(panel)
            axes.imshow(values, vmin=0, vmax=1, cmap="cividis", aspect="auto", origin="lower")
            for (i, j), value in np.ndenumerate(values):
                colour = "black" if value > 0.5 else "white"
                axes.text(j, i, f"{100 * value:.0f}", ha="center", va="center", color=colour)
            i, j = divmod(int(np.nanargmax(values)), values.shape[1])
            best.append(
                f"{name}, best {100 * values[i, j]:.1f} % at {row_name} {rows[i]:g} and "
                f"{column_name} {columns[j]:g}, lowest {100 * np.nanmin(values):.0f} %"
            )
            axes.add_patch(
                FancyBboxPatch(
                    (j - 0.42, i - 0.38),
                    0.84,
                    0.76,
                    boxstyle="round,pad=0,rounding_size=0.1",
                    fill=False,
                    edgecolor="black",
                    linewidth=2,
                )
            )
            axes.set_title(name, fontweight="normal")
            axes.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
            axes.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
            axes.set_ylabel(textwrap.fill(row_name, 20))
            axes.grid(False)
        axes.set_xlabel(column_name)
        _headline(figure, title)
    return Drawing(
        figure,
        f"{title}. Heat maps of accuracy in percent over {row_name} and {column_name}. "
        f"{'; '.join(best)}.",
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
        _logarithmic(axes, "{:g}x")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("test accuracy to reach")
        axes.set_ylabel(textwrap.fill(ratio_name, 26))
        axes.legend(loc="lower left")
        _headline(figure, title)
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
        _headline(figure, title)
    words = "; ".join(
        f"{look.label}: mean {table.mean(1).min():.2f} to {table.mean(1).max():.2f} over seeds, "
        f"single units {table.min():.2f} to {table.max():.2f}"
        for look, table in ((look, np.asarray(seeds)) for look, seeds in groups.items())
    )
    return Drawing(
        figure, f"{title}. One dot for each unit, one column for each seed, of {quantity}. {words}."
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
    """
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
        _headline(figure, title)
    row = " → ".join(text.replace("\n", " ") for text in boxes)
    where = "; ".join(
        f"{name.replace(chr(10), ' ')} at the entrance of {boxes[i].replace(chr(10), ' ')}"
        for i, name in probes.items()
    )
    return Drawing(figure, f"{title}. Boxes in a row: {row}. Probes: {where}.")


def _band(axes: Axes, steps: Sequence[int], values: Any, look: Look) -> None:
    colour = COLOURS[look.colour]
    axes.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.22, linewidth=0)
    axes.plot(steps, values.mean(0), color=colour, linestyle=look.line, label=look.label)


def _logarithmic(axes: Axes, form: str) -> None:
    """A logarithmic vertical axis with numbers at 1, 2 and 5 of every decade."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: form.format(value))
    axes.yaxis.set_minor_locator(NullLocator())


def _headline(figure: Figure, title: str) -> None:
    figure.suptitle(textwrap.fill(title, 52), x=0.01, ha="left", fontsize=11, fontweight="bold")


def _from_to(values: Any) -> str:
    return f"{100 * values.min():.1f} to {100 * values.max():.1f} %"


def _ratio(values: Any) -> str:
    known = values[~np.isnan(values)]
    if not len(known):
        return "no ratio"
    seeds = "" if len(known) == len(values) else f" ({len(known)} of {len(values)} seeds)"
    return f"{known.min():.1f} to {known.max():.1f}{seeds}"
