"""Pictures that explain: drawn from a formula or a small example, in the style of `plots`.

What was measured is drawn by `bn_core.lab.plots`. Each function here, too, returns a `Drawing`: the
figure, and a description in words that is computed from what is drawn.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
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
