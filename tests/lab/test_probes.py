"""The recorder of evaluation passes, and the movement of a distribution."""

import math
from itertools import permutations
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch import nn

from bn_core import BatchNorm1d, BatchRenorm
from bn_core.lab import probes
from bn_core.lab.probes import (
    EvaluationRecorder,
    arrivals,
    counts,
    entering,
    gaussian_share_beyond,
    kurtosis,
    layer_jacobians,
    movement,
    passage,
    share_between_examples,
    shift,
    skewness,
    split_gradient,
    split_weight_gradient,
    steep_interval,
    value_and_slope,
)


@pytest.fixture
def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten()).eval()


def test_percentiles_are_those_of_what_enters_the_layer(convolutional):
    images = torch.randn(40, 1, 5, 5)
    with EvaluationRecorder(convolutional, ["2"]) as recorder, torch.no_grad():
        convolutional(images[:25])
        convolutional(images[25:])
        recorder.take(7)
    with torch.no_grad():
        entering = convolutional[1](convolutional[0](images)).flatten(1)
    expected = np.percentile(entering.numpy(), [15, 50, 85], axis=0)
    assert recorder.steps == [7]
    np.testing.assert_allclose(recorder.percentiles("2"), expected[None], rtol=1e-6)


def test_what_entered_can_be_looked_at_until_it_is_taken(convolutional):
    images = torch.randn(40, 1, 5, 5)
    with EvaluationRecorder(convolutional, ["2"]) as recorder, torch.no_grad():
        convolutional(images[:25])
        convolutional(images[25:])
        entered = recorder.entered("2")
        recorder.take(7)
        np.testing.assert_array_equal(
            np.percentile(entered, [15, 50, 85], 0)[None], recorder.percentiles("2")
        )
        with pytest.raises(RuntimeError, match="nothing entered '2' since the last take"):
            recorder.entered("2")


def test_counts_are_numpys_histogram_of_each_unit():
    values = np.random.default_rng(0).normal(size=(500, 3))
    edges = np.linspace(-5, 5, 41)
    expected = np.stack([np.histogram(unit, edges)[0] for unit in values.T], axis=1)
    np.testing.assert_array_equal(counts(values, edges), expected)


def test_the_outer_bins_are_open_and_nan_is_counted_nowhere():
    values = np.array([[-np.inf], [-7], [0.0], [0.5], [2.0], [np.inf], [np.nan]])
    assert counts(values, [-1, 0, 1, 2]).ravel().tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("low", "high", "edges"), [(-3, 3, 101), (-1, 1, 21), (0, 1, 51), (0, 10, 8), (-2.5, 2.5, 64)]
)
def test_a_value_on_an_edge_is_in_the_bin_above_it(low, high, edges):
    edges = np.linspace(low, high, edges)
    bins = [counts(edge[None, None], edges).argmax() for edge in edges]
    assert bins == [*range(len(edges) - 1), len(edges) - 2]  # the last bin is open


def test_bins_may_reach_to_infinity():
    values = np.array([[-np.inf], [-7.0], [0.0], [7.0], [np.inf], [np.nan]])
    assert counts(values, [-np.inf, 0, np.inf]).ravel().tolist() == [2, 3]


@pytest.mark.parametrize("edges", [3.0, [0.0], [0, 1, 3], [1, 0], [[0, 1], [1, 2]], [0, np.nan]])
def test_edges_that_are_not_evenly_spaced_are_refused(edges):
    with pytest.raises(ValueError, match=r"(?s)counts: edges are .* evenly spaced"):
        counts(np.zeros((2, 1)), edges)
    with pytest.raises(ValueError, match=r"values have shape \(2,\)"):
        counts(np.zeros(2), [0, 1])


def test_training_passes_are_not_looked_at(convolutional):
    with EvaluationRecorder(convolutional, ["2"]) as recorder:
        convolutional(torch.randn(4, 1, 5, 5))
        with pytest.raises(RuntimeError, match="nothing entered '2'"):
            recorder.take(0)


def test_a_take_that_fails_stores_nothing(convolutional):
    with EvaluationRecorder(convolutional, ["0", "2"]) as recorder, torch.no_grad():
        convolutional[0](torch.randn(4, 1, 5, 5))  # layer 2 sees nothing
        with pytest.raises(RuntimeError, match="nothing entered '2'"):
            recorder.take(0)
        with pytest.raises(RuntimeError, match="no record; call `take`"):
            recorder.percentiles("0")


@pytest.mark.parametrize("fails", [False, True])
def test_no_hook_stays_behind(convolutional, fails):
    recorder = EvaluationRecorder(convolutional, ["1", "2"])
    try:
        with recorder:
            assert convolutional[1]._forward_pre_hooks
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert not any(module._forward_pre_hooks for module in convolutional.modules())


def test_what_is_recorded_does_not_change_the_outputs(convolutional):
    images = torch.randn(4, 1, 5, 5)
    expected = convolutional(images)
    with EvaluationRecorder(convolutional, ["1"]):
        torch.testing.assert_close(convolutional(images), expected)


