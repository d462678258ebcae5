"""The recorder of training passes: on networks of any kind, without a trace in them."""

import io
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bn_core import BatchNorm1d
from bn_core.lab.models import figure1_network
from bn_core.lab.probes import BINS, FAN, MAX_CALLS, SAMPLE, Recorder


def a_batch(*shape, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator)
    return x, torch.randint(classes, (shape[0],), generator=generator)


def train(model, steps, x, labels, lr=0.1, first=0, optimizer=None):
    """A reader's own loop. Batches differ from step to step."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for step in range(first, first + steps):
        loss = F.cross_entropy(model(x + 0.01 * step), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def perceptron(seed=0, activation=nn.Sigmoid):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 7), activation(), nn.Linear(7, 3))


class Convolutional(nn.Module):
    """Not ours: a residual network of torch's layers, whose one ReLU is called three times."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.fc1 = nn.Linear(4, 6)
        self.fc2 = nn.Linear(6, 3)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(x + self.bn2(self.conv2(x)))
        return self.fc2(self.relu(self.fc1(x.mean((2, 3)))))


def no_hooks(model):
    return not any(
        module._forward_pre_hooks or module._forward_hooks or module._backward_hooks
        for module in model.modules()
    )


# ---- What a record says ------------------------------------------------------------------------


def test_distributions_are_those_of_what_enters_and_leaves():
    model, (x, labels) = perceptron(), a_batch(20, 5)
    before = model[0](x)
    after = torch.sigmoid(before)
    with Recorder(model, every=10) as recorder:
        train(model, 1, x, labels)
    history = recorder.layer("1")
    for seen, expected in ((history.input, before), (history.output, after)):
        values = expected.detach().numpy()
        np.testing.assert_allclose(seen.mean, [values.mean()], rtol=1e-5)
        np.testing.assert_allclose(seen.std, [values.std()], rtol=1e-5)
        np.testing.assert_allclose(seen.percentiles, [np.percentile(values, FAN)], rtol=1e-5)
        counts, edges = np.histogram(values, BINS)
        np.testing.assert_allclose(seen.edges[0], edges, rtol=1e-5)
        np.testing.assert_allclose(seen.shares[0], counts / values.size, atol=1e-7)


def test_the_gradient_is_that_of_the_loss_with_respect_to_what_leaves_the_layer():
    model, (x, labels) = perceptron(), a_batch(20, 5)
    after = torch.sigmoid(model[0](x)).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(model[2](after), labels), after)
    sizes = gradient.abs().numpy()
    with Recorder(model, every=10) as recorder:
        train(model, 1, x, labels)
    history = recorder.layer("1")
    np.testing.assert_allclose(history.gradient.mean, [gradient.mean().item()], atol=1e-8)
    np.testing.assert_allclose(history.gradient.std, [gradient.numpy().std()], rtol=1e-5)
    np.testing.assert_allclose(history.gradient_median, [np.percentile(sizes, 50)], rtol=1e-5)
    np.testing.assert_allclose(history.gradient_top, [np.percentile(sizes, 99)], rtol=1e-5)


def test_a_large_tensor_is_sampled_at_the_same_places_without_bias():
    """Units of different means: a sample that met some of them more often would be biased."""
    model = nn.Sequential(nn.Tanh())
    x = torch.linspace(-3, 3, 64).repeat(400, 1).requires_grad_()
    with Recorder(model, every=1) as recorder:
        for _ in range(2):
            model(x).sum().backward()
    seen = recorder.layer("0").input
    assert x.numel() > 10 * SAMPLE
    np.testing.assert_allclose(seen.mean, x.mean().item(), atol=1e-6)
    expected = np.percentile(x.detach().numpy(), FAN)
    np.testing.assert_allclose(seen.percentiles[0], expected, atol=0.1)
    np.testing.assert_array_equal(seen.percentiles[0], seen.percentiles[1])


