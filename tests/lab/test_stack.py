"""Several networks as one batched computation, against each of them alone."""

import copy
import enum
import pickle
import signal
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bn_core
import bn_core.lab.stack as stack_module
from bn_core.lab.dropout import Dropout
from bn_core.lab.stack import Stack

SEEDS = (0, 1, 2)
DEVICES = ["cpu"]
if torch.cuda.is_available():
    DEVICES.append("cuda")
if torch.backends.mps.is_available():
    DEVICES.append("mps")

LAYERS = {
    "nothing": lambda seed: nn.Identity(),
    "BatchNorm1d": lambda seed: bn_core.BatchNorm1d(6),
    "BatchNorm1d, plain average": lambda seed: bn_core.BatchNorm1d(6, momentum=None),
    "BatchNorm1d without statistics": lambda seed: bn_core.BatchNorm1d(
        6, track_running_stats=False
    ),
    "torch's BatchNorm1d": lambda seed: nn.BatchNorm1d(6),
    "GhostBatchNorm": lambda seed: bn_core.layers.GhostBatchNorm(6, 3),
    "BatchRenorm": lambda seed: bn_core.layers.BatchRenorm(6),
    "LayerNorm": lambda seed: bn_core.layers.LayerNorm(6),
    "RMSNorm": lambda seed: bn_core.layers.RMSNorm(6),
    "GroupNorm": lambda seed: bn_core.layers.GroupNorm(2, 6),
    "Dropout": lambda seed: Dropout(0.4, seed),
}