def test_an_unknown_layer_is_named_with_those_there_are(convolutional):
    with pytest.raises(ValueError, match="no layer 'relu'; it has 0, 1, 2, 3"):
        EvaluationRecorder(convolutional, ["relu"])
    recorder = EvaluationRecorder(convolutional, ["0"])
    for ask in recorder.percentiles, recorder.entered:
        with pytest.raises(KeyError, match="layer '1' was not recorded; 0 are"):
            ask("1")


def test_the_name_of_one_layer_is_not_a_list_of_layers(convolutional):
    with pytest.raises(ValueError, match=r"layers is the string '0'; give a list, \['0'\]"):
        EvaluationRecorder(convolutional, "0")


def test_a_compiled_model_is_refused_with_what_to_do(convolutional):
    with pytest.raises(RuntimeError, match=r"the model that went into torch\.compile"):
        EvaluationRecorder(torch.compile(convolutional, backend="eager"), ["0"])


@pytest.mark.parametrize("q", [50, [200], [-1], [math.nan], [[15, 85]]])
def test_percentiles_that_there_are_not_are_refused_at_once(convolutional, q):
    with pytest.raises(ValueError, match=r"EvaluationRecorder: q is .*each in \[0, 100\]"):
        EvaluationRecorder(convolutional, ["2"], q)


def test_an_evaluation_recorder_cannot_be_entered_twice_at_once(convolutional):
    with EvaluationRecorder(convolutional, ["2"]) as recorder:
        with pytest.raises(RuntimeError, match="EvaluationRecorder: already recording"):
            recorder.__enter__()
        with torch.no_grad():
            convolutional(torch.randn(5, 1, 5, 5))
        assert len(recorder.entered("2")) == 5
    with recorder, torch.no_grad():  # again, to go on
        convolutional(torch.randn(3, 1, 5, 5))
    assert len(recorder.entered("2")) == 8


# Networks that work in place, take arguments by name, or are frozen


def network(inplace=False):
    torch.manual_seed(1)
    return nn.Sequential(
        *(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(inplace)),
        *(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(inplace), nn.Linear(16, 3)),
    )


class Residual(nn.Module):
    """Not ours: as torchvision's blocks, with in-place addition and nonlinearities."""

    def __init__(self, inplace):
        super().__init__()
        torch.manual_seed(1)
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu1 = nn.ReLU(inplace)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(4)
        self.relu2 = nn.ReLU(inplace)
        self.fc = nn.Linear(4, 3)
        self.inplace = inplace

    def forward(self, x):
        x = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(x))
        y = y.add_(x) if self.inplace else y + x
        return self.fc(self.relu2(y).mean((2, 3)))