@pytest.mark.parametrize(("activation", "edge"), [(nn.Sigmoid, 3.6369), (nn.Tanh, 1.8184)])
def test_the_saturated_share_is_that_of_values_on_the_flat_parts(activation, edge):
    model = nn.Sequential(activation())
    x = torch.linspace(-8, 8, 1001).view(7, 143).requires_grad_()
    with Recorder(model) as recorder:
        model(x)
    expected = (x.abs() > edge).float().mean().item()
    assert recorder.layer("0").saturated == pytest.approx([expected], abs=1e-6)
    assert np.isnan(recorder.layer("0").dead)


def test_a_unit_is_dead_if_it_gives_zero_for_every_example():
    model = nn.Sequential(nn.ReLU())
    x = -torch.ones(6, 4, requires_grad=True)
    with torch.no_grad():
        x[2, 1] = 0.5  # one example wakes unit 1
    with Recorder(model) as recorder:
        model(x)
    assert recorder.layer("0").dead == pytest.approx([3 / 4])
    assert np.isnan(recorder.layer("0").saturated)


def test_units_of_a_network_that_diverged_are_neither_dead_nor_alive():
    model, (x, labels) = perceptron(activation=nn.ReLU), a_batch(4, 5)
    with Recorder(model) as recorder:
        train(model, 1, x * float("nan"), labels)
    assert np.isnan(recorder.layer("1").dead).all()


def test_of_no_examples_it_cannot_be_told_whether_a_unit_is_dead():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with Recorder(model, every=1) as recorder:
        model(torch.zeros(0, 4)).sum().backward()
    assert np.isnan(recorder.layer("1").dead).all()


def test_a_feature_map_is_dead_if_it_is_zero_at_every_position_of_every_example():
    model = nn.Sequential(nn.ReLU())
    x = -torch.ones(2, 5, 3, 3, requires_grad=True)
    with torch.no_grad():
        x[1, 0, 2, 2] = x[0, 3, 1, 1] = 1
    with Recorder(model) as recorder:
        model(x)
    assert recorder.layer("0").dead == pytest.approx([3 / 5])


@pytest.mark.parametrize(
    ("model", "options", "share"),
    [
        (nn.Sequential(nn.ReLU()), {}, 3 / 4),  # (examples, tokens, units)
        (nn.Sequential(nn.ReLU()), {"unit_axis": 1}, 4 / 5),
        (nn.Sequential(nn.BatchNorm1d(5, affine=False), nn.ReLU()), {}, 4 / 5),
    ],
)
def test_of_three_axes_the_units_are_the_last_unless_the_model_has_channels_first(
    model, options, share
):
    x = -torch.ones(2, 5, 4, requires_grad=True)
    with torch.no_grad():
        x[1, 2, 3] = 100
    with Recorder(model, ["0" if len(model) == 1 else "1"], **options) as recorder:
        model[:-1].eval()
        model(x)
    assert recorder.layer(recorder.layers[0]).dead == pytest.approx([share])


def test_an_axis_that_a_layer_does_not_have_is_an_error():
    model = nn.Sequential(nn.ReLU())
    with Recorder(model, unit_axis=3), pytest.raises(ValueError, match=r"unit_axis is 3, and .* 2"):
        model(torch.ones(2, 2, requires_grad=True))


def test_relu6_can_be_dead_and_can_saturate():
    model = nn.Sequential(nn.ReLU6())
    x = torch.tensor([[-1.0, 1.0, 7.0], [-2.0, 2.0, 3.0]], requires_grad=True)
    with Recorder(model) as recorder:
        model(x)
    assert recorder.layer("0").dead == pytest.approx([1 / 3])
    assert recorder.layer("0").saturated == pytest.approx([3 / 6])


@pytest.mark.parametrize("activation", [nn.GELU(), nn.PReLU(), nn.RReLU(), nn.LeakyReLU()])
def test_a_function_with_neither_flat_sides_nor_zeros_is_neither_saturated_nor_dead(activation):
    model = nn.Sequential(activation)
    with Recorder(model) as recorder:
        model(torch.randn(5, 4, requires_grad=True))
    history = recorder.layer("0")
    assert history.kind == "nonlinearity"
    assert np.isnan([history.dead, history.saturated]).all()


