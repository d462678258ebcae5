"""The explorers, as a reader's browser computes them: they say what `bn_core` says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, Page

from bn_core import batch_norm_backward, batch_norm_forward
from bn_core.experiments import figure1, higher_learning_rates
from bn_core.lab.probes import steep_interval, value_and_slope
from tests.site import checks
from tests.site.checks import Visit, visit

BATCH = "chapters/05_algorithm_1"
SATURATION = "chapters/03_saturation"
TIME = "chapters/09_activations_over_time"
RATE = "chapters/10_higher_learning_rates"
RESULTS = Path(__file__).parents[2] / "results"
every_explorer = pytest.mark.parametrize("name", [BATCH, SATURATION, TIME, RATE])


class Explorer:
    """The explorer of a page: its sliders, and the rows that it computed."""

    def __init__(self, seen: Visit) -> None:
        self.seen = seen
        self.page: Page = seen.page
        self.page.locator("figure:has(> .explorer), .explorer").first.wait_for(state="attached")
        self.page.locator(".cell:has(+ .explorer), figure:has(.explorer)").first.evaluate(
            "node => node.scrollIntoView({block: 'center'})"
        )
        self.page.wait_for_selector(".explorer[data-ready]", timeout=20_000)
        self.page.wait_for_selector("figure.explorer-drawn")

    def set(self, **values: Any) -> None:
        """Move sliders by their labels, as their `input` event says it."""
        for name, value in values.items():
            found = self.page.evaluate(
                """([name, value]) => {
                  const input = document.querySelector(`.explorer-controls [name="${name}"]`);
                  if (!input) return false;
                  if (input.type === "checkbox") input.checked = value;
                  else input.value = value;
                  input.dispatchEvent(new Event("input", {bubbles: true}));
                  input.dispatchEvent(new Event("change", {bubbles: true}));
                  return true;
                }""",
                [name, value],
            )
            assert found, f"no control {name}"
        self.page.evaluate(
            "() => document.querySelector('.explorer').view.runAsync().then(() => true)"
        )

    def choose(self, **values: float) -> None:
        """Choose in lists by what is written there, as their `change` event says it."""
        for name, value in values.items():
            lists = self.page.locator(f".explorer-controls select[name={name}]")
            lists.select_option(label=f"{value:g}")
        self.page.evaluate(
            "() => document.querySelector('.explorer').view.runAsync().then(() => true)"
        )

    def rows(self, field: str) -> list[dict[str, Any]]:
        """The rows of the last data set that has a field."""
        rows = self.page.evaluate(
            """field => {
              const view = document.querySelector(".explorer").view;
              const sets = view.getState({data: () => true, signals: () => false}).data;
              const found = Object.keys(sets).map(name => view.data(name))
                .filter(rows => rows.length && field in rows[0]);
              return JSON.stringify(found.at(-1) ?? []);
            }""",
            field,
        )
        return list(json.loads(rows))

    @property
    def status(self) -> str:
        return str(self.page.text_content(".explorer-status"))


@pytest.fixture(scope="module")
def explorer(browser: Browser, origin: str) -> Iterator[Callable[..., Explorer]]:
    made: dict[tuple[str, str], Explorer] = {}

    def load(name: str, theme: str = "light") -> Explorer:
        if (name, theme) not in made:
            made[name, theme] = Explorer(visit(browser, origin, f"{name}.html", theme))
        return made[name, theme]

    yield load
    for one in made.values():
        one.page.context.close()


@pytest.mark.parametrize(
    ("x", "gamma", "beta", "log_eps", "arrives"),
    [
        ([-1.5, -1.0, -0.6, -0.2, 0.3, 0.8, 1.2, 1.5], 1.0, 0.0, -5.0, 1),
        ([4.0, -1.0, -0.6, -0.2, 0.3, 0.8, 1.2, -4.0], -2.5, 1.3, -5.0, 8),
        ([0.5, 0.6, 0.5, 0.6, 0.5, 0.6, 0.5, 3.9], 0.7, -3.0, 0.0, 4),
        ([1.0] * 8, 2.0, 0.4, -2.0, 2),
    ],
)
def test_the_batch_explorer_is_algorithm_1_and_its_gradient(
    explorer: Callable[..., Explorer],
    x: list[float],
    gamma: float,
    beta: float,
    log_eps: float,
    arrives: int,
) -> None:
    page = explorer(BATCH)
    page.set(**{f"x{i}": v for i, v in enumerate(x, 1)})
    page.set(gamma=gamma, beta=beta, log_eps=log_eps, arrives=str(arrives))
    batch = torch.tensor(x, dtype=torch.float64)[:, None]
    y, cache = batch_norm_forward(
        batch, *torch.tensor([[gamma], [beta]], dtype=torch.float64), 10**log_eps
    )
    dy = torch.zeros_like(batch)
    dy[arrives - 1] = 1
    dx, _, _ = batch_norm_backward(dy, cache)
    rows = sorted(page.rows("dx"), key=lambda row: row["i"])
    expected = {
        "mu": batch.mean(0).expand(8, 1),
        "var": batch.var(0, correction=0).expand(8, 1),
        "x_hat": cache.x_hat,
        "y": y,
        "dx": dx,
    }
    for name, values in expected.items():
        found = torch.tensor([row[name] for row in rows], dtype=torch.float64)
        torch.testing.assert_close(found, values[:, 0], rtol=1e-9, atol=1e-9, msg=name)
    told = re.match(r"mean (.+), variance (.+?);", page.status.replace("\u2212", "-"))
    assert told is not None
    expected_text = [batch.mean().item(), batch.var(correction=0).item()]
    assert [float(number) for number in told.groups()] == pytest.approx(expected_text, abs=6e-4)


def test_one_point_that_moves_moves_every_output(explorer: Callable[..., Explorer]) -> None:
    page = explorer(BATCH)
    page.set(gamma=1, beta=0, log_eps=-5, arrives="1")
    page.set(**{f"x{i}": v for i, v in enumerate([-1.5, -1, -0.6, -0.2, 0.3, 0.8, 1.2, 1.5], 1)})
    assert "moved: 0 of 8" in page.status
    page.set(x1=-1.4)
    assert "moved: 8 of 8" in page.status


@pytest.mark.parametrize(
    ("scale", "bias", "bn", "gamma", "beta"),
    [
        (0.4, 0.0, False, 1.0, 0.0),
        (1.6, -2.5, False, 1.0, 0.0),
        (0.02, 0.0, True, 1.0, 0.0),
        (1.6, 4.0, True, 5.5, -1.2),
    ],
)
def test_the_saturation_explorer_counts_and_averages_as_the_package_does(
    explorer: Callable[..., Explorer],
    scale: float,
    bias: float,
    bn: bool,
    gamma: float,
    beta: float,
) -> None:
    page = explorer(SATURATION)
    page.set(scale=scale, bias=bias, bn=bn, gamma=gamma, beta=beta)
    stored = page.page.evaluate(
        """() => {
          const spec = JSON.parse(document.querySelector(".explorer script").textContent);
          return JSON.stringify(spec.data.values.map(unit => unit.v));
        }"""
    )
    x = scale * torch.tensor(json.loads(stored), dtype=torch.float64).T + bias
    d = x.shape[1]
    full = torch.tensor([[gamma], [beta]], dtype=torch.float64).expand(2, d)
    y = batch_norm_forward(x, *full)[0] if bn else x
    edges = steep_interval(torch.sigmoid)
    assert edges is not None
    [row] = page.rows("status")
    assert row["dead"] == pytest.approx((y.abs() > edges[1]).double().mean().item(), abs=1e-12)
    slope = value_and_slope(torch.sigmoid, y)[1].mean().item()
    assert row["slope"] == pytest.approx(slope, rel=1e-5)
    assert sum(bar["n"] for bar in page.rows("high")) == x.numel()
    assert f"{100 * row['dead']:.1f} %" in page.status


@pytest.mark.parametrize("moment", [1, 12, 33])
def test_the_time_explorer_shows_the_record(explorer: Callable[..., Explorer], moment: int) -> None:
    page = explorer(TIME)
    page.set(moment=moment)
    record = figure1.recorded(RESULTS)
    step = figure1.histogram_at(50_000)[moment - 1]
    [row] = page.rows("status")
    assert row["step"] == step
    assert f"step {step:,}" in page.status
    for k, arm in enumerate(("plain", "bn")):
        run = record.one(arm, 0)
        shown = [row[f"{name}{k}"] for name in ("low", "mid", "high")]
        assert shown == pytest.approx(run.typical[run.steps.index(step)], abs=6e-4)


@pytest.mark.parametrize(("moment", "kind"), [(20, "units"), (33, "typical")])
def test_the_time_explorers_histograms_are_the_records(
    explorer: Callable[..., Explorer], moment: int, kind: str
) -> None:
    page = explorer(TIME)
    page.set(moment=moment, kind={"units": "all units", "typical": "the typical unit"}[kind])
    record = figure1.recorded(RESULTS).one("bn", 0).histograms
    counted = getattr(record, kind)[moment - 1]
    rows = page.rows("right")
    assert [row["n"] for row in rows] == counted
    assert [row["left"] for row in rows] == pytest.approx(record.edges[:-1])
    assert [row["share"] for row in rows] == pytest.approx([n / sum(counted) for n in counted])


@pytest.mark.parametrize(("rate", "scale"), [(0.1, 1.0), (1.0, 0.001), (316.0, 10.0)])
def test_the_learning_rate_explorer_shows_the_record(
    explorer: Callable[..., Explorer], rate: float, scale: float
) -> None:
    page = explorer(RATE)
    page.choose(chosen_rate=rate, chosen_scale=scale)
    record = higher_learning_rates.recorded(RESULTS)
    rows = page.rows("accuracy")
    assert len(rows) == 2 * len(record.steps)
    for label, network in (("with BN", "bn"), ("without BN", "plain")):
        curve = record.curves(rate, scale)[network]
        shown = {row["step"]: row["accuracy"] for row in rows if row["series"] == label}
        assert list(shown) == list(record.steps)
        assert list(shown.values()) == pytest.approx(curve, abs=6e-5)
        assert f"{label}: {100 * curve[-1]:.1f} %" in page.status
    assert f"learning rate {rate:g}, scale {scale:g};" in page.status


def test_the_learning_rate_explorers_maps_are_the_record(
    explorer: Callable[..., Explorer],
) -> None:
    record = higher_learning_rates.recorded(RESULTS)
    cells = explorer(RATE).page.evaluate(
        """() => {
          const view = document.querySelector(".explorer").view;
          const sets = view.getState({data: () => true, signals: () => false}).data;
          return JSON.stringify(Object.keys(sets).map(name => view.data(name))
            .filter(rows => rows.length > 1 && "final" in rows[0])
            .map(rows => rows.map(({rate, scale, final}) => [rate, scale, final])));
        }"""
    )
    listed = json.loads(cells)
    maps = [rows for k, rows in enumerate(listed) if rows not in listed[:k]]
    assert len(maps) == 2  # Vega keeps some of its data twice
    for network, found in zip(("bn", "plain"), maps, strict=True):
        table = record.map(network)
        assert len(found) == table.size
        for rate, scale, final in found:
            cell = table[record.scales.index(scale), record.rates.index(rate)]
            assert final == pytest.approx(cell, abs=6e-5)


def test_a_click_on_a_map_chooses_the_cell(explorer: Callable[..., Explorer]) -> None:
    page = explorer(RATE)
    page.choose(chosen_rate=0.1, chosen_scale=1.0)
    cells = page.page.locator(".explorer-chart .mark-rect path")
    for cell in (cells.nth(3), cells.nth(20)):
        row = cell.evaluate("path => [path.__data__].flat()[0].datum")
        cell.click(force=True)
        page.page.wait_for_timeout(200)
        assert f"learning rate {row['rate']:g}, scale {row['scale']:g};" in page.status
        chosen = page.page.locator(".explorer-controls select").evaluate_all(
            "all => all.map(select => Number(select.selectedOptions[0].textContent))"
        )
        assert chosen == [row["rate"], row["scale"]]


@pytest.mark.parametrize("up", [30, -500])
def test_a_point_can_be_dragged(explorer: Callable[..., Explorer], up: int) -> None:
    page = explorer(BATCH)
    page.set(**{f"x{i}": v for i, v in enumerate([-1.5, -1, -0.6, -0.2, 0.3, 0.8, 1.2, 1.5], 1)})
    page.page.locator(".explorer-chart").scroll_into_view_if_needed()
    box = page.page.locator(".explorer-chart .moving_marks path").nth(2).bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.page.mouse.move(x, y)
    page.page.mouse.down()
    page.page.mouse.move(x, y - up, steps=4)
    page.page.mouse.up()
    page.page.mouse.move(x, y + 100)  # it has been let go
    page.page.wait_for_timeout(200)
    rows = {row["i"]: row["x"] for row in page.rows("dx")}
    height = page.page.evaluate(
        "() => document.querySelector('.explorer').view.scale('concat_0_y')(-4)"
    )
    expected = -4.0 if up < 0 else -0.6 + 8 * up / height
    assert rows[3] == pytest.approx(expected, abs=0.06)
    assert [rows[i] for i in (1, 2, 4, 8)] == [-1.5, -1, -0.2, 1.5]
    assert page.page.locator(".explorer-controls [name=x3]").input_value() == f"{rows[3]:g}"
    assert "moved: 8 of 8" in page.status


@every_explorer
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_drawn_explorer_is_accessible_and_loads_without_an_error(
    explorer: Callable[..., Explorer], name: str, theme: str
) -> None:
    page = explorer(name, theme)
    page.page.set_viewport_size({"width": 1400, "height": 900})
    assert checks.inaccessible(page.page, "figure.explorer-drawn") == []
    assert checks.loading_faults(page.seen) == []
    assert checks.foreign_requests(page.seen) == []
    turned = page.page.eval_on_selector(
        ".explorer-chart svg", "svg => getComputedStyle(svg).filter.includes('invert')"
    )
    assert turned == (theme == "dark")


@every_explorer
def test_an_explorer_fits_a_phone(explorer: Callable[..., Explorer], name: str) -> None:
    page = explorer(name)
    assert checks.sideways_scroll(page.page, width=400) == []
    page.page.wait_for_timeout(500)  # it is drawn anew, with one panel below the other
    assert checks.sideways_scroll(page.page, width=400) == []
    chart = page.page.locator(".explorer-chart svg").bounding_box()
    assert chart is not None
    assert chart["x"] >= 0
    assert chart["x"] + chart["width"] <= 400
    page.page.set_viewport_size({"width": 1400, "height": 900})
    page.page.wait_for_timeout(500)


@every_explorer
def test_every_control_has_a_label_and_obeys_the_keyboard(
    explorer: Callable[..., Explorer], name: str
) -> None:
    page = explorer(name)
    unlabelled = page.page.eval_on_selector_all(
        ".explorer-controls :is(input, select)",
        "all => all.filter(i => !i.labels.length || !i.labels[0].textContent.trim()).length",
    )
    assert unlabelled == 0
    control = page.page.locator(".explorer-controls :is(input[type=range], select)").first
    control.focus()
    ring = control.evaluate("i => getComputedStyle(i).outlineStyle")
    control.press("Home")
    page.page.wait_for_timeout(200)
    before = page.status
    further = control.evaluate("i => i.tagName === 'SELECT' ? 'ArrowDown' : 'ArrowRight'")
    control.press(further)
    control.press(further)
    page.page.wait_for_timeout(200)
    assert page.status != before
    assert ring != "none"


@every_explorer
def test_vega_is_loaded_only_when_an_explorer_comes_near(
    browser: Browser, origin: str, name: str
) -> None:
    seen = visit(browser, origin, f"{name}.html")
    assert not [url for url in seen.requests if url.endswith("vega.js")]
    seen.page.context.close()


def test_a_page_without_an_explorer_does_not_load_the_script(browser: Browser, origin: str) -> None:
    seen = visit(browser, origin, "intro.html")
    assert not [url for url in seen.requests if "explorers.js" in url or "vega.js" in url]
    seen.page.context.close()


@every_explorer
def test_without_scripts_and_on_paper_there_is_the_picture(
    browser: Browser, origin: str, explorer: Callable[..., Explorer], name: str
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{origin}{name}.html")
    picture = page.locator("div.cell:has(+ .explorer) figure img")
    assert picture.is_visible()
    described = picture.get_attribute("alt") or ""
    assert "An explorer" in described
    assert not page.locator(".explorer").is_visible()
    context.close()
    drawn = explorer(name).page
    assert drawn.text_content(".explorer-description") == described
    drawn.emulate_media(media="print")
    assert drawn.locator("figure.explorer-drawn img").is_visible()
    assert not drawn.locator(".explorer-chart").is_visible()
    drawn.emulate_media(media="screen")
    assert not drawn.locator("figure.explorer-drawn img").is_visible()