class ByName(nn.Module):
    """Its layers are called with keyword arguments."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.linear = nn.Linear(8, 3)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x):
        return self.sigmoid(input=self.linear(input=x))


class Branch(nn.Module):
    """One branch is never taken, one nonlinearity is called twice."""

    def __init__(self):
        super().__init__()
        self.taken, self.not_taken = nn.Linear(8, 3), nn.Linear(8, 3)
        self.tanh = nn.Tanh()

    def forward(self, x):
        return self.tanh(self.tanh(self.taken(x)))


@pytest.fixture
def examples():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (32,), generator=generator)
    return torch.randn(32, 8, generator=generator), labels


@pytest.mark.parametrize("training", [True, False])
def test_arrivals_are_the_same_where_later_layers_work_in_place(examples, training):
    plain, overwriting = network().train(training), network(True).train(training)
    names = [str(i) for i in range(7)]
    expected, found = (arrivals(n, names, *examples) for n in (plain, overwriting))
    for name in names:
        torch.testing.assert_close(found[name].input, expected[name].input, rtol=0, atol=0)
        torch.testing.assert_close(found[name].gradient, expected[name].gradient, rtol=0, atol=0)


def test_arrivals_of_a_residual_block_are_the_same_in_place_and_by_autograd():
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(6, 1, 5, 5, generator=generator), torch.tensor([0, 1, 2, 0, 1, 2])
    names = ["conv1", "bn1", "relu1", "conv2", "bn2", "relu2"]
    expected, found = (arrivals(Residual(i), names, images, labels) for i in (False, True))
    for name in names:
        torch.testing.assert_close(found[name].input, expected[name].input, rtol=0, atol=0)
        torch.testing.assert_close(found[name].gradient, expected[name].gradient, rtol=0, atol=0)
    plain, returned = Residual(False), []
    plain.bn1.register_forward_hook(lambda _module, _inputs, output: returned.append(output))
    loss = nn.functional.cross_entropy(plain(images), labels)
    torch.testing.assert_close(found["bn1"].gradient, *torch.autograd.grad(loss, returned))


def test_a_passage_is_the_same_where_layers_work_in_place(examples):
    expected, found = (passage(network(i), *examples, ["2", "5"]) for i in (False, True))
    for attribute in ("inputs", "slopes", "arriving", "left", "survival"):
        torch.testing.assert_close(
            getattr(found, attribute), getattr(expected, attribute), rtol=0, atol=0
        )
    assert (found.inputs[0] < 0).any()


def test_what_entered_is_kept_though_the_layer_overwrites_it(examples):
    entered = []
    for inplace in (False, True):
        model = network(inplace).eval()
        with EvaluationRecorder(model, ["2", "5"]) as recorder, torch.no_grad():
            model(examples[0])
        entered.append([recorder.entered(name) for name in ("2", "5")])
    np.testing.assert_array_equal(entered[1], entered[0])
    assert (entered[1][0] < 0).any()


def test_examples_are_not_overwritten_by_a_model_that_works_in_place(examples):
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(8, 3))
    images, labels = examples
    before = images.clone()
    passage(model, images, labels, ["0"])
    arrivals(model, ["0"], images, labels)
    assert torch.equal(images, before)
    assert not images.requires_grad


def test_layers_may_be_called_by_keyword(examples):
    images, _ = examples
    model = ByName()
    with torch.no_grad():
        expected = model.linear(images)
    torch.testing.assert_close(
        torch.as_tensor(entering(model, images, ["sigmoid"])["sigmoid"]), expected
    )
    torch.testing.assert_close(passage(model, *examples, ["sigmoid"]).inputs[0], expected)
    torch.testing.assert_close(arrivals(model, ["sigmoid"], *examples)["sigmoid"].input, expected)
    with EvaluationRecorder(model, ["sigmoid"]) as recorder, torch.no_grad():
        model(images)
    np.testing.assert_allclose(recorder.entered("sigmoid"), expected.double().numpy())


def test_gradients_arrive_in_a_frozen_network_too(examples):
    frozen = network().requires_grad_(False)
    torch.testing.assert_close(
        arrivals(frozen, ["1"], *examples)["1"].gradient,
        arrivals(network(), ["1"], *examples)["1"].gradient,
    )
    torch.testing.assert_close(
        passage(frozen, *examples, ["2", "5"]).left, passage(network(), *examples, ["2", "5"]).left
    )


@pytest.mark.parametrize(
    "look",
    [
        lambda model, layers, x, y: entering(model, x, layers),
        lambda model, layers, x, y: passage(model, x, y, layers),
        lambda model, layers, x, y: arrivals(model, layers, x, y),
    ],
    ids=["entering", "passage", "arrivals"],
)
def test_what_one_pass_cannot_show_is_said_and_no_hook_stays_behind(look, examples):
    for model, layers, error, words in (
        (Branch(), ["not_taken"], RuntimeError, "did not call layer 'not_taken'"),
        (Branch(), ["tanh"], RuntimeError, "layer 'tanh' is called more than once in a pass"),
        (Branch(), ["tanh", "tanh"], RuntimeError, "layer 'tanh' is called more than once"),
        (Branch(), [], ValueError, "layers is empty; name at least one"),
        (torch.compile(network(), backend="eager"), ["2"], RuntimeError, "the model is compiled"),
    ):
        with pytest.raises(error, match=words):
            look(model, layers, *examples)
        assert model.training
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_gradient_that_does_not_arrive_is_said(examples):
    """Of a view that a later layer overwrites in place, autograd has no gradient."""

    class View(nn.Module):
        """Uses a view before it is overwritten, if it is, and after."""

        def __init__(self, inplace):
            super().__init__()
            torch.manual_seed(1)
            self.linear, self.view = nn.Linear(8, 3), nn.Unflatten(1, (3, 1))
            self.relu = nn.ReLU(inplace)

        def forward(self, x):
            seen = self.view(self.linear(x))
            before = 2 * seen
            return (before + self.relu(seen)).flatten(1)

    with pytest.raises(RuntimeError, match=r"no gradient .* layer 'view'; .* overwrites in place"):
        arrivals(View(True), ["linear", "view"], *examples)
    assert "view" in arrivals(View(False), ["linear", "view"], *examples)
    expected, found = (arrivals(View(i), ["linear", "relu"], *examples) for i in (False, True))
    for name in expected:
        torch.testing.assert_close(found[name].gradient, expected[name].gradient)
    recurrent = nn.Sequential(nn.LSTM(8, 4), nn.Identity())
    recurrent[1].forward = lambda output: output[0][:, :3]
    with pytest.raises(TypeError, match="arrivals: layer '1' takes a tuple"):
        arrivals(recurrent, ["1"], *examples)
    with pytest.raises(RuntimeError, match="no gradient of the loss arrives at layer '0'"):
        arrivals(recurrent, ["0"], *examples)


def test_what_bfloat16_holds_enters_as_float32(examples):
    model, images = network().bfloat16(), examples[0].bfloat16()
    found = entering(model, images, ["0", "2"])
    np.testing.assert_array_equal(found["0"], images.float().numpy())
    assert found["2"].dtype == np.float32
    assert layer_jacobians(model.eval(), images, "2").dtype == torch.bfloat16


def fan(median, width):
    """One unit whose percentiles are median - width, median, median + width."""
    median, width = np.broadcast_arrays(median, width)
    return np.stack([median - width, median, median + width], axis=1)[:, :, None]


def test_what_stands_still_does_not_move():
    assert movement(fan(np.full(5, 3.0), 1.0), range(5))[0] == 0


def test_a_steady_drift_moves_by_its_length_over_root_12_widths():
    """A uniform distribution of length 6 has standard deviation 6 / sqrt(12); the width is 2."""
    steps = np.linspace(0, 1000, 5001)
    drift = fan(6 * steps / 1000, 1.0)
    assert movement(drift, steps)[0] == pytest.approx(6 / 12**0.5 / 2, rel=1e-6)


def test_a_record_stands_for_half_the_time_to_each_of_its_neighbours():
    """At 0, 2, 0 with times 1, 4, 3 of 8: mean 1, standard deviation 1, width 2."""
    assert movement(fan([0.0, 2.0, 0.0], 1.0), [0, 2, 8])[0] == pytest.approx(1 / 2)


def test_the_first_and_the_last_record_have_half_the_weight_of_one_between():
    """Weights 1/4, 1/2, 1/4 for 0, 0, 4: mean 1, variance 3."""
    assert movement(fan([0.0, 0.0, 4.0], 1.0), [0, 1, 2])[0] == pytest.approx(3**0.5 / 2)


@pytest.mark.parametrize("steps", [[0, 1, 3, 10], [0, 5, 5.5, 100, 101]])
def test_weights_over_time_are_those_of_the_trapezoid_rule(steps):
    median = np.random.default_rng(0).normal(size=len(steps))

    def over_time(f):
        pieces = (f[1:] + f[:-1]) / 2 * np.diff(steps)
        return pieces.sum() / (steps[-1] - steps[0])

    std = np.sqrt(over_time((median - over_time(median)) ** 2))
    assert movement(fan(median, 1.0), steps)[0] == pytest.approx(std / 2, rel=1e-12)


def test_movement_does_not_depend_on_unit_of_measurement_or_origin():
    rng = np.random.default_rng(0)
    wandering = fan(rng.normal(size=30), 1 + rng.random(30))
    steps = np.cumsum(rng.integers(1, 9, 30))
    assert movement(5 * wandering - 80, steps) == pytest.approx(movement(wandering, steps))


def test_records_that_are_closer_together_do_not_weigh_more():
    """A square wave, half the time at 0 and half at 2, recorded densely in its first half only."""
    steps = [*np.linspace(0, 499.5, 1000), *np.linspace(500, 1000, 101)]
    wave = fan(np.where(np.array(steps) < 500, 0.0, 2.0), 1.0)
    assert movement(wave, steps)[0] == pytest.approx(0.5, rel=1e-3)


def test_a_unit_without_a_width_has_no_movement():
    assert np.isnan(movement(fan([1.0, 1.0], 0.0), [0, 1]))


def test_movement_needs_two_records_and_their_steps():
    with pytest.raises(ValueError, match="1 records for 1 steps"):
        movement(fan([0.0], 1.0), [0])
    with pytest.raises(ValueError, match="2 records for 3 steps"):
        movement(fan([0.0, 1.0], 1.0), [0, 1, 2])
    with pytest.raises(ValueError, match="step 4 is followed by step 3; steps must ascend"):
        movement(fan([0.0, 1.0, 0.0], 1.0), [0, 4, 3])


@pytest.mark.parametrize(
    ("function", "edge"),
    [
        # s (1 - s) = 0.1 / 4 where s = (1 + sqrt(0.9)) / 2
        (nn.Sigmoid(), np.log((1 + 0.9**0.5) / (1 - 0.9**0.5))),
        (torch.sigmoid, np.log((1 + 0.9**0.5) / (1 - 0.9**0.5))),
        (nn.Tanh(), np.arctanh(0.9**0.5)),  # 1 - t^2 = 0.1
        (nn.Hardtanh(), 1.0),
        (nn.Hardsigmoid(), 3.0),
        (nn.Softsign(), 10**0.5 - 1),  # (1 + |x|)^-2 = 0.1
    ],
)
def test_a_saturating_function_is_steep_where_its_derivative_says(function, edge):
    np.testing.assert_allclose(steep_interval(function), (-edge, edge), atol=1e-6)


def test_another_share_gives_another_interval():
    """The sigmoid's derivative is at least 0.42 of its maximum for |x| <= 2."""
    share = 4 / (1 + np.exp(-2)) / (1 + np.exp(2))
    np.testing.assert_allclose(steep_interval(nn.Sigmoid(), share), (-2, 2), atol=1e-6)
    with pytest.raises(ValueError, match=r"share is 1.0; it must be in \(0, 1\)"):
        steep_interval(nn.Sigmoid(), 1.0)