def test_update_norms_are_those_of_the_change_in_the_step():
    model, (x, labels) = perceptron(), a_batch(20, 5)
    model[0].bias.requires_grad_(False)
    copies = []
    with Recorder(model, every=3) as recorder:
        for step in range(8):
            copies.append([p.detach().clone() for p in model.parameters()])
            train(model, 1, x, labels, first=step)
        copies.append([p.detach().clone() for p in model.parameters()])
    assert recorder.steps == [0, 3, 6]
    for i, (name, _) in enumerate(model.named_parameters()):
        history = recorder.parameter(name)
        norms = [copies[step][i].norm().item() for step in (0, 3, 6)]
        updates = [(copies[step + 1][i] - copies[step][i]).norm().item() for step in (0, 3, 6)]
        np.testing.assert_allclose(history.norm, norms, rtol=1e-6)
        np.testing.assert_allclose(history.update, updates, rtol=1e-5, atol=1e-12)
    assert (recorder.parameter("0.bias").update == 0).all()


def test_the_update_of_the_last_step_is_measured_when_the_block_ends():
    model, (x, labels) = perceptron(), a_batch(20, 5)
    before = model[0].weight.detach().clone()
    with Recorder(model) as recorder:
        train(model, 1, x, labels)
    expected = (model[0].weight - before).norm().item()
    assert recorder.parameter("0.weight").update == pytest.approx([expected], rel=1e-5)


def test_a_step_that_did_not_end_has_no_update():
    model, (x, labels) = perceptron(), a_batch(20, 5)
    recorder = Recorder(model, every=1)
    try:
        with recorder:
            train(model, 1, x, labels)
            model(x)
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    update = recorder.parameter("0.weight").update
    assert update[0] > 0
    assert np.isnan(update[1])
    assert np.isfinite(recorder.layer("1").output.mean).all()
    assert np.isnan(recorder.layer("1").gradient_median).tolist() == [False, True]