@pytest.fixture(autouse=True)
def _one_thread():
    """Two threads wait for each other longer than networks of this size compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _early_recordings(monkeypatch):
    monkeypatch.setattr(stack_module, "RECORD_AFTER", 2)


def dense(seed, layer="BatchNorm1d"):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(8, 6), LAYERS[layer](seed), nn.Sigmoid(), nn.Linear(6, 3)
    ).double()


def convolutional(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        bn_core.BatchNorm2d(4),
        nn.ReLU(),
        bn_core.layers.InstanceNorm(4, affine=True),
        nn.Flatten(),
        nn.Linear(16, 3),
    ).double()


def batch(m=9, shape=(2, 4), seed=0, size=3):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, m, *shape, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (size, m), generator=generator)


def assert_same_state(stack, networks):
    for s, network in enumerate(networks):
        torch.testing.assert_close(stack.unstack(s).state_dict(), network.state_dict())


@pytest.mark.parametrize("layer", LAYERS)
def test_losses_gradients_and_statistics_are_those_of_each_network_alone(layer):
    networks = [dense(seed, layer) for seed in SEEDS]
    stack = Stack(networks)
    for step in range(4):  # the second is recorded and replayed
        x, labels = batch(seed=step)
        losses = stack.backward(x, labels)
        for s, network in enumerate(networks):
            loss = F.cross_entropy(network(x[s]), labels[s])
            gradients = torch.autograd.grad(loss, list(network.parameters()))
            torch.testing.assert_close(losses[s], loss.detach())
            for mine, theirs in zip(stack.parameters(), gradients, strict=True):
                torch.testing.assert_close(mine.grad[s], theirs)
        assert_same_state(stack, networks)
    # In torch's layer there is an operation that TorchScript does not know.
    assert (stack._recordings._replay is None) == (layer == "torch's BatchNorm1d")


def test_convolutions_are_those_of_each_network_alone():
    networks = [convolutional(seed) for seed in SEEDS]
    stack = Stack(networks)
    for step in range(4):
        x, labels = batch(m=5, shape=(1, 4, 4), seed=step)
        losses = stack.backward(x, labels)
        for s, network in enumerate(networks):
            network.zero_grad()
            loss = F.cross_entropy(network(x[s]), labels[s])
            loss.backward()
            torch.testing.assert_close(losses[s], loss.detach())
            for mine, theirs in zip(stack.parameters(), network.parameters(), strict=True):
                torch.testing.assert_close(mine.grad[s], theirs.grad)


@pytest.mark.parametrize("training", [True, False])
def test_forward_is_that_of_each_network_alone(training):
    networks = [dense(seed).train(training) for seed in SEEDS]
    stack = Stack(networks)
    x, _ = batch()
    alone = [network(part) for network, part in zip(networks, x, strict=True)]
    torch.testing.assert_close(stack(x), torch.stack(alone))


def test_a_batch_can_be_sent_to_all():
    networks = [dense(seed).eval() for seed in SEEDS]
    x = batch()[0][0]
    scores = Stack(networks)(x.expand(3, *x.shape))
    torch.testing.assert_close(scores, torch.stack([network(x) for network in networks]))


def test_a_linear_layer_takes_any_number_of_axes():
    torch.manual_seed(0)
    layers = [nn.Linear(4, 5) for _ in range(2)]
    x = torch.randn(2, 3, 7, 4)
    alone = torch.stack([layer(part) for layer, part in zip(layers, x, strict=True)])
    torch.testing.assert_close(Stack(layers)(x), alone)


@pytest.mark.parametrize("device", DEVICES)
def test_a_replayed_step_has_the_bits_of_the_step_itself(device):
    replayed, ordinary = (
        Stack([dense(seed).float() for seed in SEEDS]).to(device) for _ in range(2)
    )
    ordinary.network[1].register_forward_hook(lambda *_: None)  # keeps it from being recorded
    for step in range(5):
        x, labels = batch(seed=step)
        x, labels = x.float().to(device), labels.to(device)
        assert torch.equal(replayed.backward(x, labels), ordinary.backward(x, labels))
        for mine, theirs in zip(replayed.parameters(), ordinary.parameters(), strict=True):
            assert torch.equal(mine.grad, theirs.grad)
        for mine, theirs in zip(replayed.buffers(), ordinary.buffers(), strict=True):
            assert torch.equal(mine, theirs)
    assert replayed._recordings._replay is not None
    assert ordinary._recordings._replay is None


def test_batches_of_another_size_are_not_replayed():
    networks = [dense(seed) for seed in SEEDS]
    stack = Stack(networks)
    for m in (9, 9, 9, 4, 9):
        x, labels = batch(m)
        losses = stack.backward(x, labels)
        alone = [F.cross_entropy(n(x[s]), labels[s]) for s, n in enumerate(networks)]
        torch.testing.assert_close(losses, torch.stack(alone).detach())


def test_a_setting_changed_between_steps_takes_effect():
    networks = [dense(seed) for seed in SEEDS]
    stack = Stack(networks)
    for step in range(6):
        x, labels = batch(seed=step)
        if step == 3:
            for network in (stack.network, *networks):
                network[2].momentum = 0.7
        stack.backward(x, labels)
        for network, part in zip(networks, x, strict=True):
            network(part)
    assert_same_state(stack, networks)


class Scaled(nn.Module):
    """A linear layer, and attributes of many kinds that decide what is made of its output."""

    def __init__(self, **attributes):
        super().__init__()
        self.linear = nn.Linear(8, 3)
        self.tensor = torch.ones(3, dtype=torch.float64)
        self.function = torch.relu
        self.numbers = (1.0, [2.0])
        self.named = {"factor": 1.0}
        self.power = np.float64(1)
        self.slope = partial(F.leaky_relu, negative_slope=0.1)
        vars(self).update(attributes)

    def forward(self, x):
        factor = self.numbers[0] * self.numbers[1][0] * self.named["factor"]
        y = self.slope(self.function(self.linear(x.flatten(1))) - 1)
        return y * self.tensor * factor * self.power


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net, "tensor", torch.full((3,), 0.1, dtype=torch.float64)),
        lambda net: net.tensor.mul_(3),
        lambda net: setattr(net, "function", torch.tanh),
        lambda net: setattr(net, "numbers", (3.0, [2.0])),
        lambda net: net.numbers[1].__setitem__(0, 5.0),
        lambda net: net.named.update(factor=5.0),
        lambda net: setattr(net, "power", np.float64(3)),
        lambda net: setattr(net, "slope", partial(F.leaky_relu, negative_slope=0.9)),
        lambda net: setattr(net, "linear", nn.Sequential(net.linear, nn.Tanh())),
    ],
)
def test_a_change_of_any_attribute_between_steps_takes_effect(change):
    networks = [Scaled().double() for _ in SEEDS]
    stack = Stack(networks)
    for step in range(6):
        if step == 3:
            assert stack._recordings._replay is not None
            for network in (stack.network, *networks):
                change(network)
        x, labels = batch(seed=step)
        losses = stack.backward(x, labels)
        alone = [F.cross_entropy(n(x[s]), labels[s]) for s, n in enumerate(networks)]
        torch.testing.assert_close(losses, torch.stack(alone).detach())


def test_another_layer_of_as_many_parameters_is_not_replayed():
    networks = [dense(seed, "nothing") for seed in SEEDS]
    stack = Stack(networks)
    x, labels = batch()
    for step in range(6):
        if step == 3:
            assert stack._recordings._replay is not None
            for network in (stack.network, *networks):
                network[3] = nn.Tanh()
        losses = stack.backward(x, labels)
        alone = [F.cross_entropy(n(x[s]), labels[s]) for s, n in enumerate(networks)]
        torch.testing.assert_close(losses, torch.stack(alone).detach())


def test_what_may_change_without_being_seen_to_keeps_a_step_from_being_recorded():
    stack = Stack([Scaled(unknown=object()).double() for _ in SEEDS])
    for _ in range(4):
        stack.backward(*batch())
    assert stack._recordings._replay is None


def test_a_hook_is_called_in_every_step():
    stack = Stack([dense(seed) for seed in SEEDS])
    called = []
    stack.network[3].register_forward_pre_hook(lambda *_: called.append(True))
    for _ in range(4):
        stack.backward(*batch())
    assert len(called) == 4


def test_a_hook_of_a_parameter_acts_in_every_step():
    stack = Stack([dense(seed) for seed in SEEDS])
    weight = stack.network[1].weight
    weight.register_hook(torch.zeros_like)
    for _ in range(4):
        stack.backward(*batch())
        assert not weight.grad.any()


class Branching(nn.Module):
    """Counts in Python, and does something else from the third call on."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 3)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        y = self.linear(x.flatten(1))
        return y if self.calls < 3 else 2 * y