@pytest.mark.parametrize(
    "function", [nn.ReLU(), nn.ReLU(inplace=True), nn.GELU(), nn.ELU(), nn.Identity(), nn.SiLU()]
)
def test_a_function_that_stays_steep_on_one_side_does_not_saturate(function):
    assert steep_interval(function) is None


def test_a_falling_function_is_steep_where_the_rising_one_is():
    def falling(x):
        return -torch.tanh(x)

    np.testing.assert_array_equal(steep_interval(falling), steep_interval(torch.tanh))


def test_the_slope_of_a_constant_is_zero():
    x = torch.randn(3)
    weight = torch.ones(3, requires_grad=True)
    for constant in (torch.ones_like, lambda x: weight * 1, lambda x: 0 * x + 1):
        value, slope = value_and_slope(constant, x)
        assert value.tolist() == [1, 1, 1]
        assert slope.tolist() == [0, 0, 0]
        assert not value.requires_grad
        assert not slope.requires_grad


def test_what_is_no_function_of_single_values_has_no_slope():
    with pytest.raises(ValueError, match=r"of x of shape \(3,\) the function makes \(\)"):
        value_and_slope(torch.sum, torch.randn(3))
    with pytest.raises(ValueError, match=r"the function makes a tuple of Tensor, Tensor"):
        value_and_slope(lambda x: (x, x), torch.randn(3))
    with pytest.raises(ValueError, match=r"x is of torch\.int64; it must be floating point"):
        value_and_slope(torch.tanh, torch.arange(3))