def test_with_accumulated_gradients_a_step_is_several_passes():
    model, (x, labels) = perceptron(), a_batch(20, 5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    weights = []
    with Recorder(model, every=2, passes_per_step=4) as recorder:
        for _ in range(5):
            weights.append(model[0].weight.detach().clone())
            optimizer.zero_grad()
            for part, target in zip(x.split(5), labels.split(5), strict=True):
                F.cross_entropy(model(part), target).backward()
            optimizer.step()
    assert recorder.step == 5
    assert recorder.steps == [0, 2, 4]
    first = (weights[1] - weights[0]).norm().item()
    assert recorder.parameter("0.weight").update[0] == pytest.approx(first, rel=1e-5)


def test_values_that_are_not_finite_are_recorded_as_they_are():
    model = nn.Sequential(nn.Sigmoid())
    x = torch.tensor([[0.0, 1.0], [float("inf"), float("nan")]], requires_grad=True)
    with Recorder(model, every=1) as recorder:
        for values in (x, x * float("nan"), torch.zeros(0, 2, requires_grad=True)):
            model(values)
    seen = recorder.layer("0").input
    assert np.isnan(seen.mean).all()
    assert seen.percentiles[0, 2] == 1.0  # of 0, 1 and infinity
    assert seen.shares[0].sum() == 1
    assert seen.edges[0, [0, -1]].tolist() == [0, 1]
    assert np.isnan(seen.percentiles[1:]).all()
    assert recorder.layer("0").saturated[0] == pytest.approx(1 / 3)


def test_values_too_large_for_a_record_are_infinite():
    model = nn.Sequential(nn.ReLU())
    with Recorder(model) as recorder:
        model(torch.tensor([[1e300, 1e-300, 2.0]], dtype=torch.float64, requires_grad=True))
    assert recorder.layer("0").input.mean == np.inf
    assert recorder.layer("0").input.percentiles[0, 2] == 2.0


def test_a_constant_tensor_has_its_histogram_in_one_place():
    model = nn.Sequential(nn.Tanh())
    with Recorder(model) as recorder:
        model(torch.full((3, 3), 2.0, requires_grad=True))
    seen = recorder.layer("0").input
    assert seen.std == 0
    assert (seen.edges == 2).all()
    assert seen.shares.max() == 1


# ---- When it records ---------------------------------------------------------------------------


def test_every_fiftieth_training_step_is_recorded_and_no_evaluation():
    model, (x, labels) = perceptron(), a_batch(20, 5)
    with Recorder(model, every=50) as recorder:
        for step in range(120):
            train(model, 1, x, labels, first=step)
            model.eval()
            model(x)  # evaluation mode, although with gradient
            model.train()
            with torch.no_grad():
                model(x)  # training mode, but without gradient
    train(model, 3, x, labels)
    assert recorder.step == 120
    assert recorder.steps == recorder.layer("1").steps.tolist() == [0, 50, 100]


def test_between_records_no_layer_has_a_hook():
    """What is done at the other 49 steps is two calls on the model, whatever its size."""
    model, (x, labels) = perceptron(), a_batch(20, 5)
    hooks = []
    model[1].register_forward_hook(
        lambda module, *_: hooks.append(len(module._forward_pre_hooks) + len(module._forward_hooks))
    )
    with Recorder(model, every=4):
        train(model, 9, x, labels)
    assert hooks == [3, 1, 1, 1, 3, 1, 1, 1, 3]


def test_memory_is_bounded_whatever_the_number_of_steps():
    model, (x, labels) = perceptron(), a_batch(4, 5)
    with Recorder(model, every=1, max_records=8) as recorder:
        for step in range(100):
            train(model, 1, x, labels, first=step)
            assert len(recorder.steps) <= 8
    assert recorder.every == 16
    assert recorder.steps == [0, 16, 32, 48, 64, 80, 96]
    assert recorder.layer("1").input.mean.shape == (7,)
    assert recorder.parameter("0.weight").update.shape == (7,)


def test_what_is_dropped_are_whole_records():
    """Thinned records are those that recording less often from the start would have kept."""
    x, labels = a_batch(4, 5)
    thinned, rare = (
        Recorder(perceptron(), every=every, max_records=records)
        for every, records in ((1, 8), (8, 100))
    )
    for recorder in (thinned, rare):
        with recorder:
            train(recorder._model, 50, x, labels)
    assert thinned.steps == rare.steps
    np.testing.assert_array_equal(thinned.layer("1").output.std, rare.layer("1").output.std)
    for name in rare.parameters:
        np.testing.assert_array_equal(thinned.parameter(name).update, rare.parameter(name).update)


@pytest.mark.parametrize("normalization", [None, nn.BatchNorm1d, BatchNorm1d])
def test_recording_changes_nothing(normalization):
    def trained(recorded):
        torch.manual_seed(0)
        network = nn.Sequential(figure1_network(normalization), nn.Dropout(0.2))
        x, labels = a_batch(12, 28, 28, classes=10)
        if recorded:
            with Recorder(network, every=2):
                train(network, 7, x, labels)
        else:
            train(network, 7, x, labels)
        return [*network.state_dict().values(), torch.rand(3)]

    for one, other in zip(trained(False), trained(True), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("where", ["nowhere", "between", "in forward", "in backward"])
def test_no_hook_stays_behind_also_after_an_exception(where):
    model, (x, labels) = perceptron(), a_batch(4, 5)

    def fail(*_):
        raise ZeroDivisionError

    try:
        with Recorder(model, every=1) as recorder:
            train(model, 2, x, labels)
            if where == "between":
                fail()
            if where == "in forward":
                hook = model[2].register_forward_pre_hook(fail)
                try:
                    model(x)
                finally:
                    hook.remove()
            if where == "in backward":
                out = model(x)
                out.register_hook(fail)
                out.sum().backward()
    except ZeroDivisionError:
        assert where != "nowhere"
    assert no_hooks(model)
    assert len(recorder.steps) == (2 if where in ("nowhere", "between") else 3)
    with recorder:  # and it can go on
        train(model, 1, x, labels)
    assert np.isfinite(recorder.layer("1").gradient_top[-1])


def test_two_recorders_do_not_disturb_each_other():
    model, (x, labels) = perceptron(), a_batch(4, 5)
    with Recorder(model, every=2) as one, Recorder(model, every=3) as other:
        train(model, 7, x, labels)
    assert (one.steps, other.steps) == ([0, 2, 4, 6], [0, 3, 6])
    first = [r.layer("1").gradient.std[[0, -1]] for r in (one, other)]
    np.testing.assert_array_equal(*first)
    assert no_hooks(model)


def test_a_recorder_cannot_be_entered_twice_at_once():
    recorder = Recorder(perceptron())
    with recorder, pytest.raises(RuntimeError, match="already recording"), recorder:
        pass


# ---- Which layers ------------------------------------------------------------------------------


def test_by_default_nonlinearities_and_normalizations_are_recorded():
    network, (x, labels) = figure1_network(BatchNorm1d), a_batch(6, 28, 28)
    with Recorder(network) as recorder:
        train(network, 1, x, labels)
    assert recorder.layers == ("norm1", "sigmoid1", "norm2", "sigmoid2", "norm3", "sigmoid3")
    kinds = [recorder.layer(name).kind for name in recorder.layers]
    assert kinds == ["normalization", "nonlinearity"] * 3


def test_where_nonlinearities_are_functions_the_layers_with_weights_are_recorded():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)
            self.bn = nn.BatchNorm2d(2)
            self.fc = nn.Linear(2, 3)

        def forward(self, x):
            return self.fc(F.relu(self.bn(self.conv(x))).mean((2, 3)))

    model, (x, labels) = Functional(), a_batch(4, 1, 5, 5)
    with Recorder(model) as recorder:
        train(model, 1, x, labels)
    assert recorder.layers == ("conv", "bn", "fc")
    assert [recorder.layer(name).kind for name in recorder.layers] == [
        "other",
        "normalization",
        "other",
    ]


def test_a_convolutional_network_of_torchs_layers():
    model, (x, labels) = Convolutional(), a_batch(8, 1, 6, 6)
    with Recorder(model, every=2) as recorder:
        train(model, 3, x, labels)
    with torch.no_grad():
        expected = torch.relu(nn.BatchNorm2d(4)(Convolutional().conv1(x)))
    history = recorder.layer("relu")
    np.testing.assert_allclose(history.output.mean[0], expected.mean().item(), rtol=1e-5)
    dead = (expected == 0).all(0).all(1).all(1).float().mean().item()
    assert history.dead[0] == pytest.approx(dead)
    assert (history.input.percentiles[:, 0] < 0).all()  # seen before the ReLU works in place
    assert (history.output.percentiles[:, 0] >= 0).all()


def test_each_call_of_a_shared_module_has_its_own_history():
    model, (x, labels) = Convolutional(), a_batch(8, 1, 6, 6)
    with Recorder(model) as recorder:
        train(model, 1, x, labels)
    assert recorder.layers == ("bn1", "relu", "bn2", "relu#2", "relu#3")
    fc1 = Convolutional()
    with torch.no_grad():
        h = torch.relu(fc1.bn1(fc1.conv1(x)))
        h = torch.relu(h + fc1.bn2(fc1.conv2(h)))
        entering = fc1.fc1(h.mean((2, 3)))
    third = recorder.layer("relu#3")
    assert third.kind == "nonlinearity"
    np.testing.assert_allclose(third.input.mean, [entering.mean().item()], rtol=1e-4)


def test_only_so_many_calls_of_a_module_are_told_apart():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.tanh = nn.Linear(3, 3), nn.Tanh()

        def forward(self, x):
            for _ in range(50):
                x = self.tanh(self.cell(x))
            return x

    model, (x, labels) = Recurrent(), a_batch(4, 3)
    with Recorder(model) as recorder:
        train(model, 1, x, labels)
    assert len(recorder.layers) == MAX_CALLS
    assert recorder.layers[-1] == f"tanh#{MAX_CALLS}"


def test_a_layer_that_is_called_in_some_passes_has_gaps():
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu, self.tanh, self.used = nn.ReLU(), nn.Tanh(), False

        def forward(self, x):
            return self.tanh(self.relu(x)) if self.used else self.relu(x)

    model, x = Sometimes(), torch.randn(4, 5)
    with Recorder(model, every=1) as recorder:
        for model.used in (False, True, False):
            model(x)
    assert np.isnan(recorder.layer("tanh").input.mean).tolist() == [True, False, True]
    assert not np.isnan(recorder.layer("relu").input.mean).any()


def test_a_layer_that_is_never_called_is_said_so():
    model, (x, labels) = perceptron(), a_batch(4, 5)
    model.aside = nn.Tanh()
    model.forward = lambda x: model[2](model[1](model[0](x)))
    with Recorder(model, ["1", "aside"]) as recorder:
        train(model, 1, x, labels)
    assert recorder.layers == ("1",)
    assert recorder.silent == ("aside",)
    with pytest.raises(RuntimeError, match="layer 'aside' was called in none of the 1 recorded"):
        recorder.layer("aside")
    with pytest.raises(KeyError, match="layer '2' was not recorded; 1 are"):
        recorder.layer("2")
    with pytest.raises(KeyError, match=r"parameter 'w' was not recorded; 0\.weight, 0\.bias"):
        recorder.parameter("w")


def test_a_recurrent_network_is_recorded_where_it_gives_tensors():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.norm, self.head = nn.LSTM(3, 4), nn.LayerNorm(4), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.norm(self.lstm(x)[0][:, -1]))

    model, (x, labels) = Reader(), a_batch(4, 5, 3)
    with Recorder(model) as recorder:
        train(model, 1, x, labels)
    assert recorder.layers == ("norm", "head")
    with (
        Recorder(model, ["lstm"]),
        pytest.raises(
            TypeError, match="layer 'lstm' returns a tuple of Tensor, tuple; only layers that take"
        ),
    ):
        model(x)
    assert no_hooks(model)