def test_a_network_that_counts_in_python_is_not_replayed():
    torch.manual_seed(0)
    networks = [Branching().double() for _ in SEEDS]
    stack = Stack(networks)
    x, labels = batch()
    for _ in range(5):
        losses = stack.backward(x, labels)
        alone = [F.cross_entropy(n(x[s]), labels[s]) for s, n in enumerate(networks)]
        torch.testing.assert_close(losses, torch.stack(alone).detach())


def test_frozen_and_unused_parameters_have_no_gradient():
    networks = [Unused(dense(seed)) for seed in SEEDS]
    for network in networks:
        network.inner[1].weight.requires_grad_(False)
    stack = Stack(networks)
    for _ in range(4):
        stack.backward(*batch())
        without = [n for n, p in stack.network.named_parameters() if p.grad is None]
        assert without == ["unused", "inner.1.weight"]


class Unused(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.unused = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, x):
        return self.inner(x)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))


def test_tied_parameters_stay_tied():
    torch.manual_seed(0)
    networks = [Tied() for _ in range(2)]
    stack = Stack(networks)
    assert len(list(stack.parameters())) == 1
    alone = stack.unstack(1)
    assert alone.first.weight is alone.second.weight
    x = torch.randn(2, 4, 3)
    expected = torch.stack([network(part) for network, part in zip(networks, x, strict=True)])
    torch.testing.assert_close(stack(x), expected)


def test_the_networks_are_copied():
    networks = [dense(seed) for seed in SEEDS]
    before = copy.deepcopy(networks[0].state_dict())
    stack = Stack(networks)
    stack.backward(*batch())
    torch.optim.SGD(stack.parameters(), lr=0.1).step()
    torch.testing.assert_close(networks[0].state_dict(), before, rtol=0, atol=0)