# A gradient's way back


@pytest.fixture
def deep():
    torch.manual_seed(0)
    hidden = (nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 4), nn.Sigmoid())
    return nn.Sequential(*hidden, nn.Linear(4, 3)).double()


def test_a_gradient_passes_through_slopes_and_weights(deep):
    images, labels = torch.randn(5, 6).double(), torch.tensor([0, 1, 2, 0, 1])
    found = passage(deep, images, labels, ["1", "3"])
    # One example at a time, by hand: dl/dz3 = W^T (p - y), then back through slope, W, slope.
    for i in range(5):
        x1 = deep[0](images[i])
        x3 = deep[2](x1.tanh())
        errors = deep[4](x3.sigmoid()).softmax(0) - torch.eye(3)[labels[i]]
        arriving = deep[4].weight.T @ errors
        slopes = 1 - x1.tanh() ** 2, x3.sigmoid() * (1 - x3.sigmoid())
        left = slopes[0] * (deep[2].weight.T @ (slopes[1] * arriving))
        torch.testing.assert_close(found.arriving[i], arriving.norm())
        torch.testing.assert_close(found.left[i], left.norm())
        torch.testing.assert_close(found.survival[i], left.norm() / arriving.norm())
        for j, (x, slope) in enumerate(zip((x1, x3), slopes, strict=True)):
            torch.testing.assert_close(found.inputs[j][i], x.detach())
            torch.testing.assert_close(found.slopes[j][i], slope.detach())


def test_the_mean_over_paths_is_that_over_every_choice_of_units(deep):
    found = passage(deep, torch.randn(2, 6).double(), torch.tensor([0, 1]), ["1", "3"])
    first, last = found.slopes
    paths = [first[:, i] * last[:, j] for i in range(4) for j in range(4)]
    torch.testing.assert_close(found.path_mean, torch.stack(paths).mean(0))


def test_a_passage_leaves_the_model_as_it_was(deep):
    deep.train()
    passage(deep, torch.randn(2, 6).double(), torch.tensor([0, 1]), ["1"])
    assert deep.training
    assert not any(module._forward_hooks for module in deep.modules())
    assert all(parameter.grad is None for parameter in deep.parameters())
    with pytest.raises(ValueError, match="layers is empty"):
        passage(deep, torch.randn(2, 6).double(), torch.tensor([0, 1]), [])
    with pytest.raises(ValueError, match="no layer '9'"):
        passage(deep, torch.randn(2, 6).double(), torch.tensor([0, 1]), ["9"])


def test_a_passage_gives_each_module_its_mode_back(deep):
    deep[1].eval()
    passage(deep, torch.randn(2, 6).double(), torch.tensor([0, 1]), ["1"])
    assert [module.training for module in deep] == [True, False, True, True, True]


def test_a_passage_needs_its_layers_in_order_and_of_single_units(deep):
    images, labels = torch.randn(2, 6).double(), torch.tensor([0, 1])
    for layers in (["3", "1"], ["1", "1"]):
        with pytest.raises(ValueError, match="name each once, in the order in which they are"):
            passage(deep, images, labels, layers)
    maps = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3))
    with pytest.raises(ValueError, match=r"layer '1' has shape \(2, 2, 3, 3\); .* \(m, units\)"):
        passage(maps, torch.randn(2, 1, 5, 5), labels, ["1"])


def test_the_tails_of_a_normal_distribution_are_counted():
    inside = NormalDist(0, 2).cdf(3) - NormalDist(0, 2).cdf(-3)
    assert gaussian_share_beyond(3, 2) == pytest.approx(1 - inside)
    assert gaussian_share_beyond(0.0, [0.5, 7]).tolist() == [1, 1]
    with pytest.raises(ValueError, match="edge is -1"):
        gaussian_share_beyond(-1, 1)
    with pytest.raises(ValueError, match=r"std has the value 0\.0"):
        gaussian_share_beyond(1, [1, 0])


def test_skewness_and_kurtosis_of_two_values_are_those_computed_by_hand():
    # 1 with share p, else 0: variance p (1 - p), skewness (1 - 2 p) / root of the variance, and
    # kurtosis (1 - 3 p (1 - p)) / variance
    x = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    root = 0.1875**0.5
    assert skewness(x).tolist() == pytest.approx([0.5 / root, 0.0])
    assert kurtosis(x).tolist() == pytest.approx([(1 - 3 * 0.1875) / 0.1875, 1.0])


