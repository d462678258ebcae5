"""Pictures that explain: drawn from a formula or a small example, in the style of `plots`.

What was measured is drawn by `bn_core.lab.plots`. Each function here, too, returns a `Drawing`: the
figure, and a description in words that is computed from what is drawn.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from numpy.typing import ArrayLike

from bn_core.lab.plots import COLOURS, FAINT, INK, STYLE, WIDTH, Drawing, Look, headline


def fits_over_densities(
    x: ArrayLike,
    curve: ArrayLike,
    fits: Mapping[Look, ArrayLike],
    densities: Mapping[Look, ArrayLike],
    *,
    title: str,
    curve_name: str,
    examples: Mapping[Look, tuple[ArrayLike, ArrayLike]] | None = None,
) -> Drawing:
    """A curve and what was fitted to it; below, where the inputs lie.

    Args:
        x: (points,), ascending.
        curve: (points,) what is to be learnt.
        fits: for each fit (points,).
        densities: for each distribution of inputs (points,), not negative.
        title: what is found.
        curve_name: the curve's name in the legend.
        examples: for each set of examples their x and y, drawn as faint dots.
    """
    at, truth = np.asarray(x, dtype=float), np.asarray(curve, dtype=float)
    fitted = {look: np.asarray(values, dtype=float) for look, values in fits.items()}
    heights = {look: np.asarray(values, dtype=float) for look, values in densities.items()}
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.6, 1])
        for look, (xs, ys) in (examples or {}).items():
            upper.plot(
                xs, ys, look.marker, color=COLOURS[look.colour], alpha=0.3, markersize=3.5,
                markeredgewidth=0, zorder=1,
            )  # fmt: skip
        upper.plot(at, truth, color=INK, linewidth=1.4, label=curve_name)
        for look, values in fitted.items():
            upper.plot(
                at, values, color=COLOURS[look.colour], linestyle=look.line, linewidth=2.4,
                label=look.label,
            )  # fmt: skip
        for look, values in heights.items():
            colour = COLOURS[look.colour]
            lower.fill_between(at, values, color=colour, alpha=0.18, linewidth=0)
            lower.plot(at, values, color=colour, linestyle=look.line, label=look.label)
        upper.axhline(0, color=FAINT, linewidth=0.8)
        shown = np.concatenate([truth, *fitted.values()])
        upper.set_ylim(shown.min() - 0.2, shown.max() + 0.2)
        upper.set_xlim(at.min(), at.max())
        upper.set_ylabel("output y")
        lower.set_ylabel("density of\ninputs")
        lower.set_ylim(0)
        lower.set_xlabel("input x")
        upper.legend(loc="best", fontsize=9.5)
        lower.legend(loc="upper right", fontsize=9.5)
        headline(figure, title)
    ends = "; ".join(
        f"{name} from {values[0]:.1f} at x = {at[0]:.1f} to {values[-1]:.1f} at x = {at[-1]:.1f}"
        for name, values in [(curve_name, truth), *((k.label, v) for k, v in fitted.items())]
    )
    peaks = "; ".join(
        f"{look.label} highest at x = {at[int(values.argmax())] + 0.0:.1f}"
        for look, values in heights.items()
    )
    return Drawing(
        figure,
        f"{title}. Above, a curve and what was fitted to it over the input x: {ends}. Below, "
        f"densities of inputs: {peaks}.",
    )


def two_modes(*, title: str) -> Drawing:
    """Where a normalization takes its mean and variance from, in training and in inference.

    Args:
        title: what is shown.
    """
    batch, store = COLOURS["orange"], COLOURS["blue"]
    # Left edge, foot, text and colour of each box, and for each arrow its ends, colour and line.
    boxes = {
        "batch": (0.0, 3.0, "mini-batch\n$x_1, \\ldots, x_m$", FAINT),
        "own": (1.5, 4.4, "mean, variance\nof this batch", batch),
        "train": (3.0, 3.0, "normalize", FAINT),
        "out": (4.5, 3.0, "$y_1, \\ldots, y_m$", FAINT),
        "store": (3.0, 1.5, "population mean,\nvariance", store),
        "example": (0.0, 0.0, "one example\n$x$", FAINT),
        "infer": (3.0, 0.0, "normalize", FAINT),
        "y": (4.5, 0.0, "$y$", FAINT),
    }
    wide, high = 1.2, 0.8
    arrows = [
        ("batch", "train", INK, "-"),
        ("train", "out", INK, "-"),
        ("batch", "own", batch, "-"),
        ("own", "train", batch, "-"),
        ("own", "store", store, "--"),
        ("example", "infer", INK, "-"),
        ("infer", "y", INK, "-"),
        ("store", "infer", store, "-"),
    ]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.0), layout="constrained")
        axes = figure.subplots()
        axes.set_axis_off()
        for x, y, text, colour in boxes.values():
            axes.add_patch(
                FancyBboxPatch(
                    (x, y), wide, high, boxstyle="round,pad=0,rounding_size=0.08",
                    facecolor="white", edgecolor=colour, linewidth=1.6,
                )
            )  # fmt: skip
            axes.text(x + wide / 2, y + high / 2, text, ha="center", va="center", fontsize=8.5)
        for start, end, colour, line in arrows:
            (x0, y0, *_), (x1, y1, *_) = boxes[start], boxes[end]
            if y0 == y1:  # along a row
                tail, head = (x0 + wide, y0 + high / 2), (x1, y1 + high / 2)
            elif start == "batch":
                tail, head = (x0 + wide / 2, y0 + high), (x1, y1 + high / 2)
            elif (start, end) == ("own", "train"):
                tail, head = (x0 + wide, y0 + high / 2), (x1 + wide / 2, y1 + high)
            elif start == "own":
                tail, head = (x0 + wide / 2, y0), (x1, y1 + high / 2)
            else:
                tail, head = (x0 + wide / 2, y0), (x1 + wide / 2, y1 + high)
            axes.add_patch(
                FancyArrowPatch(
                    tail, head, arrowstyle="-|>", mutation_scale=10, color=colour, linestyle=line,
                    linewidth=1.4, shrinkA=0, shrinkB=0,
                )
            )  # fmt: skip
        axes.text(0, 4.8, "training", fontsize=10.5, fontweight="bold", va="center")
        axes.text(0, 1.3, "inference", fontsize=10.5, fontweight="bold", va="center")
        axes.text(2.45, 2.1, "averaged over\nmany batches", fontsize=8.5, ha="right", va="center")
        axes.set_xlim(-0.1, 5.8)
        axes.set_ylim(-0.1, 5.3)
        headline(figure, title)
    words = "; ".join(
        f"{_one_line(boxes[start][2])} → {_one_line(boxes[end][2])}" for start, end, *_ in arrows
    )
    return Drawing(
        figure,
        f"{title}. Above, training: the normalization of a mini-batch takes mean and variance from "
        "that batch. Below, inference: the normalization of one example takes them from the "
        f"population, which was averaged over many batches. Arrows: {words}.",
    )


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("$", "").replace("\\ldots", "…")