def test_an_unstacked_network_shows_what_the_stack_learns():
    stack = Stack([dense(seed) for seed in SEEDS])
    network = stack.unstack(1)
    snapshot = copy.deepcopy(network)
    sgd = torch.optim.SGD(stack.parameters(), lr=0.1, momentum=0.9)
    for step in range(4):
        stack.backward(*batch(seed=step))
        sgd.step()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, stack.network.state_dict()[name][1])
        if name != "1.bias":  # the normalization subtracts it again
            assert not torch.equal(tensor, snapshot.state_dict()[name])


def test_an_unstacked_network_can_be_trained_by_itself():
    stack = Stack([dense(seed) for seed in SEEDS])
    network = stack.unstack(-1)
    x, labels = batch()
    F.cross_entropy(network(x[2]), labels[2]).backward()
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    torch.testing.assert_close(stack.unstack(2).state_dict(), network.state_dict())


@pytest.mark.parametrize("again", [copy.deepcopy, lambda stack: pickle.loads(pickle.dumps(stack))])
def test_a_copy_of_a_stack_goes_its_own_way(again):
    stack = Stack([dense(seed) for seed in SEEDS])
    for _ in range(3):
        stack.backward(*batch())
    other = again(stack)
    torch.testing.assert_close(other.state_dict(), stack.state_dict())
    before = copy.deepcopy(stack.state_dict())
    for _ in range(3):
        other.backward(*batch())
    torch.testing.assert_close(stack.state_dict(), before, rtol=0, atol=0)


def test_not_a_number_in_one_network_stays_there():
    networks = [dense(seed) for seed in SEEDS]
    stack = Stack(networks)
    sgd = torch.optim.SGD(stack.parameters(), lr=0.1, momentum=0.9)
    with torch.no_grad():
        stack.unstack(1)[1].weight.fill_(float("nan"))
    for step in range(4):
        losses = stack.backward(*batch(seed=step))
        sgd.step()
        assert losses.isfinite().tolist() == [True, False, True]
    for s in (0, 2):
        assert all(tensor.isfinite().all() for tensor in stack.unstack(s).state_dict().values())


def test_no_network_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        Stack([])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: dense(0, "LayerNorm"), "one architecture"),
        (lambda: dense(0).float(), r"'1\.weight'"),
        (lambda: dense(0).eval(), r"\.train\(\) or \.eval\(\)"),
    ],
)
def test_networks_must_be_alike(other, message):
    with pytest.raises(ValueError, match=message):
        Stack([dense(0), other()])


class Place(enum.Enum):
    BEFORE = 0
    AFTER = 1


def frozen(network):
    network.requires_grad_(False)
    return network


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        (
            [nn.ModuleList([nn.MultiheadAttention(8, heads)]) for heads in (2, 4)],
            r"num_heads of '0' is 2 in one and 4",
        ),
        ([Scaled(alpha=1.0), Scaled(alpha=5.0)], r"alpha is 1\.0 in one and 5\.0"),
        ([Scaled(alpha=1), Scaled(alpha=True)], "alpha is 1 in one and True"),
        ([Scaled(), Scaled(alpha=5.0)], r"alpha is 'absent' in one and 5\.0"),
        ([Scaled(), Scaled(power=np.float64(2))], "power is"),
        ([Scaled(kind=nn.ReLU), Scaled(kind=nn.Tanh)], "kind is"),
        ([Scaled(dtype=torch.float32), Scaled(dtype=torch.float64)], "dtype is"),
        ([Scaled(on=signal.SIGINT), Scaled(on=signal.SIGTERM)], "on is"),
        ([Scaled(on=Place.BEFORE), Scaled(on=Place.AFTER)], "on is"),
        ([Scaled(), Scaled(tensor=torch.zeros(3, dtype=torch.float64))], "tensor is"),
        ([Scaled(), Scaled(tensor=torch.ones(3))], "tensor is"),
        ([Scaled(), Scaled(function=torch.tanh)], "function is"),
        ([Scaled(), Scaled(numbers=(1.0, [3.0]))], r"numbers is \(1\.0, \[2\.0\]\)"),
        ([Scaled(), Scaled(named={"factor": 2.0})], "named is"),
        ([Scaled(), Scaled(slope=partial(F.leaky_relu, negative_slope=0.2))], "slope is"),
        ([Scaled(function=lambda x, a=a: a * x) for a in (1, 2)], "function is"),
        ([nn.Sequential(dense(0)), nn.Sequential(frozen(dense(0)))], r"grad of '0\.1\.weight'"),
        ([frozen(dense(0)), dense(0)], r"requires_grad of '1\.weight' is False in one and True"),
    ],
)
def test_networks_must_be_alike_in_what_is_not_printed(networks, message):
    with pytest.raises(ValueError, match=message):
        Stack(networks)