@pytest.mark.parametrize(("m", "value"), [(4, 1.0), (7, 0.1), (10, 0.3), (1000, 0.1), (3, 0.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_feature_has_no_shape(m, value, dtype):
    x = torch.full((m, 2), value, dtype=dtype)
    assert skewness(x).isnan().all()
    assert kurtosis(x).isnan().all()


@pytest.mark.parametrize("moment", [skewness, kurtosis])
def test_a_shape_has_no_unit_of_measurement_and_half_precision_is_enough(moment):
    x = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)).square() * 50
    expected = moment(x.double()).float()
    torch.testing.assert_close(moment(x), expected)
    for unit in (1e9, 1e20, 1e-25):
        torch.testing.assert_close(moment(x * unit), expected)
    torch.testing.assert_close(moment(x.double() * 1e200).float(), expected)
    for narrow in (x.half(), x.bfloat16()):
        torch.testing.assert_close(moment(narrow), moment(narrow.double()).float())


def test_a_shape_needs_examples_and_numbers_with_fractions():
    with pytest.raises(ValueError, match=r"skewness: x has shape \(5,\) and type torch\.int64"):
        skewness(torch.arange(5))
    with pytest.raises(ValueError, match=r"kurtosis: x has shape \(0, 3\)"):
        kurtosis(torch.zeros(0, 3))


# How far a distribution is from what it was

NORMAL = np.array([NormalDist().inv_cdf((i + 0.5) / 20_000) for i in range(20_000)])[:, None]
WIDTH_OF_NORMAL = 2 * NormalDist().inv_cdf(0.85)


@pytest.mark.parametrize("distance", [0.0, 0.3, -2.0])
def test_a_displaced_normal_distribution_has_its_displacement_in_widths(distance):
    found = shift(1.7 * NORMAL, 1.7 * NORMAL + distance)
    assert found == pytest.approx(abs(distance) / (1.7 * WIDTH_OF_NORMAL), abs=1e-4)


def test_a_widened_normal_distribution_has_the_mean_size_of_a_normal_number():
    # |Z| has mean sqrt(2 / pi); from spread 1 to spread 3 each value moves by 2 |Z|.
    found = shift(NORMAL, 3 * NORMAL)
    assert found == pytest.approx(2 * np.sqrt(2 / np.pi) / (2 * WIDTH_OF_NORMAL), rel=1e-3)


def test_shift_is_the_least_mean_distance_over_all_ways_to_pair_the_values():
    generator = np.random.default_rng(0)
    before, after = generator.normal(size=(2, 6))
    least = min(np.abs(before - np.array(p)).mean() for p in permutations(after))
    width = np.mean([np.diff(np.percentile(x, [15, 85])) for x in (before, after)])
    assert shift(before[:, None], after[:, None]) == pytest.approx(least / width)


@pytest.mark.parametrize("k", [0.01, 30.0, -4.0])
def test_shift_has_no_unit_no_direction_and_no_order_of_examples(k):
    generator = np.random.default_rng(1)
    before, after = generator.normal(size=(50, 3)), generator.normal(2, 3, size=(50, 3))
    found = shift(before, after)
    np.testing.assert_allclose(shift(k * before + 9, k * after + 9), found)
    np.testing.assert_allclose(shift(after, before), found)
    np.testing.assert_allclose(shift(before[::-1], after), found)
    assert (shift(before, before[::-1]) == 0).all()


def test_a_shift_without_width_is_not_finite_and_shapes_must_agree():
    assert not np.isfinite(shift(np.zeros((4, 1)), np.ones((4, 1)))).any()
    with pytest.raises(ValueError, match=r"before has shape \(4, 1\) and after \(3, 1\)"):
        shift(np.zeros((4, 1)), np.zeros((3, 1)))


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_of_no_examples_there_is_no_shift():
    with pytest.raises(ValueError, match="no values to take percentiles of; give at least one"):
        shift(np.zeros((0, 2)), np.zeros((0, 2)))


def test_what_enters_layers_is_seen_in_evaluation_mode_and_nothing_stays_behind(convolutional):
    convolutional.train()
    images = torch.randn(7, 1, 5, 5)
    found = entering(convolutional, images, ["0", "2"])
    assert all(module.training for module in convolutional.modules())
    assert not any(module._forward_pre_hooks for module in convolutional.modules())
    np.testing.assert_array_equal(found["0"], images.flatten(1).numpy())
    convolutional.eval()
    with torch.no_grad():
        expected = convolutional[1](convolutional[0](images)).flatten(1)
    np.testing.assert_array_equal(found["2"], expected.numpy())
    with pytest.raises(ValueError, match="entering"):
        entering(convolutional, images, ["7"])


@pytest.mark.parametrize("shape", [(7, 3), (5, 3, 2, 2)])
def test_the_parts_of_a_gradient_are_orthogonal_and_sum_to_it(shape):
    generator = torch.Generator().manual_seed(0)
    x, dy = torch.randn(2, *shape, dtype=torch.float64, generator=generator)
    ones, x_hat, rest = (part.transpose(0, 1).flatten(1) for part in split_gradient(x, dy))
    torch.testing.assert_close(ones + x_hat + rest, dy.transpose(0, 1).flatten(1))
    for channel, values in enumerate(x.transpose(0, 1).flatten(1)):
        centred = values - values.mean()
        assert ones[channel].std() < 1e-12  # a multiple of 1
        assert abs(torch.corrcoef(torch.stack([x_hat[channel], centred]))[0, 1].abs() - 1) < 1e-12
        assert abs(rest[channel].sum()) < 1e-12
        assert abs(rest[channel] @ centred) < 1e-12


def test_a_channel_that_does_not_vary_has_no_direction_x_hat():
    ones, x_hat, rest = split_gradient(torch.ones(4, 1), torch.tensor([[1.0], [2], [3], [6]]))
    assert ones.flatten().tolist() == [3] * 4
    assert x_hat.flatten().tolist() == [0] * 4
    assert rest.flatten().tolist() == [-2, -1, 0, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_that_is_rounded_has_no_direction_x_hat_either(dtype):
    x = torch.full((1000, 2), 0.1, dtype=dtype)
    dy = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)).to(dtype) + 1
    ones, x_hat, rest = split_gradient(x, dy)
    assert (x_hat == 0).all()
    torch.testing.assert_close(ones + rest, dy)


