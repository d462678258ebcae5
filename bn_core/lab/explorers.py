"""Explorers: charts with sliders, computed in the browser from the data that they carry.

Each function takes plain arrays and returns an `Explorer`: a Vega-Lite chart, a picture of it as it
is at first, and a description in words. JupyterLab draws the chart; where there is no Vega-Lite, as
on paper, the picture is shown. The book's pages draw it with the copy of Vega that the book serves,
so that a reader needs no kernel and no network.

A chart computes what `bn_core` computes, in Vega's expressions. The book's tests set its sliders in
a browser and compare the values with `bn_core`'s.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import torch
import vl_convert
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor

from bn_core.algorithms import batch_norm_backward, batch_norm_forward
from bn_core.lab.plots import COLOURS, FAINT, INK, PIXELS, Look
from bn_core.lab.probes import steep_interval

VEGA_LITE = "5.20"  # what Altair 5.5 writes, and JupyterLab and the book's bundle read
MIME = "application/vnd.vegalite.v5+json"
EPS = 1e-5
WIDTH, HEIGHT = 270, 150  # of a panel, in pixels: one fits a phone, two a page
MOVING = "moving"  # the name of marks that can be dragged
CHOOSING = "choosing"  # the beginning of the names of marks that can be clicked
ZONES = 12  # the histogram of the saturation explorer is from -12 to 12


@dataclass(frozen=True)
class Explorer:
    """A chart with sliders, and what it shows at first, in words.

    Attributes:
        spec: the chart in Vega-Lite, with its data.
        description: one paragraph, for a reader who does not see the chart.
    """

    spec: dict[str, Any]
    description: str

    def png(self) -> bytes:
        """The chart as it is before a slider is moved, at twice the resolution of a page."""
        picture = vl_convert.vegalite_to_png(self.spec, vl_version=VEGA_LITE, scale=2)
        buffer = io.BytesIO()
        Image.open(io.BytesIO(picture)).convert("RGB").quantize(128).save(
            buffer, format="png", optimize=True
        )
        return buffer.getvalue()

    def __repr__(self) -> str:
        return self.description

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data = {
            MIME: self.spec,
            "image/png": base64.b64encode(self.png()).decode(),
            "text/plain": self.description,
        }
        return data, {"image/png": {"width": PIXELS}}


def batch(x: Sequence[float], *, gamma: float = 1.0, beta: float = 0.0) -> Explorer:
    """A mini-batch of one feature whose values can be moved: mu, var, x_hat, y and dx follow.

    The gradient that arrives, dy, is 1 at one example, which can be chosen, and 0 at the others.
    Pale rings stay where the points were at first. On the book's pages the points of the first
    panel can be dragged as well.

    Args:
        x: (m,) the values at first, at least 2, each in [-4, 4].
        gamma: scale at first, in [-3, 3].
        beta: shift at first, in [-3, 3].

    Raises:
        ValueError: a value or a parameter is out of its slider's range, or there are fewer than 2.
    """
    values = [float(value) for value in x]
    in_range = all(abs(v) <= 4 for v in values) and all(abs(p) <= 3 for p in (gamma, beta))
    if len(values) < 2 or not in_range:  # NaN is in no range
        raise ValueError(
            f"batch: x is {values}, gamma {gamma} and beta {beta}; give at least 2 values in "
            "[-4, 4], and gamma and beta in [-3, 3]"
        )
    start = torch.tensor(values, dtype=torch.float64)[:, None]
    scale, shift = (torch.tensor([p], dtype=torch.float64) for p in (gamma, beta))
    y, cache = batch_norm_forward(start, scale, shift, EPS)
    x_hat, _ = batch_norm_forward(start, torch.ones_like(scale), torch.zeros_like(shift), EPS)
    dx, _, _ = batch_norm_backward(torch.eye(len(values), 1, dtype=torch.float64), cache)
    at_first = np.round(torch.cat([start, x_hat, y, dx], 1).numpy(), 4)
    rows = [
        {
            "i": i,
            "slider": f"x{i}",
            **{f"{name}0": value for name, value in zip(_STAGES, row, strict=True)},
        }
        for i, row in enumerate(at_first.tolist(), 1)
    ]
    places = list(range(1, len(values) + 1))
    params = [
        *(_slider(f"x{i}", f"x{i}", -4, 4, 0.1, values[i - 1]) for i in places),
        _slider("gamma", "gamma", -3, 3, 0.1, gamma),
        _slider("beta", "beta", -3, 3, 0.1, beta),
        _slider("log_eps", "log10 of eps", -5, 1, 0.5, -5),
        alt.param(
            name="arrives",
            value=1,
            bind=alt.binding_select(options=places, name="dy is 1 at point"),
        ),
    ]
    panels = [_points(name, title, len(values)) for name, title in _STAGES.items()]
    chart = _together(
        [*panels, _numbers()],
        alt.Data(values=rows),
        params,
        "Move one point, and all outputs move",
    )
    chart = (
        chart.transform_calculate(
            x=f"[{', '.join(f'x{i}' for i in places)}][datum.i - 1]",
            dy="datum.i == arrives ? 1 : 0",
        )
        .transform_joinaggregate(mu="mean(x)", var="variancep(x)", dy_mean="mean(dy)")
        .transform_calculate(x_hat="(datum.x - datum.mu) / sqrt(datum.var + pow(10, log_eps))")
        .transform_calculate(y="gamma * datum.x_hat + beta", along="datum.dy * datum.x_hat")
        .transform_joinaggregate(along_mean="mean(along)")
        .transform_calculate(
            dx="gamma / sqrt(datum.var + pow(10, log_eps))"
            " * (datum.dy - datum.dy_mean - datum.x_hat * datum.along_mean)",
            moved="abs(datum.y - datum.y0) > 0.0005 ? 1 : 0",
            others="datum.i != arrives && abs(datum.dx) > 0.0005 ? 1 : 0",
        )
    )
    mu, var = start.mean().item(), start.var(correction=0).item()
    spec = chart.to_dict()
    spec["usermeta"] = {"drag": {"marks": MOVING, "param": "slider", "scale": "concat_0_y"}}
    return Explorer(
        spec,
        f"An explorer with a slider for each of {len(values)} values, for gamma, beta and eps, and "
        "a choice of the example at which the gradient dy is 1. Four panels show x, x_hat, y and "
        f"dx of each example. At first x is {', '.join(f'{v:g}' for v in values)}, with mean "
        f"{mu:.2f} and variance {var:.2f}; y is {', '.join(f'{v:.2f}' for v in at_first[:, 2])}; "
        f"dx is {', '.join(f'{v:.2f}' for v in at_first[:, 3])}.",
    )


_STAGES = {
    "x": "x: what enters",
    "x_hat": "x_hat: normalized",
    "y": "y: what leaves",
    "dx": "dx: the gradient sent back",
}


def _points(name: str, title: str, examples: int) -> alt.LayerChart:
    """One panel of the batch explorer: a value for each example, and where it was at first."""
    base = alt.Chart(title=title).encode(
        x=alt.X("i:O", title="example", axis=alt.Axis(labelAngle=0, grid=False))
    )
    # x and x_hat on one scale, which holds what x_hat can be: within the root of m - 1.
    bounds = {"x": 4.0, "x_hat": max(4.0, math.sqrt(examples - 1))}
    scale = alt.Scale(domain=[-bounds[name], bounds[name]]) if name in bounds else alt.Undefined
    height = alt.Y(f"{name}:Q", title=None, scale=scale)
    colour = COLOURS["orange" if name == "dx" else "blue"]
    zero = alt.Chart().mark_rule(color=FAINT).encode(y=alt.datum(0))
    stems = base.mark_rule(color=colour, strokeWidth=2).encode(y=height, y2=alt.datum(0))
    points = base.mark_circle(color=colour, size=70, opacity=1).encode(y=height)
    if name == "x":
        points = points.properties(name=MOVING)
    before = base.mark_point(color=FAINT, size=90, opacity=0.8).encode(
        y=alt.Y(f"{name}0:Q", title=None)
    )
    return alt.layer(zero, before, stems, points).properties(width=WIDTH, height=HEIGHT)


def _numbers() -> alt.Chart:
    """The numbers of the batch explorer."""
    return _status(
        alt.Chart()
        .transform_aggregate(
            mu="mean(mu)", var="mean(var)", moved="sum(moved)", others="sum(others)", m="count()"
        )
        .transform_calculate(
            status=_lines(
                "'mean ' + format(datum.mu, '.3f') + ', variance ' + format(datum.var, '.3f')",
                "'outputs y that moved: ' + datum.moved + ' of ' + datum.m",
                "'other points the gradient reaches: ' + datum.others + ' of ' + (datum.m - 1)",
            )
        )
    )


def saturation(pre_activations: Tensor, *, init_std: float = 1.0) -> Explorer:
    """The pre-activations of a mini-batch against the sigmoid, with sliders for what scales them.

    The weights are multiplied by one slider and a bias is added by another; with batch
    normalization each unit is then normalized over the mini-batch, with gamma and beta. Numbers say
    which share is in the dead zone, and what is left of a gradient on average: the mean slope.

    Args:
        pre_activations: (m, d), of a layer whose weights have standard deviation 1; rounded to two
            decimals.
        init_std: standard deviation of the weights at first, in (0, 2].

    Raises:
        ValueError: not such a shape, values that are not finite, or a standard deviation out of its
            slider's range.
    """
    if not pre_activations.isfinite().all():
        raise ValueError(
            "saturation: pre_activations has values that are NaN or infinite; all must be finite"
        )
    if pre_activations.dim() != 2 or not 0 < init_std <= 2:
        raise ValueError(
            f"saturation: pre_activations has shape {tuple(pre_activations.shape)} and init_std is "
            f"{init_std}; they must be (m, d) and in (0, 2]"
        )
    values = np.round(pre_activations.double().numpy(), 2)
    edges = steep_interval(torch.sigmoid)
    assert edges is not None
    dead_zone = edges[1]
    rows = [{"unit": i, "v": unit.tolist()} for i, unit in enumerate(values.T)]
    params = [
        _slider("scale", "standard deviation of the weights", 0.02, 2, 0.02, init_std),
        _slider("bias", "bias", -6, 6, 0.1, 0),
        alt.param(name="bn", value=False, bind=alt.binding_checkbox(name="batch normalization")),
        _slider("gamma", "gamma", 0, 6, 0.1, 1),
        _slider("beta", "beta", -6, 6, 0.1, 0),
    ]
    axis = alt.X(
        "low:Q",
        title="what enters the sigmoid",
        scale=alt.Scale(domain=[-ZONES, ZONES], nice=False),
    )
    zones = (
        alt.Chart(alt.Data(values=[{"a": -ZONES, "b": -dead_zone}, {"a": dead_zone, "b": ZONES}]))
        .mark_rect(color="#bbbbbb", opacity=0.35)
        .encode(x="a:Q", x2="b:Q")
    )
    bars = (
        alt.Chart()
        .transform_calculate(low=f"clamp(floor(2 * datum.y) / 2, {-ZONES}, {ZONES - 0.5})")
        .transform_aggregate(n="count()", groupby=["low"])
        .transform_calculate(high="datum.low + 0.5", share=f"datum.n / {values.size}")
        .mark_bar(color=COLOURS["blue"], opacity=0.75, binSpacing=1)
        .encode(
            x=axis,
            x2="high:Q",
            y=alt.Y("share:Q", title="share of the values"),
            y2=alt.datum(0),
        )
    )
    curves = (
        alt.Chart(alt.sequence(-ZONES, ZONES + 0.05, 0.1, as_="low"))
        .transform_calculate(sigmoid="1 / (1 + exp(-datum.low))")
        .transform_calculate(slope="4 * datum.sigmoid * (1 - datum.sigmoid)")
        .transform_fold(["sigmoid", "slope"], as_=["curve", "height"])
        .transform_calculate(curve="datum.curve == 'slope' ? 'its derivative, ×4' : 'sigmoid'")
        .mark_line(strokeWidth=2)
        .encode(
            x=axis,
            y=alt.Y("height:Q", title=None, axis=alt.Axis(grid=False)),
            color=alt.Color(
                "curve:N",
                title=None,
                scale=alt.Scale(
                    domain=["sigmoid", "its derivative, ×4"], range=[INK, COLOURS["orange"]]
                ),
                legend=alt.Legend(orient="top"),
            ),
            strokeDash=alt.StrokeDash(
                "curve:N",
                title=None,
                scale=alt.Scale(domain=["sigmoid", "its derivative, ×4"], range=[[1, 0], [5, 3]]),
            ),
        )
    )
    numbers = _status(
        alt.Chart()
        .transform_aggregate(dead="mean(dead)", slope="mean(slope)", y_mean="mean(y)")
        .transform_calculate(
            status=_lines(
                "'in the dead zone (grey): ' + format(100 * datum.dead, '.1f') + ' %'",
                "'mean slope: ' + format(datum.slope, '.4f') + ', ' "
                "+ format(400 * datum.slope, '.1f') + ' % of the largest'",
            )
        )
    )
    chart = _together(
        [
            alt.layer(alt.layer(zones, bars), curves)
            .resolve_scale(y="independent")
            .properties(width=WIDTH, height=220),
            numbers,
        ],
        alt.Data(values=rows),
        params,
        "A batch of digits against a sigmoid",
    )
    chart = (
        chart.transform_flatten(["v"])
        .transform_calculate(x="scale * datum.v + bias")
        .transform_joinaggregate(mu="mean(x)", var="variancep(x)", groupby=["unit"])
        .transform_calculate(
            y=f"bn ? gamma * (datum.x - datum.mu) / sqrt(datum.var + {EPS}) + beta : datum.x"
        )
        .transform_calculate(
            slope="exp(-abs(datum.y)) / pow(1 + exp(-abs(datum.y)), 2)",
            dead=f"abs(datum.y) > {dead_zone} ? 1 : 0",
        )
    )
    scaled = torch.from_numpy(values) * init_std
    share = (scaled.abs() > dead_zone).double().mean().item()
    slope = (scaled.sigmoid() * (1 - scaled.sigmoid())).mean().item()
    return Explorer(
        chart.to_dict(),
        "An explorer with sliders for the standard deviation of the weights, the bias, gamma and "
        "beta, and a switch for batch normalization. A histogram of what enters the sigmoids of "
        f"{values.shape[1]} units for {len(values)} digits, with the sigmoid and its derivative. "
        f"At first, without batch normalization at standard deviation {init_std:g}, "
        f"{100 * share:.1f} % is in the dead zone and the mean slope is {slope:.4f}.",
    )


def time(
    steps: Sequence[int],
    percentiles: Mapping[Look, ArrayLike],
    moments: Sequence[int],
    edges: Sequence[float] = (),
    histograms: Mapping[str, Mapping[Look, Sequence[Sequence[int]]]] | None = None,
) -> Explorer:
    """Percentiles over training, with a slider over moments, and histograms at that moment.

    Args:
        steps: (records,), positive, ascending.
        percentiles: for each series (records, 3), the 15th, 50th and 85th.
        moments: (moments,), the steps to choose from, some of `steps`.
        edges: (bins + 1,) of the histograms.
        histograms: by what they are of, such as "typical unit", for each of the same series
            (moments, bins) counts; None or empty for none.

    Raises:
        ValueError: a moment that is none of the steps, or a histogram of another length.
    """
    if missing := sorted(set(moments) - set(steps)):
        raise ValueError(f"time: moments {missing} are none of the steps")
    counts = {kind: dict(by_look) for kind, by_look in (histograms or {}).items()}
    for kind, by_look in counts.items():
        for look, table in by_look.items():
            if np.shape(table) != (len(moments), len(edges) - 1):
                raise ValueError(
                    f"time: histograms of {kind!r}, {look.label!r}, have shape {np.shape(table)}; "
                    f"it must be {(len(moments), len(edges) - 1)}: moments and bins"
                )
    fans = {look: np.round(np.asarray(values, float), 3) for look, values in percentiles.items()}
    low = min(fan.min() for fan in fans.values())
    high = max(fan.max() for fan in fans.values())
    params = [
        _slider("moment", f"moment, 1 to {len(moments)}", 1, len(moments), 1, len(moments)),
        alt.param(name="step", expr=f"[{', '.join(map(str, moments))}][moment - 1]"),
    ]
    if len(counts) > 1:
        kinds = list(counts)
        params.append(
            alt.param(
                name="kind",
                value=kinds[0],
                bind=alt.binding_select(options=kinds, name="histograms of"),
            )
        )
    rows = [
        {
            "series": look.label,
            "step": list(steps),
            **{name: fan[:, k].tolist() for k, name in enumerate(("low", "mid", "high"))},
        }
        for look, fan in fans.items()
    ]
    panels: list[Any] = [_fan(look, (steps[0], steps[-1]), (low, high)) for look in fans]
    if counts:
        # Of all moments and series, so that they can be compared; a higher bar is cut.
        shares = [np.asarray(t) / np.sum(t[0]) for by in counts.values() for t in by.values()]
        highest = float(np.median([table.max(1) for table in shares]).round(2))
        panels += [
            _histogram(
                look, {kind: by_look[look] for kind, by_look in counts.items()}, edges, highest
            )
            for look in fans
        ]
    quantiles = [(name, k) for k in range(len(fans)) for name in ("low", "mid", "high")]
    labels = [look.label for look in fans]
    told = alt.Chart().transform_filter("datum.step == step")
    for name, k in quantiles:
        of_series = f"datum.series == '{labels[k]}' ? datum.{name} : null"
        told = told.transform_calculate(**{f"{name}{k}": of_series})
    numbers = _status(
        told.transform_aggregate(
            step="max(step)", **{f"{name}{k}": f"max({name}{k})" for name, k in quantiles}
        ).transform_calculate(
            status=_lines(
                "'step ' + format(datum.step, ',') + ', percentiles 15, 50, 85:'",
                *(
                    f"'{label}: ' + format(datum.low{k}, '.2f') + ', ' "
                    f"+ format(datum.mid{k}, '.2f') + ', ' + format(datum.high{k}, '.2f')"
                    for k, label in enumerate(labels)
                ),
            )
        )
    )
    chart = _together(
        [*panels, numbers],
        alt.Data(values=rows),
        params,
        "What enters a sigmoid, moment by moment",
    ).transform_flatten(["step", "low", "mid", "high"])
    ends = "; ".join(
        f"{look.label} {', '.join(f'{v:.2f}' for v in fan[list(steps).index(moments[-1])])}"
        for look, fan in fans.items()
    )
    return Explorer(
        chart.to_dict(),
        f"An explorer with a slider over {len(moments)} moments of training, from step "
        f"{moments[0]:,} to {moments[-1]:,}. Panels show the 15th, 50th and 85th percentile over "
        "the steps, for each network, with a line at the chosen moment"
        + (", and histograms at that moment. " if counts else ". ")
        + f"At first it stands at the end, with the percentiles {ends}.",
    )


def _fan(look: Look, ends: tuple[int, int], limits: tuple[float, float]) -> alt.LayerChart:
    """Percentiles of one series over the steps, and a line at the chosen moment."""
    colour = COLOURS[look.colour]
    axis = alt.X(
        "step:Q",
        title="step",
        scale=alt.Scale(type="log", domain=list(ends), nice=False),
        axis=alt.Axis(values=[10, 100, 1_000, 10_000], format="~s", grid=False),
    )
    base = alt.Chart(title=look.label).transform_filter(f"datum.series == '{look.label}'")
    height = alt.Y("low:Q", title="percentiles", scale=alt.Scale(domain=list(limits)))
    return alt.layer(
        base.mark_area(color=colour, opacity=0.3).encode(x=axis, y=height, y2="high:Q"),
        base.mark_line(color=colour, strokeWidth=2).encode(x=axis, y="mid:Q"),
        base.transform_filter("datum.step == step")
        .mark_rule(color=INK, strokeWidth=2)
        .encode(x=axis),
        base.transform_filter("datum.step == step")
        .mark_rule(color=INK, strokeWidth=6)
        .encode(x=axis, y="low:Q", y2="high:Q"),
    ).properties(width=WIDTH, height=HEIGHT)


def _histogram(
    look: Look,
    tables: Mapping[str, Sequence[Sequence[int]]],
    edges: Sequence[float],
    highest: float,
) -> alt.Chart:
    """Shares of one series at the chosen moment, on an axis that reaches up to `highest`."""
    left, width = list(edges[:-1]), edges[1] - edges[0]
    rows = [
        {"kind": kind, "counts": [list(row) for row in table], "total": sum(table[0])}
        for kind, table in tables.items()
    ]
    chosen = f"datum.kind == {'kind' if len(tables) > 1 else repr(next(iter(tables)))}"
    return (
        alt.Chart(alt.Data(values=rows), title=f"{look.label}, at that moment")
        .transform_filter(chosen)
        .transform_calculate(n="datum.counts[moment - 1]", left=f"{left}")
        .transform_flatten(["n", "left"])
        .transform_calculate(right=f"datum.left + {width}", share="datum.n / datum.total")
        .mark_bar(color=COLOURS[look.colour], opacity=0.75, binSpacing=0.5, clip=True)
        .encode(
            x=alt.X("left:Q", title="what enters the sigmoid"),
            x2="right:Q",
            y=alt.Y("share:Q", title="share", scale=alt.Scale(domain=[0, highest])),
            y2=alt.datum(0),
        )
        .properties(width=WIDTH, height=HEIGHT)
    )


def learning_rate(
    rates: Sequence[float],
    scales: Sequence[float],
    steps: Sequence[int],
    accuracy: Mapping[Look, ArrayLike],
    *,
    at: tuple[float, float],
) -> Explorer:
    """A map of accuracy over learning rate and weight scale, and the curves of a chosen cell.

    A cell is chosen by its learning rate and scale; on the book's pages also by a click on a map.

    Args:
        rates: learning rates of the maps, ascending.
        scales: weight scales of the maps, ascending.
        steps: (records,) of training, positive, ascending.
        accuracy: for each series (scales, rates, records), in [0, 1].
        at: learning rate and scale at first, a cell of the maps.

    Raises:
        ValueError: a series of another shape, or `at` is no cell.
    """
    tables = {look: np.round(np.asarray(table, float), 4) for look, table in accuracy.items()}
    shape = (len(scales), len(rates), len(steps))
    for look, table in tables.items():
        if table.shape != shape:
            raise ValueError(
                f"learning_rate: accuracy of {look.label!r} has shape {table.shape}; it must be "
                f"{shape}: scales, rates and steps"
            )
    if at[0] not in rates or at[1] not in scales:
        raise ValueError(
            f"learning_rate: at is {at}; it must be one of the rates {tuple(rates)} and one of "
            f"the scales {tuple(scales)}"
        )
    series = {f"a{k}": look for k, look in enumerate(tables)}
    rows = [
        {
            "rate": rate,
            "scale": scale,
            **{name: tables[look][i, j].tolist() for name, look in series.items()},
        }
        for i, scale in enumerate(scales)
        for j, rate in enumerate(rates)
    ]
    params = [
        alt.param(
            name=name, value=value, bind=alt.binding_select(options=list(options), name=label)
        )
        for name, value, options, label in (
            ("chosen_rate", at[0], rates, "learning rate"),
            ("chosen_scale", at[1], scales, "scale of the hidden weights"),
        )
    ]
    is_chosen = "datum.rate == chosen_rate && datum.scale == chosen_scale"
    names = {f"datum.{name}[{len(steps) - 1}]": look for name, look in series.items()}
    maps = [_map(look, last, is_chosen, k) for k, (last, look) in enumerate(names.items())]
    cell = alt.Chart().transform_filter(is_chosen)
    ends = [
        f"'{look.label}: ' + format(100 * {last}, '.1f') + ' %'" for last, look in names.items()
    ]
    numbers = _status(
        cell.transform_calculate(
            status=_lines(
                "'learning rate ' + datum.rate + ', scale ' + datum.scale",
                f"'accuracy after {steps[-1]:,} steps'",
                *ends,
            )
        )
    )
    chart = _together(
        [_curves(cell, series, steps), numbers, *maps],
        alt.Data(values=rows),
        params,
        "One cell of the maps, and its curves",
    )
    spec = chart.resolve_scale(color="independent", strokeDash="independent").to_dict()
    spec["usermeta"] = {"choose": {"chosen_rate": "rate", "chosen_scale": "scale"}}
    first = {
        look.label: table[list(scales).index(at[1]), list(rates).index(at[0])]
        for look, table in tables.items()
    }
    return Explorer(
        spec,
        f"An explorer with a choice of learning rate, {len(rates)} from {rates[0]:g} to "
        f"{rates[-1]:g}, and of the scale of the weights, {len(scales)} from {scales[0]:g} to "
        f"{scales[-1]:g}. Maps show the accuracy after {steps[-1]:,} steps in every cell, "
        f"{' and '.join(first)}; beside them are the curves of the chosen cell. At first learning "
        f"rate {at[0]:g} and scale {at[1]:g} are chosen, with "
        + " and ".join(f"{100 * curve[-1]:.1f} % {label}" for label, curve in first.items())
        + ".",
    )


def _map(look: Look, last: str, is_chosen: str, place: int) -> alt.LayerChart:
    """Accuracy after the last step in every cell, the chosen one framed."""
    base = (
        alt.Chart(title=look.label)
        .transform_calculate(final=last)
        .encode(
            x=alt.X("rate:O", title="learning rate", axis=alt.Axis(labelAngle=-45)),
            y=alt.Y("scale:O", title="scale of the hidden weights", sort="descending"),
        )
    )
    shown = alt.Color(
        "final:Q",
        title="accuracy",
        scale=alt.Scale(scheme="cividis", domain=[0, 1]),
        legend=alt.Legend(
            format=".0%",
            orient="bottom",
            direction="horizontal",
            values=[0, 0.5, 1],
            gradientLength=WIDTH - 70,
            gradientThickness=10,
            titleFontWeight="normal",
        ),
    )
    return alt.layer(
        base.mark_rect(stroke="white", strokeWidth=1)
        .encode(color=shown)
        .properties(name=f"{CHOOSING}_{place}"),
        base.transform_filter(is_chosen).mark_rect(
            filled=False, stroke=COLOURS["orange"], strokeWidth=4, opacity=1
        ),
    ).properties(width=WIDTH - 70, height=HEIGHT + 20)


def _curves(cell: alt.Chart, series: Mapping[str, Look], steps: Sequence[int]) -> alt.LayerChart:
    """Accuracy over the steps in the chosen cell, a line for each series."""
    labels = [look.label for look in series.values()]
    dashes = [[1, 0] if look.line == "-" else [5, 3] for look in series.values()]
    base = (
        cell.transform_calculate(step=f"{list(steps)}")
        .transform_flatten(["step", *series])
        .transform_fold(list(series), as_=["series", "accuracy"])
        .transform_calculate(series=f"{labels}[indexof({list(series)}, datum.series)]")
        .encode(
            x=alt.X(
                "step:Q",
                title="step",
                scale=alt.Scale(type="log", domain=[steps[0], steps[-1]], nice=False),
                axis=alt.Axis(values=[5, 10, 20, 50, 100, 200, 500], grid=False),
            ),
            y=alt.Y(
                "accuracy:Q",
                title="accuracy",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format=".0%"),
            ),
            color=alt.Color(
                "series:N",
                title=None,
                scale=alt.Scale(
                    domain=labels, range=[COLOURS[look.colour] for look in series.values()]
                ),
                legend=alt.Legend(orient="top", symbolType="stroke", symbolSize=300),
            ),
            strokeDash=alt.StrokeDash(
                "series:N", title=None, scale=alt.Scale(domain=labels, range=dashes)
            ),
        )
    )
    return alt.layer(
        base.mark_line(strokeWidth=2.5),
        base.mark_point(filled=True, size=25, opacity=1),
    ).properties(width=WIDTH, height=HEIGHT)


def _slider(name: str, label: str, low: float, high: float, step: float, value: float) -> Any:
    return alt.param(
        name=name,
        value=value,
        bind=alt.binding_range(min=low, max=high, step=step, name=label),
    )


def _lines(*expressions: str) -> str:
    return f"[{', '.join(expressions)}]"


def _status(rows: alt.Chart) -> alt.Chart:
    """Lines of text: the field `status` of one row, which a page also reads to those who listen."""
    return (
        rows.mark_text(align="left", baseline="top", fontSize=12.5, lineHeight=18, color=INK)
        .encode(text="status:N", x=alt.value(0), y=alt.value(6))
        .properties(width=WIDTH, height=64)
    )


def _together(panels: Sequence[Any], data: Any, params: Sequence[Any], title: str) -> Any:
    return (
        alt.concat(
            *panels,
            columns=2,
            data=data,
            title=alt.TitleParams(title, fontSize=15, offset=12, frame="bounds"),
            spacing=18,
        )
        .add_params(*params)
        .configure(background="white", font="sans-serif", aria=False)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=INK, titleColor=INK, titleFontWeight="normal", labelFontSize=11.5,
            titleFontSize=12.5, gridColor="#dddddd", tickColor=FAINT, domainColor=FAINT,
        )
        .configure_title(anchor="start", color=INK, fontSize=13, frame="group")
        .configure_legend(labelColor=INK, labelFontSize=12)
    )  # fmt: skip