def test_a_transformers_own_layers_are_recorded():
    torch.manual_seed(0)
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Flatten())
    x, labels = a_batch(4, 5, 8)
    with Recorder(model) as recorder:
        train(model, 1, x, labels)
    assert "0.norm1" in recorder.layers
    assert recorder.silent == ("0.self_attn.out_proj",)  # attention uses its weight, not its call


def test_a_lazy_layer_and_arguments_by_name():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.relu = nn.LazyLinear(3), nn.ReLU()

        def forward(self, x):
            return self.relu(input=self.fc(x))

    model, (x, labels) = Named(), a_batch(4, 5)
    with Recorder(model, every=1) as recorder:
        for step in range(2):
            F.cross_entropy(model(x), labels).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= parameter.grad * (step + 1)
    assert recorder.layer("relu").input.std.shape == (2,)
    assert (recorder.parameter("fc.weight").update > 0).all()


def test_a_layer_without_gradient_has_none():
    model, (x, labels) = perceptron(), a_batch(4, 5)
    model[0].requires_grad_(False)
    with Recorder(model) as recorder:
        train(model, 1, x, labels)
    assert np.isnan(recorder.layer("1").gradient_median).all()
    assert np.isnan(recorder.layer("1").gradient.shares).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(dtype):
    model, (x, labels) = perceptron().to(dtype), a_batch(20, 5)
    with Recorder(model) as recorder:
        train(model, 1, x.to(dtype), labels)
    expected = model[1](perceptron().to(dtype)[0](x.to(dtype))).float().std(correction=0).item()
    assert recorder.layer("1").output.std == pytest.approx([expected], rel=1e-5)
    assert recorder.parameter("2.weight").update > 0