def test_the_parts_of_a_gradient_do_not_suffer_from_a_large_mean_or_narrow_numbers():
    generator = torch.Generator().manual_seed(0)
    x, dy = torch.randn(64, 2, generator=generator) + 1e5, torch.randn(64, 2, generator=generator)
    expected = split_gradient(x.double(), dy.double())
    for part, exact in zip(split_gradient(x, dy), expected, strict=True):
        torch.testing.assert_close(part.double(), exact, rtol=1e-5, atol=1e-6)
    x = (50 * torch.randn(2000, 2, generator=generator)).half()  # the sum of squares is too large
    dy = torch.randn(2000, 2, generator=generator).half()
    expected = split_gradient(x.double(), dy.double())
    for part, exact in zip(split_gradient(x, dy), expected, strict=True):
        torch.testing.assert_close(part.double(), exact, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"split_gradient: .* of torch\.int64 .* floating point"):
        split_gradient(torch.ones(3, 2, dtype=torch.int64), torch.ones(3, 2, dtype=torch.int64))


@pytest.mark.parametrize(("x", "dy"), [((4,), (4,)), ((4, 2), (4, 3))])
def test_a_gradient_that_does_not_fit_cannot_be_split(x, dy):
    with pytest.raises(ValueError, match="split_gradient: x has shape"):
        split_gradient(torch.zeros(x), torch.zeros(dy))


def test_arrivals_are_input_and_upstream_gradient_and_leave_the_model_as_it_was(convolutional):
    convolutional.train()
    before = {name: value.clone() for name, value in convolutional.state_dict().items()}
    images, labels = torch.randn(6, 1, 3, 3), torch.tensor([0, 1, 1, 0, 1, 0])
    found = arrivals(convolutional, ["1"], images, labels)["1"]
    torch.testing.assert_close(found.input, convolutional[0](images))
    # Below the loss are a ReLU and softmax: the gradient by hand.
    y = nn.functional.batch_norm(found.input, None, None, training=True).detach()
    scores = y.relu().flatten(1)
    error = (scores.softmax(1) - nn.functional.one_hot(labels, 2)) / 6
    torch.testing.assert_close(found.gradient.flatten(1), error * (scores > 0))
    assert all(parameter.grad is None for parameter in convolutional.parameters())
    assert all(torch.equal(convolutional.state_dict()[name], before[name]) for name in before)
    assert not any(module._forward_hooks for module in convolutional.modules())


def test_arrivals_need_layers_that_are_called():
    model = nn.Linear(2, 2)
    model.register_module("spare", nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match="did not call layer 'spare'"):
        arrivals(model, ["spare"], torch.zeros(3, 2), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="no layer '9'"):
        arrivals(model, ["9"], torch.zeros(3, 2), torch.zeros(3, dtype=torch.long))


def test_the_share_between_examples_is_all_where_a_map_is_even_and_none_where_maps_are_alike():
    even = torch.randn(5, 2, 1, 1, generator=torch.Generator().manual_seed(0)).expand(5, 2, 3, 4)
    torch.testing.assert_close(share_between_examples(even), torch.ones(2).double())
    alike = even.transpose(0, 2)  # the values differ over the positions now
    torch.testing.assert_close(share_between_examples(alike), torch.zeros(2).double())


def test_independent_positions_leave_one_part_in_their_number_between_examples():
    noise = torch.randn(20_000, 1, 2, 5, generator=torch.Generator().manual_seed(0))
    assert share_between_examples(noise).item() == pytest.approx(1 / 10, rel=0.05)


def test_one_value_for_each_example_lies_wholly_between_them_and_one_example_is_refused():
    table = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(share_between_examples(table), torch.ones(2).double())
    with pytest.raises(ValueError, match=r"shape \(1, 2, 3, 3\).*at least 2"):
        share_between_examples(torch.ones(1, 2, 3, 3))


def test_the_share_between_examples_is_the_mean_correlation_of_all_pairs_of_positions():
    """Pairs of a position with itself included: r = (1 + (n - 1) rho) / n."""
    maps = torch.randn(50, 1, 2, 2, generator=torch.Generator().manual_seed(1)).cumsum(3).double()
    deviations = (maps - maps.mean()).flatten(1)
    covariances = deviations.T @ deviations / 50
    expected = covariances.mean() / covariances.diagonal().mean()
    torch.testing.assert_close(share_between_examples(maps)[0], expected)


# Jacobians of a layer