def test_networks_of_equal_attributes_are_alike():
    def one():
        factor = float("nan")
        return Scaled(
            function=lambda x: factor * x, alpha=np.ones(3), beta=float("nan"), gamma=object()
        )

    assert len(Stack(one() for _ in range(2))) == 2
    assert len(Stack([torch.compile(nn.Linear(4, 3), backend="eager") for _ in range(2)])) == 2


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "is a Sequential, one network"),
        (nn.Linear(2, 2), "is a Linear, one network"),
        ([nn.Linear(2, 2), 3], "holds a int"),
    ],
)
def test_a_stack_takes_several_networks(modules, message):
    with pytest.raises(TypeError, match=message):
        Stack(modules)


@pytest.mark.parametrize("label", [-100, -1, 3])
@pytest.mark.parametrize("steps", [0, 4])
def test_a_label_that_is_no_class_is_refused_also_in_a_replay(label, steps):
    stack = Stack([dense(seed) for seed in SEEDS])
    x, labels = batch()
    for _ in range(steps):
        stack.backward(x, labels)
    labels[1, 0] = label
    with pytest.raises(ValueError, match=rf"labels has values from .*{label}"):
        stack.backward(x, labels)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_an_encoder_layer_that_drops_nothing_is_that_of_each_network_alone():
    torch.manual_seed(0)
    options = {"dropout": 0.0, "batch_first": True, "dtype": torch.float64}
    networks = [nn.TransformerEncoderLayer(8, 2, 16, **options) for _ in range(2)]
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    alone = torch.stack([network(part) for network, part in zip(networks, x, strict=True)])
    torch.testing.assert_close(Stack(networks)(x), alone)


def test_recurrent_layers_are_refused():
    with pytest.raises(ValueError, match=r"layer '0' is LSTM\(4, 8\), which torch\.vmap cannot"):
        Stack([nn.Sequential(nn.LSTM(4, 8))])


def test_torchs_dropout_is_refused_with_what_to_use():
    with pytest.raises(ValueError, match=r"layer '1' is Dropout.*bn_core\.lab\.dropout\.Dropout"):
        Stack([nn.Sequential(nn.Linear(2, 2), nn.Dropout())])


def test_there_must_be_a_batch_for_each_network():
    stack = Stack([dense(seed) for seed in SEEDS])
    x, labels = batch(size=2)
    with pytest.raises(ValueError, match=r"x has shape \(2, 9, 2, 4\).*\(3, m, \.\.\.\).*expand"):
        stack(x)
    with pytest.raises(ValueError, match=r"labels has shape \(2, 9\)"):
        stack.backward(batch()[0], labels)


@pytest.mark.parametrize("s", [3, -4])
def test_only_networks_that_are_there_can_be_unstacked(s):
    with pytest.raises(IndexError, match=rf"s is {s}.*\[-3, 3\)"):
        Stack([dense(seed) for seed in SEEDS]).unstack(s)


def test_the_number_of_a_network_is_an_integer():
    with pytest.raises(TypeError, match="integer"):
        Stack([dense(seed) for seed in SEEDS]).unstack(0.5)