def test_what_cannot_be_recorded_is_said_at_once():
    model = perceptron()
    with pytest.raises(ValueError, match="no layer 'relu'; it has 0, 1, 2"):
        Recorder(model, ["relu"])
    with pytest.raises(ValueError, match=r"layers is the string '1'; give a list, \['1'\]"):
        Recorder(model, "1")
    with pytest.raises(ValueError, match=r"found no layer to record; .* The model has 0$"):
        Recorder(nn.Sequential(nn.Flatten()))
    with pytest.raises(ValueError, match="The model has none inside it"):
        Recorder(nn.ReLU())
    with pytest.raises(ValueError, match="every is 0; it must be at least 1"):
        Recorder(model, every=0)
    with pytest.raises(ValueError, match=r"every is 2\.5; it must be .* a whole number"):
        Recorder(model, every=2.5)
    with pytest.raises(ValueError, match=r"passes_per_step is 2\.0; it must be"):
        Recorder(model, passes_per_step=2.0)
    with pytest.raises(ValueError, match=r"max_records is 2\.0; it must be an even number"):
        Recorder(model, max_records=2.0)
    Recorder(model, every=np.int64(2))
    with pytest.raises(ValueError, match="passes_per_step is 0"):
        Recorder(model, passes_per_step=0)
    with pytest.raises(ValueError, match="max_records is 7; it must be an even number"):
        Recorder(model, max_records=7)