def normalized_network(norm):
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Linear(6, 5), norm(5), nn.Sigmoid(), nn.Linear(5, 4), norm(4), nn.Sigmoid()
    ).double()
    with torch.no_grad():
        for layer in (model[1], model[4]):
            layer.weight.uniform_(-2, 2)
            layer.bias.uniform_(-1, 1)
            layer.running_mean.uniform_(-1, 1)
            layer.running_var.uniform_(0.1, 3)
    return model


@pytest.mark.parametrize("norm", [BatchNorm1d, nn.BatchNorm1d])
def test_layer_jacobians_lead_from_normalized_values_to_the_next(norm):
    model = normalized_network(norm)
    images = torch.randn(3, 6).double()
    first, second = model[1], model[4]

    def standard(x, norm):
        return (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt()

    def layer(x_hat):
        z = torch.sigmoid(first.weight * x_hat + first.bias)
        return standard(model[3].weight @ z + model[3].bias, second)

    expected = torch.stack(
        [
            torch.autograd.functional.jacobian(layer, standard(model[0](image), first))
            for image in images
        ]
    )
    torch.testing.assert_close(layer_jacobians(model, images, "2"), expected)


def test_layer_jacobians_without_normalization_lead_between_pre_activations(deep):
    images = torch.randn(3, 6).double()
    expected = torch.stack(
        [
            torch.autograd.functional.jacobian(lambda x: deep[2](deep[1](x)), deep[0](image))
            for image in images
        ]
    )
    torch.testing.assert_close(layer_jacobians(deep, images, "1"), expected)


def test_layer_jacobians_need_a_linear_layer_and_statistics(deep):
    images = torch.randn(2, 6).double()
    with pytest.raises(ValueError, match=r"after '0' comes .*it must be an nn\.Linear"):
        layer_jacobians(deep, images, "0")
    bare = normalized_network(BatchNorm1d)
    bare[4] = BatchNorm1d(4, track_running_stats=False).double()
    with pytest.raises(ValueError, match="has no running statistics"):
        layer_jacobians(bare, images, "2")


@pytest.mark.parametrize("place", [1, 4])
@pytest.mark.parametrize(
    "other", [BatchRenorm, nn.SyncBatchNorm, nn.LayerNorm, lambda width: nn.GroupNorm(1, width)]
)
def test_layer_jacobians_do_not_take_an_unknown_normalization_for_none(place, other):
    model = normalized_network(BatchNorm1d)
    model[place] = other(model[place].num_features).double()
    with pytest.raises(ValueError, match=r"the Jacobian of \w+\(.* beside '2' is not known"):
        layer_jacobians(model.eval(), torch.randn(3, 6).double(), "2")


def test_layer_jacobians_need_their_layers_side_by_side():
    blocks = nn.Sequential(nn.Sequential(nn.Linear(6, 5), nn.ReLU()), nn.Linear(5, 3))
    with pytest.raises(ValueError, match=r"'0\.1' is inside a block"):
        layer_jacobians(blocks, torch.randn(2, 6), "0.1")


def test_a_weight_gradient_is_its_common_and_its_differing_part():
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(6, 4).double()
    u = torch.randn(9, 2, 3, generator=generator).double()
    x = layer(u.flatten(1))
    loss = (x.sin() * torch.arange(9).double()[:, None]).sum()
    (delta,) = torch.autograd.grad(loss, x, retain_graph=True)
    loss.backward()
    common, differing = split_weight_gradient(u, delta)
    torch.testing.assert_close(common + differing, layer.weight.grad)
    covariances = sum(
        torch.outer(delta[i] - delta.mean(0), u.flatten(1)[i] - u.flatten(1).mean(0))
        for i in range(9)
    )
    torch.testing.assert_close(differing, covariances)


def test_a_weight_gradient_of_different_examples_is_refused():
    with pytest.raises(ValueError, match=r"split_weight_gradient: given has shape \(3, 2\)"):
        split_weight_gradient(torch.ones(3, 2), torch.ones(4, 2))


def test_among_mates_an_example_is_normalized_with_them():
    norm = BatchNorm1d(2)
    x, others = torch.tensor([1.0, -2.0]), torch.tensor([[3.0, 0.0]])
    scores = probes.among_mates(norm, x, others, 3, 4, torch.Generator())
    # The one mate comes twice, so the example is two thirds of the difference below the mean, and
    # the standard deviation is a third of its root of 2 times.
    expected = torch.tensor([-(2**0.5), -(2**0.5)])
    torch.testing.assert_close(scores, expected.expand(4, 2), atol=1e-4, rtol=0)
    assert norm.num_batches_tracked == 0


def test_among_mates_needs_a_mate():
    with pytest.raises(ValueError, match=r"batch_size is 1.*at least 2"):
        probes.among_mates(
            BatchNorm1d(2), torch.zeros(2), torch.zeros(5, 2), 1, 1, torch.Generator()
        )
    for example, others, draws in (
        (torch.zeros(2), torch.zeros(5, 2), 0),
        (torch.zeros(2), torch.zeros(0, 2), 1),
        (torch.zeros(1, 2), torch.zeros(5, 2), 1),
    ):
        with pytest.raises(ValueError, match=r"among_mates: draws is .*give at least 1 draw"):
            probes.among_mates(BatchNorm1d(2), example, others, 3, draws, torch.Generator())
