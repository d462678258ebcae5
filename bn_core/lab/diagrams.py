"""Pictures that explain: drawn from a formula or a small example, in the style of `plots`.

What was measured is drawn by `bn_core.lab.plots`. Each function here, too, returns a `Drawing`: the
figure, and a description in words that is computed from what is drawn.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from numpy.typing import ArrayLike, NDArray

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
        inside = [
            np.asarray(ys)[(np.asarray(xs) >= at.min()) & (np.asarray(xs) <= at.max())]
            for xs, ys in (examples or {}).values()
        ]
        shown = np.concatenate([truth, *fitted.values(), *inside])
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
        "store": (3.0, 1.5, "population\nmean, variance", store),
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


def two_routes(*, title: str) -> Drawing:
    """How a centred value depends on x: directly, and through the mean, which a step may not see.

    Args:
        title: what is shown.
    """
    seen, unseen = COLOURS["blue"], COLOURS["orange"]
    # Left edge, foot and text of each box; then from where to where each gradient goes.
    boxes = {
        "x": (0.0, 0.0, "$x = u + b$"),
        "mean": (1.75, 1.5, "mean\n$\\mathrm{E}[x]$"),
        "x_hat": (3.5, 0.0, "$\\hat{x} = x - \\mathrm{E}[x]$"),
        "loss": (5.6, 0.0, "loss"),
    }
    wide, high = 1.5, 0.8
    centres = {name: (x + wide / 2, y + high / 2) for name, (x, y, _) in boxes.items()}
    gradients = [("loss", "x_hat", seen), ("x_hat", "x", seen)]
    gradients += [("x_hat", "mean", unseen), ("mean", "x", unseen)]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        axes = figure.subplots()
        axes.set_axis_off()
        for start, end, colour in gradients:
            cut = colour == unseen
            axes.add_patch(
                FancyArrowPatch(
                    centres[start], centres[end], arrowstyle="-|>", mutation_scale=12,
                    color=colour, linestyle="--" if cut else "-", linewidth=1.8,
                    shrinkA=33 if cut else 41, shrinkB=33 if cut else 41,
                )
            )  # fmt: skip
        for x, y, text in boxes.values():
            axes.add_patch(
                FancyBboxPatch(
                    (x, y), wide, high, boxstyle="round,pad=0,rounding_size=0.08",
                    facecolor="white", edgecolor=FAINT, linewidth=1.6,
                )
            )  # fmt: skip
            axes.text(x + wide / 2, y + high / 2, text, ha="center", va="center", fontsize=9)
        axes.text(2.5, -0.12, "direct: a step sees it", color=seen, ha="center", va="top")
        axes.text(
            3.4, 2.0, "through the mean: left out\nwhen E[x] is taken for a constant",
            color=unseen, ha="left", va="center",
        )  # fmt: skip
        axes.set_xlim(-0.1, 7.2)
        axes.set_ylim(-0.6, 2.5)
        headline(figure, title)
    said = {"x": "x = u + b", "mean": "mean", "x_hat": "x_hat = x - mean", "loss": "loss"}
    words = {
        colour: ", ".join(f"{said[a]} → {said[b]}" for a, b, _ in way)
        for colour in (seen, unseen)
        if (way := [each for each in gradients if each[2] == colour])
    }
    return Drawing(
        figure,
        f"{title}. Arrows show which way gradients go. Solid, seen by every step: {words[seen]}. "
        f"Dashed, left out by a step that takes the mean for a constant: {words[unseen]}.",
    )


def computation(
    nodes: Mapping[str, tuple[float, float]],
    edges: Sequence[tuple[str, str]],
    backward: Mapping[str, str],
    *,
    title: str,
) -> Drawing:
    """A computational graph, with values on the way forth and gradients on the way back.

    Dark arrows go from what a value is computed of to the value; light, dashed ones beside them
    carry the gradient back. Outside a node, above it in the highest row and below it in the others,
    stands the gradient that arrives there.

    Args:
        nodes: for each node's name its place, (column, row), rows counted upwards.
        edges: pairs of names, from and to.
        backward: for some nodes, what their gradient is called. Names of nodes and gradients may
            be in matplotlib's mathematics, between dollar signs.
        title: what is shown.

    Raises:
        ValueError: an edge or a gradient of a node that is not there.
    """
    for name in [*(end for edge in edges for end in edge), *backward]:
        if name not in nodes:
            raise ValueError(f"computation: there is no node {name!r}; there is {', '.join(nodes)}")
    columns, rows = zip(*nodes.values(), strict=True)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 1.2 * (max(rows) - min(rows) + 1)))
        axes = figure.add_axes((0.03, 0.0, 0.94, 0.86))
        axes.set_axis_off()
        axes.set_xlim(min(columns) - 0.45, max(columns) + 0.45)
        axes.set_ylim(min(rows) - 0.6, max(rows) + 0.6)
        for start, end in edges:
            ends = np.array([nodes[start], nodes[end]], dtype=float)
            along = (ends[1] - ends[0]) / np.hypot(*(ends[1] - ends[0]))
            # The two arrows stand apart, each on its right-hand side of the line between.
            aside = 0.045 * np.array([along[1], -along[0]])
            for way, style, colour in (
                (ends - aside, "-", INK),
                (ends[::-1] + aside, (0, (3, 2)), COLOURS["orange"]),
            ):
                axes.add_patch(
                    FancyArrowPatch(
                        *way, arrowstyle="-|>", mutation_scale=9, linestyle=style, linewidth=1.1,
                        color=colour, shrinkA=22, shrinkB=22,
                    )
                )  # fmt: skip
        for name, place in nodes.items():
            axes.text(
                *place, name, ha="center", va="center", fontsize=9.5, zorder=3,
                bbox={"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": INK},
            )  # fmt: skip
            if name in backward:
                outside = 0.44 if place[1] == max(rows) else -0.44
                axes.text(
                    place[0], place[1] + outside, backward[name], ha="center", va="center",
                    fontsize=10, color=COLOURS["orange"],
                )  # fmt: skip
        headline(figure, title)
    forth = "; ".join(f"{_plain(start)} to {_plain(end)}" for start, end in edges)
    back = ", ".join(f"{_plain(text)} at {_plain(name)}" for name, text in backward.items())
    return Drawing(
        figure,
        f"{title}. Arrows forth: {forth}. Along each one a dashed arrow goes back. Gradients: "
        f"{back}.",
    )


def three_examples(x: ArrayLike, g: ArrayLike, *, title: str) -> Drawing:
    """A mini-batch of three numbers as a point in space, its normalization, and its gradient.

    Above, space, seen so that the direction 1 points up: the plane orthogonal to it, the circle
    that every normalized batch lies on (for eps = 0), and the way from x to x_hat. Below, the
    plane from above, with the gradient that arrives at x_hat and the part of it that is sent on,
    but for the factor gamma / s.

    Args:
        x: (3,) the batch; not all equal.
        g: (3,) the gradient that arrives.
        title: what is found.

    Raises:
        ValueError: x or g is not three numbers, or x does not vary.
    """
    x, g = np.asarray(x, dtype=float), np.asarray(g, dtype=float)
    if x.shape != (3,) or g.shape != (3,) or not np.ptp(x) > 0:
        raise ValueError(
            f"three_examples: x is {x} and g is {g}; give three numbers each, in x not all equal"
        )
    mu = x.mean()
    x_hat = (x - mu) / x.std()
    tangent = g - g.mean() - x_hat * (g * x_hat).mean()
    # An orthonormal basis: two directions of the plane, and the direction of 1.
    basis = np.array([[2, -1, -1], [0, 1, -1], [1, 1, 1]]) / np.sqrt([[6], [2], [3]])
    lean = np.deg2rad(24)  # from which the plane is seen, above it

    def seen(point: ArrayLike) -> NDArray[np.floating[Any]]:
        a, b, up = basis @ np.asarray(point, dtype=float)
        return np.array([a, b * np.sin(lean) + up * np.cos(lean)])

    turn = np.linspace(0, 2 * np.pi, 200)
    round_trip = np.sqrt(3) * np.stack([np.cos(turn), np.sin(turn)])
    circle = np.array([seen(basis[0] * a + basis[1] * b) for a, b in round_trip.T])
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 7.6), layout="constrained")
        space, plane = figure.subplots(2, 1, height_ratios=[1.15, 1])
        for axes in (space, plane):
            axes.set_axis_off()
            axes.set_aspect("equal")
        space.fill(*(1.85 * circle).T, color=FAINT, alpha=0.13, linewidth=0)
        space.plot(*circle.T, color=COLOURS["blue"], linewidth=1.6)
        for i, direction in enumerate(np.eye(3)):
            _vector(space, seen([0, 0, 0]), seen(2.6 * direction), FAINT, width=0.9)
            _word_at(space, seen(2.6 * direction), f"example {i + 1}", FAINT, (0, 11))
        top = 3.6 * np.ones(3) / np.sqrt(3)
        _vector(space, seen([0, 0, 0]), seen(top), INK, width=1.6)
        _word_at(space, seen(0.93 * top), "direction $\\mathbf{1}$", INK, (8, 0))
        space.plot(*np.array([seen(x), seen(x - mu)]).T, ":", color=INK, linewidth=1.4)
        space.plot(*np.array([seen([0, 0, 0]), seen(x - mu)]).T, "--", color=INK, linewidth=1.2)
        dots = {"batch $x$": x, "$x - \\mu$": x - mu, "$\\hat x$": x_hat}
        for (name, point), colour, shift in zip(
            dots.items(), (INK, INK, COLOURS["blue"]), ((0, 11), (0, -13), (0, -14)), strict=True
        ):
            space.plot(*seen(point), "o", color=colour, markersize=6)
            _word_at(space, seen(point), name, colour, shift)
        space.set_title("in space: first off the direction 1, then onto the circle", **_PANEL)

        flat = basis[:2]
        plane.plot(*round_trip, color=COLOURS["blue"], linewidth=1.6)
        at, middle = flat @ x_hat, np.zeros(2)
        plane.plot(*np.array([middle, 1.75 * at]).T, "--", color=INK, linewidth=1.2)
        plane.plot(*middle, "o", color=INK, markersize=4)
        plane.plot(*at, "o", color=COLOURS["blue"], markersize=6)
        along = flat @ (x_hat * (g * x_hat).mean())
        for part, colour, line, name, shift in (
            (flat @ g, COLOURS["purple"], "-", "$g - \\overline{g}$", (0, 9)),
            (along, INK, "-", "along $\\hat x$, taken off", (0, -13)),
            (flat @ tangent, COLOURS["orange"], "-", "sent on", (0, 9)),
        ):
            _vector(plane, at, at + part, colour, width=2.0, line=line)
            _word_at(plane, at + part, name, colour, shift)
        for part in (flat @ tangent, along):
            corner = np.array([at + part, at + flat @ g])
            plane.plot(*corner.T, ":", color=FAINT, linewidth=1)
        _word_at(plane, at, "$\\hat x$", COLOURS["blue"], (-12, -8))
        plane.margins(0.16)
        plane.set_title("in the plane, from above: what arrives and what is sent on", **_PANEL)
        headline(figure, title)
    lengths = [np.linalg.norm(part) for part in (g, g - g.mean() - tangent, tangent)]
    return Drawing(
        figure,
        f"{title}. Two pictures of a batch of three numbers, {_triple(x)}, as a point in space. It "
        "goes along the direction 1 onto the plane orthogonal to it, and from there along a ray "
        f"onto a circle of radius {np.linalg.norm(x_hat):.2f}, at {_triple(x_hat)}. Of the "
        f"gradient {_triple(g)}, of length {lengths[0]:.2f}, the part along 1 has length "
        f"{abs(g.mean()) * np.sqrt(3):.2f}, the part along x_hat {lengths[1]:.2f}; the part that "
        f"is sent on is tangent to the circle and has length {lengths[2]:.2f}.",
    )


_PANEL: dict[str, Any] = {"fontweight": "normal", "fontsize": 10, "color": FAINT}


def _vector(
    axes: Axes, start: ArrayLike, end: ArrayLike, colour: str, width: float, line: str = "-"
) -> None:
    arrow = FancyArrowPatch(
        tuple(np.asarray(start)), tuple(np.asarray(end)), arrowstyle="-|>", mutation_scale=11,
        color=colour, linewidth=width, linestyle=line, shrinkA=0, shrinkB=0,
    )  # fmt: skip
    axes.add_patch(arrow)
    axes.update_datalim([tuple(np.asarray(start)), tuple(np.asarray(end))])
    axes.autoscale_view()


def _word_at(
    axes: Axes, place: ArrayLike, text: str, colour: str, shift: tuple[float, float] = (0, 0)
) -> None:
    """A name at a place, shifted by points; it leans the way that it is shifted."""
    side = "center" if abs(shift[0]) < 2 else "left" if shift[0] > 0 else "right"
    axes.annotate(
        text, tuple(np.asarray(place)), xytext=shift, textcoords="offset points", color=colour,
        ha=side, va="center", fontsize=10, annotation_clip=False,
        bbox={"pad": 0.6, "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
    )  # fmt: skip


def _triple(values: ArrayLike) -> str:
    return f"({', '.join(f'{value:.2f}' for value in np.asarray(values))})"


def _plain(text: str) -> str:
    """The first line of a name without the marks of mathematics: x_hat for an x with a hat."""
    text = text.replace("\\partial\\ell/\\partial ", "dl/d").replace("$", "").partition("\n")[0]
    text = re.sub(r"\\hat (\w)", r"\1_hat", text)
    return text.replace("\\sigma^2", "var").replace("\\", "").replace("{", "").replace("}", "")


def shared_means(*, title: str, examples: int = 3, features: int = 3, side: int = 2) -> Drawing:
    """Which values share one mean and one variance: fully connected above, convolutional below.

    Every cell is one value of a mini-batch. Cells of one colour and one letter are averaged
    together; each example is a row.

    Args:
        title: what is shown.
        examples: rows, m.
        features: columns, d, or feature maps; at most 4.
        side: height and width of a feature map, p = q.
    """
    colours = list(COLOURS.values())[:features]
    letters = "abcd"[:features]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 5.6), layout="constrained")
        panels = figure.subplots(2, 1, height_ratios=[1, side * 0.95])
        for axes, n in zip(panels, (1, side), strict=True):
            step = side + 0.6  # of the columns, the same in both panels
            for i in range(examples):
                top = -i * (n + 0.4)
                for k, (colour, letter) in enumerate(zip(colours, letters, strict=True)):
                    left = k * step + (side - n) / 2
                    for row in range(n):
                        for column in range(n):
                            x, y = left + column, top - row - 1
                            axes.add_patch(
                                Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white",
                                          linewidth=1.5, alpha=0.8)
                            )  # fmt: skip
                            axes.text(x + 0.5, y + 0.5, letter, ha="center", va="center",
                                      color="white", fontsize=11, fontweight="bold")  # fmt: skip
                axes.text(-0.4, top - n / 2, f"example {i + 1}", ha="right", va="center")
            for k in range(features):
                what = "feature" if n == 1 else "map"
                axes.text(k * step + side / 2, 0.15, f"{what} {k + 1}", ha="center", va="bottom")
            name = "Fully connected, (m, d)" if n == 1 else "Convolutional, (m, d, p, q)"
            axes.set_title(
                f"{name}: {examples * n * n} values behind each mean", fontweight="normal"
            )
            axes.set_xlim(-2.4, features * step)
            axes.set_ylim(-examples * (n + 0.4), 0.8)
            axes.set_aspect("equal")
            axes.set_axis_off()
        headline(figure, title)
    return Drawing(
        figure,
        f"{title}. Two grids of cells, one row for each of {examples} examples; cells that share a "
        f"mean have the same colour and letter. Fully connected: {features} features, one cell for "
        f"each example and feature, so {examples} cells share a letter. Convolutional: {features} "
        f"feature maps of {side} by {side} positions, and all {examples * side * side} cells of a "
        "map, over examples and positions, share a letter.",
    )


def joined_batches(
    panels: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    marked: int,
    title: str,
) -> Drawing:
    """A few small batches before and after a normalization, each value joined to what became of it.

    Args:
        panels: for each panel's name the values before and after, (m,) each.
        marked: index of the value that differs between the panels.
        title: what is shown.
    """
    tables = {
        name: (np.asarray(before, dtype=float), np.asarray(after, dtype=float))
        for name, (before, after) in panels.items()
    }
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 1.35 * len(tables)), layout="constrained")
        grid = figure.subplots(len(tables), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, (before, after)) in zip(grid, tables.items(), strict=True):
            for i, (start, end) in enumerate(zip(before, after, strict=True)):
                here = i == marked
                axes.plot(
                    [start, end], [1, 0], color=COLOURS["orange" if here else "blue"],
                    marker="D" if here else "o", markersize=6, linewidth=1.6 if here else 1.1,
                    linestyle="--" if here else "-", zorder=3 if here else 2,
                )  # fmt: skip
            axes.set_yticks([1, 0], ["$x$", "$\\hat x$"], fontsize=12)
            axes.set_ylim(-0.35, 1.35)
            axes.grid(False, axis="x")
            axes.set_title(name, fontweight="normal")
        grid[-1].set_xlabel("value")
        headline(figure, title)
    words = "; ".join(
        f"{name}: the marked value goes from {before[marked]:.2g} to {after[marked]:.2f}, the "
        f"others from between {np.delete(before, marked).min():.2g} and "
        f"{np.delete(before, marked).max():.2g} to between {np.delete(after, marked).min():.2f} "
        f"and {np.delete(after, marked).max():.2f}"
        for name, (before, after) in tables.items()
    )
    return Drawing(
        figure,
        f"{title}. One panel for each batch, values x above, joined by lines to the normalized "
        f"values below. {words}.",
    )


def clouds(panels: Mapping[str, ArrayLike], *, title: str, names: tuple[str, str]) -> Drawing:
    """Two features of the same examples, treated in different ways, side by side.

    Args:
        panels: for each treatment's name (m, 2).
        title: what is shown.
        names: of the two features.

    Raises:
        ValueError: a panel of another shape.
    """
    tables = {name: np.asarray(values, dtype=float) for name, values in panels.items()}
    for name, values in tables.items():
        if values.ndim != 2 or values.shape[1] != 2:
            raise ValueError(f"clouds: {name!r} has shape {values.shape}; it must be (m, 2)")
    words = []
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        for axes, (name, values) in zip(
            figure.subplots(1, len(tables), squeeze=False)[0], tables.items(), strict=True
        ):
            half = 1.08 * np.abs(values - values.mean(0)).max()
            axes.plot(
                *values.T, "o", color=COLOURS["blue"], markersize=3, alpha=0.45, markeredgewidth=0
            )
            for limit, centre in ((axes.set_xlim, 0), (axes.set_ylim, 1)):
                limit(values[:, centre].mean() - half, values[:, centre].mean() + half)
            axes.set_aspect("equal")
            axes.set_title(name, fontweight="normal", fontsize=9.5)
            axes.set_xlabel(names[0], fontsize=9.5)
            axes.tick_params(labelsize=8.5)
            correlation = float(np.corrcoef(values.T)[0, 1])
            spread = " and ".join(f"{std:.1f}" for std in values.std(0))
            words.append(
                f"{name.replace(chr(10), ' ')}: standard deviations {spread}, correlation "
                f"{round(correlation, 1) + 0.0:.1f}"
            )
        figure.axes[0].set_ylabel(names[1], fontsize=9.5)
        headline(figure, title)
    return Drawing(
        figure,
        f"{title}. Scatter plots of {names[1]} against {names[0]}, one point for each example. "
        f"{'; '.join(words)}.",
    )


def shapes_before_and_after(
    batches: Mapping[str, tuple[ArrayLike, ArrayLike]], *, title: str
) -> Drawing:
    """Histograms of batches before and after a normalization, beside the standard normal density.

    Args:
        batches: for each row's name the values before and after, (m,) each.
        title: what is found.
    """
    tables = {
        name: (np.asarray(before, dtype=float), np.asarray(after, dtype=float))
        for name, (before, after) in batches.items()
    }
    words = []
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 1.75 * len(tables)), layout="constrained")
        grid = figure.subplots(len(tables), 2, squeeze=False)
        for row, (name, pair) in zip(grid, tables.items(), strict=True):
            said = []
            for axes, values, what in zip(row, pair, ("before", "after"), strict=True):
                deviation = values - values.mean()
                skew, kurt = (
                    float((deviation**power).mean() / values.std() ** power) for power in (3, 4)
                )
                edges = np.linspace(values.min(), values.max(), 31)
                colour = COLOURS["blue" if what == "before" else "orange"]
                axes.hist(values, edges, density=True, color=colour, alpha=0.55)
                axes.set_title(
                    f"{name}, {what}\nskew {skew:.2f}, kurtosis {kurt:.2f}", fontweight="normal",
                    fontsize=9.5,
                )  # fmt: skip
                axes.set_yticks([])
                said.append(
                    f"{what} mean {round(values.mean(), 1) + 0.0:.1f}, standard deviation "
                    f"{values.std():.1f}, skewness {skew:.2f}, kurtosis {kurt:.2f}"
                )
            z = np.linspace(-4, 4, 200)
            row[1].plot(z, np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), color=INK, linestyle="--")
            row[0].set_ylabel("density")
            words.append(f"{name}: {'; '.join(said)}")
        for axes, label in zip(grid[-1], ("$x$", "$\\hat x$; dashed: normal density"), strict=True):
            axes.set_xlabel(label)
        headline(figure, title)
    return Drawing(
        figure,
        f"{title}. Histograms of a batch before and after it is normalized, the standard normal "
        f"density dashed beside the latter. {'. '.join(words)}.",
    )


def factors(
    panels: Mapping[Look, Mapping[str, float]], *, title: str, quantity: str, total: str = "all"
) -> Drawing:
    """A factor as the product of others: arrows end to end on a logarithmic axis, one panel each.

    On a logarithmic axis products are sums: an arrow's length is the logarithm of its factor, and
    the last arrow of a panel is as long as the others together. A factor below 1 points left.

    Args:
        panels: for each series, its factors by name in the order of multiplication, positive.
        title: what is found.
        quantity: what the axis counts.
        total: name of the product.

    Raises:
        ValueError: a factor that is not positive.
    """
    for look, parts in panels.items():
        if not all(part > 0 for part in parts.values()):
            raise ValueError(
                f"factors: series {look.label!r} has the factors {list(parts.values())}; each must "
                "be positive"
            )
    words = []
    with rc_context(STYLE):
        rows = [len(parts) + 1 for parts in panels.values()]
        figure = Figure(
            figsize=(WIDTH, 1.0 + 0.34 * sum(rows) + 0.4 * len(rows)), layout="constrained"
        )
        grid = figure.subplots(len(rows), 1, sharex=True, height_ratios=rows, squeeze=False)[:, 0]
        reached = [1.0]
        for axes, (look, parts) in zip(grid, panels.items(), strict=True):
            start = 1.0
            names = [*parts, total]
            for row, name in enumerate(names):
                begin, end = (1.0, start) if name == total else (start, start * parts[name])
                axes.annotate(
                    "", (end, row), (begin, row), zorder=3,
                    arrowprops={
                        "arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "mutation_scale": 11,
                        "linewidth": 2.4 if name == total else 1.8,
                        "color": INK if name == total else COLOURS[look.colour],
                    },
                )  # fmt: skip
                axes.text(
                    max(begin, end) * 1.08, row, f"×{end / begin:.2g}", va="center", fontsize=9.5
                )
                if name != total:
                    axes.plot([end, end], [row, row + 1], color=FAINT, linewidth=0.8, linestyle=":")
                start = end
                reached += [begin, end]
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.4, -0.6)
            axes.set_title(look.label, fontweight="normal")
            axes.axvline(1, color=FAINT, linewidth=1)
            told = ", ".join(f"{name} {part:.2g}" for name, part in parts.items())
            words.append(f"{look.label}: {told}; {total} {start:.2g}")
        axes.set_xscale("log")
        axes.set_xlim(0.8 * min(reached), 1.6 * max(reached))
        ticks = [t for t in (0.5, 1, 2, 5, 10, 20, 50) if min(reached) <= t <= 1.5 * max(reached)]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel(quantity)
        headline(figure, title)
    return Drawing(
        figure,
        f"{title}. Arrows end to end on a logarithmic axis of {quantity}. {'. '.join(words)}.",
    )


def tangent_steps(lengths: Sequence[float], *, pull: float, rate: float, title: str) -> Drawing:
    """Weight vectors of several lengths, one gradient step each, at a right angle to the vector.

    The gradient is what scale invariance makes it: orthogonal to the weights, and inversely
    proportional to their length.

    Args:
        lengths: of the weight vectors, positive; one panel each.
        pull: the gradient's norm at length 1.
        rate: the learning rate.
        title: what is found.

    Raises:
        ValueError: no length, or one that is not positive.
    """
    if not len(lengths) or not all(length > 0 for length in lengths):
        raise ValueError(
            f"tangent_steps: lengths are {list(lengths)}; give at least one, each positive"
        )
    reach = max(math.hypot(length, rate * pull / length) for length in lengths)
    words = []
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        panels = figure.subplots(1, len(lengths), squeeze=False)[0]
        for axes, length in zip(panels, lengths, strict=True):
            step = rate * pull / length
            new = math.hypot(length, step)
            angle = math.degrees(math.atan2(step, length))
            arrow = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "linewidth": 1.8}
            for tip, tail, colour, line in (
                ((length, 0), (0, 0), INK, "-"),
                ((length, step), (length, 0), COLOURS["orange"], "--"),
                ((length, step), (0, 0), COLOURS["blue"], "-"),
            ):
                axes.annotate("", tip, tail, arrowprops={**arrow, "color": colour, "ls": line})
            axes.text(length / 2, -0.08 * reach, "w", ha="center", va="top")
            axes.text(length + 0.08 * reach, step / 2, "step", color=COLOURS["orange"])
            axes.text(
                length / 2 - 0.05 * reach,
                step / 2 + 0.09 * reach,
                "new w",
                color=COLOURS["blue"],
                ha="right",
            )
            axes.set_title(
                f"length {length:g} → {new:.2f}\nturned by {angle:.0f}°", fontweight="normal"
            )
            axes.set_xlim(-0.1 * reach, 1.3 * reach)
            axes.set_ylim(-0.25 * reach, 1.1 * reach)
            axes.set_aspect("equal")
            axes.axis("off")
            words.append(f"length {length:g}: becomes {new:.2f}, turned by {angle:.0f} degrees")
        headline(figure, title)
    return Drawing(
        figure,
        f"{title}. Weight vectors drawn to the right, each with a step at a right angle to it and "
        f"the vector after the step. {'; '.join(words)}.",
    )