def test_nothing_recorded_is_said_with_what_counts_as_a_step():
    model = perceptron()
    with Recorder(model) as recorder:
        model[0](torch.ones(2, 5))  # a part of it
    with pytest.raises(RuntimeError, match="the model that was given is itself called"):
        recorder.layer("1")


# ---- Compiled models and transforms ------------------------------------------------------------


@pytest.fixture
def compile_eagerly():
    """torch.compile with a backend that does nothing: what is traced, is run."""
    torch._dynamo.reset()
    yield lambda model: torch.compile(model, backend="eager")
    torch._dynamo.reset()


def test_a_compiled_model_is_recorded_as_its_original(compile_eagerly):
    x, labels = a_batch(20, 5)
    plain, original = perceptron(), perceptron()
    compiled = compile_eagerly(original)
    with Recorder(plain, every=3) as expected:
        train(plain, 8, x, labels)
    with Recorder(compiled, ["1"], every=3) as recorder:
        train(compiled, 8, x, labels)
    assert recorder.steps == expected.steps == [0, 3, 6]
    for name in ("input", "output", "gradient"):
        np.testing.assert_allclose(
            getattr(recorder.layer("1"), name).std,
            getattr(expected.layer("1"), name).std,
            rtol=1e-5,
        )
    assert recorder.parameters == expected.parameters
    assert no_hooks(compiled)
    for one, other in zip(plain.parameters(), original.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_other_steps_of_a_compiled_model_run_compiled():
    model, (x, labels), runs = perceptron(), a_batch(20, 5), []

    def backend(graph, _inputs):
        return lambda *args: (runs.append(1), graph.forward(*args))[1]

    compiled = torch.compile(model, backend=backend)
    with Recorder(compiled, every=3) as recorder:
        train(compiled, 7, x, labels)
    assert recorder.steps == [0, 3, 6]
    assert len(runs) == 4


def test_a_part_that_is_compiled_is_recorded_too(compile_eagerly):
    x, labels = a_batch(20, 5)
    body = perceptron()
    model = nn.Sequential(compile_eagerly(body), nn.Tanh())
    with Recorder(model, every=2) as recorder:
        train(model, 3, x, labels)
    assert recorder.layers == ("0.1", "1")
    assert recorder.parameters == ("0.0.weight", "0.0.bias", "0.2.weight", "0.2.bias")


def test_a_model_that_is_called_by_its_compiled_version_is_said_not_to_be(compile_eagerly):
    x, labels = a_batch(20, 5)
    model = perceptron()
    compiled = compile_eagerly(model)
    with Recorder(model, every=1) as recorder:
        train(compiled, 2, x, labels)
    with pytest.raises(RuntimeError, match="nor a compiled version of it"):
        recorder.layer("1")


def test_a_model_compiled_in_place_is_refused_with_what_to_do():
    model = perceptron()
    model.compile(backend="eager")
    with pytest.raises(RuntimeError, match=r"use compiled = torch.compile\(model\) instead"):
        Recorder(model)


def test_a_transform_of_torch_func_is_refused():
    model, (x, labels) = perceptron(), a_batch(20, 5)
    parameters = dict(model.named_parameters())

    def loss(parameters):
        return F.cross_entropy(torch.func.functional_call(model, parameters, x), labels)

    with Recorder(model), pytest.raises(RuntimeError, match=r"inside a transform of torch\.func"):
        torch.func.grad(loss)(parameters)
    assert no_hooks(model)


# ---- Long runs that are interrupted ------------------------------------------------------------


@pytest.mark.parametrize("killed_after", [1, 5, 8, 21])
def test_killed_and_resumed_is_as_uninterrupted(killed_after):
    x, labels = a_batch(20, 5)

    def start():
        model = perceptron()
        return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def go_on(recorder, model, optimizer, steps, first=0):
        with recorder:
            train(model, steps, x, labels, first=first, optimizer=optimizer)

    model, optimizer = start()
    uninterrupted = Recorder(model, every=2, max_records=4)
    go_on(uninterrupted, model, optimizer, 30)

    model, optimizer = start()
    killed = Recorder(model, every=2, max_records=4)
    checkpoint = io.BytesIO()
    with killed:
        train(model, killed_after, x, labels, optimizer=optimizer)
        parts = {"model": model, "optimizer": optimizer, "recorder": killed}
        torch.save({name: part.state_dict() for name, part in parts.items()}, checkpoint)

    checkpoint.seek(0)
    model, optimizer = start()
    resumed = Recorder(model, every=2, max_records=4)
    saved = torch.load(checkpoint, weights_only=True)
    for name, part in {"model": model, "optimizer": optimizer, "recorder": resumed}.items():
        part.load_state_dict(saved[name])
    go_on(resumed, model, optimizer, 30 - killed_after, first=killed_after)

    assert_same(resumed.state_dict(), uninterrupted.state_dict())


def assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, torch.Tensor):
        np.testing.assert_array_equal(one.numpy(), other.numpy())  # NaN equals NaN here
    else:
        assert one == other


def test_the_state_does_not_change_with_the_recorder_it_was_taken_from():
    model, (x, labels) = perceptron(), a_batch(20, 5)
    with Recorder(model, every=1) as recorder:
        train(model, 2, x, labels)
        state = recorder.state_dict()
        rows = {name: tensor.clone() for name, tensor in state["rows"].items()}
        train(model, 2, x, labels)
    assert_same(state["rows"], rows)


@pytest.mark.parametrize(
    "options",
    [{"layers": ["2"]}, {"max_records": 10}, {"passes_per_step": 2}],
    ids=["layers", "max_records", "passes_per_step"],
)
def test_the_state_of_a_recorder_with_other_settings_is_refused(options):
    model = perceptron()
    with pytest.raises(ValueError, match=f"saved with {next(iter(options))} = .* make it with the"):
        Recorder(model, **options).load_state_dict(Recorder(model).state_dict())


def test_what_is_no_state_is_refused_and_changes_nothing():
    model = perceptron()
    with Recorder(model, every=1) as recorder:
        train(model, 2, *a_batch(4, 5))
    for state in ({}, {"layers": ["1"], "max_records": 256, "passes_per_step": 1}):
        with pytest.raises(ValueError, match=r"the state has no .*give what `state_dict`"):
            recorder.load_state_dict(state)
    assert recorder.steps == [0, 1]


def test_a_network_with_many_layers_keeps_a_few_hundred_numbers_of_each():
    model, (x, labels) = perceptron(), a_batch(20, 5)
    with Recorder(model, every=1, max_records=4) as recorder:
        train(model, 10, x, labels)
    state = recorder.state_dict()
    assert all(rows.shape[0] <= 4 and rows.shape[1] < 300 for rows in state["rows"].values())
    assert set(itertools.chain(*(r.shape[1:] for r in state["norms"].values()))) == {2}
