"""The layers as modules: against torch's in behaviour and state, and their own promises.

Numbers over many shapes, types and memory formats are compared in `test_parity`, hard numbers in
`test_numerics`.
"""

import copy
import io
import pickle
import sys
import types
import unittest

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, stack_module_state, vmap

from bn_core import batch_norm
from bn_core.layers import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    BatchRenorm,
    GhostBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Normalization,
    RMSNorm,
)
from bn_core.surgery import convert, recalibrate, to_torch

# torch's test helpers import this test package for one base class that is not used here.
sys.modules.setdefault("expecttest", types.SimpleNamespace(TestCase=unittest.TestCase))
from torch.testing._internal.common_modules import module_db  # noqa: E402

PAIRS = {
    (8, 5): (BatchNorm1d, nn.BatchNorm1d),
    (4, 5, 3): (BatchNorm1d, nn.BatchNorm1d),
    (4, 5, 3, 2): (BatchNorm2d, nn.BatchNorm2d),
    (2, 5, 3, 2, 2): (BatchNorm3d, nn.BatchNorm3d),
}
OPTIONS = [
    {},
    {"momentum": None},
    {"momentum": 0.0},
    {"momentum": 1.0},
    {"affine": False},
    {"bias": False},
    {"track_running_stats": False},
    {"eps": 0.5, "momentum": 0.3},
]

# One of each, for an input of (8, 6) or (8, 6, 4), whatever it takes.
ALL = [
    (lambda: BatchNorm1d(6), (8, 6)),
    (lambda: BatchNorm1d(6, momentum=None), (8, 6, 4)),
    (lambda: BatchNorm2d(6, track_running_stats=False), (8, 6, 4, 3)),
    (lambda: BatchNorm3d(6, affine=False), (8, 6, 4, 3, 2)),
    (lambda: GhostBatchNorm(6, 4), (8, 6)),
    (lambda: BatchRenorm(6, momentum=None), (8, 6)),
    (lambda: InstanceNorm(6, affine=True), (8, 6, 4)),
    (lambda: GroupNorm(3, 6), (8, 6, 4)),
    (lambda: LayerNorm((6, 4)), (8, 6, 4)),
    (lambda: RMSNorm(6), (8, 6)),
]
every_layer = pytest.mark.parametrize(
    ("make", "shape"), ALL, ids=[f"{type(make()).__name__}-{len(shape)}d" for make, shape in ALL]
)

# torch 2.13 sets forward mode up with a function of its own that it has deprecated.
forward_mode = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

assert_close = torch.testing.assert_close


def exactly(actual, expected):
    assert_close(actual, expected, rtol=0, atol=0)


def buffers(module):
    return dict(module.named_buffers())


def random_state(layer, theirs):
    """Give both layers the same random parameters and running statistics."""
    with torch.no_grad():
        for tensor in theirs.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.5)
    layer.load_state_dict(theirs.state_dict())
    return layer, theirs


def pair(shape=(8, 5), **options):
    """Our batch norm and torch's for a shape, with the same random state, in float64."""
    torch.manual_seed(0)
    ours, theirs = PAIRS[shape]
    return random_state(ours(5, **options).double(), theirs(5, **options).double())


def outputs_and_gradients(layer, x, dy):
    x = x.clone().requires_grad_()
    layer.zero_grad()
    y = layer(x)
    y.backward(dy)
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters())]


# Batch norm against torch's


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", PAIRS, ids=str)
def test_training_and_evaluation_agree_with_torch(options, shape):
    ours, theirs = pair(shape, **options)
    assert repr(ours) == repr(theirs)
    for _ in range(20):
        x, dy = torch.randn(shape).double() * 2 + 1, torch.randn(shape).double()
        assert_close(*(outputs_and_gradients(layer, x, dy) for layer in (ours, theirs)))
        assert_close(buffers(ours), buffers(theirs))
    ours.eval(), theirs.eval()
    assert_close(*(outputs_and_gradients(layer, x, dy) for layer in (ours, theirs)))
    assert_close(buffers(ours), buffers(theirs))


NOT_OURS = {"tracking_stats", "tracking_stats_no_batch_dim", "no_batch_dim"}


def our_class(name):
    if name.startswith("InstanceNorm"):
        return lambda d, eps, _momentum, **options: InstanceNorm(d, eps, **options)
    return getattr(sys.modules["bn_core.layers"], name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    ("name", "number"),
    {
        "BatchNorm1d": 8,
        "BatchNorm2d": 7,
        "BatchNorm3d": 7,
        "LayerNorm": 6,
        "GroupNorm": 8,
        "RMSNorm": 5,
        "InstanceNorm1d": 3,
        "InstanceNorm2d": 3,
        "InstanceNorm3d": 3,
    }.items(),
)
def test_torchs_own_test_inputs_give_torchs_results(name, number, training, dtype):
    (info,) = (info for info in module_db if info.name == f"nn.{name}")
    checked = 0
    for inputs in info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=True, training=training
    ):
        if name.startswith("Instance") and inputs.desc in NOT_OURS:
            continue  # running statistics, and inputs without an axis of examples
        arguments, call = inputs.constructor_input, inputs.forward_input
        theirs = info.module_cls(*arguments.args, **arguments.kwargs).to(dtype)
        ours = our_class(name)(*arguments.args, **arguments.kwargs).to(dtype)
        random_state(ours.train(training), theirs.train(training))
        x = call.args[0].detach()
        dy = torch.randn_like(x)
        assert_close(*(outputs_and_gradients(layer, x, dy) for layer in (ours, theirs)))
        assert_close(buffers(ours), buffers(theirs))
        if inputs.reference_fn is not None:
            # which for RMSNorm computes in float32
            assert_close(ours(x), inputs.reference_fn(ours, x), rtol=1e-5, atol=1e-5)
        checked += 1
    assert checked >= number


@pytest.mark.parametrize("momentum", [0.1, None, 0.0, 1.0, 0.01])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_after_200_steps_of_training_a_network_is_where_torchs_is(momentum, dtype):
    """One step at a time from a common state, so that rounding is all there is between them."""
    torch.manual_seed(0)

    def network(first, second):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), first(4, momentum=momentum), nn.ReLU(),
            nn.Flatten(), nn.Linear(64, 6), second(6, momentum=momentum), nn.Linear(6, 3),
        ).to(dtype)  # fmt: skip

    ours, theirs = (
        network(BatchNorm2d, BatchNorm1d),
        network(nn.BatchNorm2d, nn.BatchNorm1d),
    )
    ours.load_state_dict(theirs.state_dict())
    x, labels = torch.randn(320, 1, 6, 6).to(dtype) + 2, torch.arange(320) % 3
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.01) for net in (ours, theirs)]
    for step in range(200):
        batch = torch.arange(step * 16, step * 16 + 16) % 320
        for net, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), labels[batch]).backward()
            optimizer.step()
    tight = {
        torch.float64: {"rtol": 1e-9, "atol": 1e-10},
        torch.float32: {"rtol": 1e-3, "atol": 1e-4},
    }
    assert_close(ours.state_dict(), theirs.state_dict(), **tight[dtype])
    assert ours[1].num_batches_tracked == ours[5].num_batches_tracked == 200


def test_plain_average_is_that_of_all_batches():
    layer = BatchNorm1d(5, momentum=None).double()
    batches = torch.randn(7, 8, 5).double()
    for x in batches:
        layer(x)
    assert_close(layer.running_mean, batches.mean((0, 1)))
    assert_close(layer.running_var, batches.var(1).mean(0))


def test_mode_is_the_modules_not_autograds():
    ours, theirs = pair()
    x = torch.randn(8, 5).double()
    with torch.no_grad():
        assert_close(ours(x), theirs(x))
    assert_close(buffers(ours), buffers(theirs))
    assert ours.num_batches_tracked == 1


def test_evaluation_takes_a_batch_of_one_and_changes_no_buffer():
    ours, theirs = pair()
    before = copy.deepcopy(ours.state_dict())
    ours.eval(), theirs.eval()
    x = torch.randn(1, 5).double()
    assert_close(ours(x), theirs(x))
    exactly(dict(ours.state_dict()), dict(before))


def test_training_takes_one_example_with_two_positions():
    ours, theirs = (layer.train() for layer in pair((4, 5, 3)))
    x = torch.randn(1, 5, 2).double()
    assert_close(ours(x), theirs(x))
    assert_close(buffers(ours), buffers(theirs))


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_the_buffers_that_are_there_decide_not_the_constructors_flag(flag, training):
    for built_with in (True, False):
        ours, theirs = pair(track_running_stats=built_with)
        x = torch.randn(8, 5).double()
        for layer in (ours, theirs):
            layer.track_running_stats = flag
            layer.train(training)
        assert_close(ours(x), theirs(x))
        assert_close(buffers(ours), buffers(theirs))


@pytest.mark.parametrize("momentum", [None, 0.1])
def test_without_the_count_a_layer_still_trains_as_torchs(momentum):
    ours, theirs = pair(momentum=momentum)
    ours.num_batches_tracked = theirs.num_batches_tracked = None
    x = torch.randn(8, 5).double()
    assert_close(ours(x), theirs(x))
    assert_close(buffers(ours), buffers(theirs))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"momentum": None}, {"track_running_stats": False}], ids=str
)
@pytest.mark.parametrize("shape", [(0, 5), (0, 5, 3), (2, 5, 0)], ids=str)
def test_an_empty_batch_counts_and_changes_nothing_else(shape, options, training):
    ours, theirs = (layer.train(training) for layer in pair(**options))
    x = torch.zeros(shape).double()
    assert_close(*(outputs_and_gradients(layer, x, x) for layer in (ours, theirs)))
    assert_close(buffers(ours), buffers(theirs))


@pytest.mark.parametrize(
    "needs", [(True, False, True), (False, True, False), (False, False, False)]
)
def test_gradients_are_only_made_where_they_are_asked_for(needs):
    ours, theirs = pair()
    x, dy = torch.randn(8, 5).double(), torch.randn(8, 5).double()
    found = []
    for layer in (ours, theirs):
        inputs = [x.clone(), *layer.parameters()]
        for tensor, need in zip(inputs, needs, strict=True):
            tensor.requires_grad_(need)
        y = layer(inputs[0])
        assert y.requires_grad == any(needs)
        if any(needs):
            y.backward(dy)
        found.append([tensor.grad for tensor in inputs])
    assert [gradient is not None for gradient in found[0]] == list(needs)
    assert_close(*([g for g in gradients if g is not None] for gradients in found))


def test_input_may_be_named():
    x = torch.randn(8, 5)
    exactly(BatchNorm1d(5)(input=x), BatchNorm1d(5)(x))


# State


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_checkpoints_go_both_ways(options):
    ours, theirs = pair(**options)
    for layer in (ours, theirs):
        assert list(layer.state_dict()) == list(theirs.state_dict())
        assert layer.state_dict()._metadata == theirs.state_dict()._metadata
    ours(torch.randn(8, 5).double())
    theirs.load_state_dict(ours.state_dict(), strict=True)
    exactly(dict(theirs.state_dict()), dict(ours.state_dict()))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (LayerNorm((6, 4)), nn.LayerNorm((6, 4))),
        (LayerNorm(6, bias=False), nn.LayerNorm(6, bias=False)),
        (RMSNorm(6), nn.RMSNorm(6)),
        (GroupNorm(3, 6), nn.GroupNorm(3, 6)),
        (GroupNorm(3, 6, affine=False), nn.GroupNorm(3, 6, affine=False)),
        (InstanceNorm(6), nn.InstanceNorm2d(6)),
        (InstanceNorm(6, affine=True), nn.InstanceNorm1d(6, affine=True)),
    ],
    ids=repr,
)
def test_the_relatives_have_torchs_state(ours, theirs):
    random_state(ours, theirs)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    if not isinstance(ours, InstanceNorm):
        assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("seen", [0, 3])
def test_a_checkpoint_from_before_the_count_keeps_the_layers_own(seen):
    results = []
    for layer in pair():
        old = layer.state_dict()
        del old["num_batches_tracked"]
        old._metadata[""]["version"] = 1
        fresh = type(layer)(5)
        fresh.num_batches_tracked.fill_(seen)
        fresh.load_state_dict(old, strict=True)
        results.append(dict(fresh.state_dict()))
    exactly(*results)
    assert results[0]["num_batches_tracked"] == seen


@pytest.mark.parametrize("cls", [BatchNorm1d, nn.BatchNorm1d])
def test_a_newer_checkpoint_without_the_count_is_refused(cls):
    state = cls(5).state_dict()
    del state["num_batches_tracked"]
    with pytest.raises(RuntimeError, match="num_batches_tracked"):
        cls(5).load_state_dict(state)


def test_a_layer_on_meta_takes_a_checkpoint_by_assignment():
    state = nn.BatchNorm1d(5).state_dict()
    state._metadata[""]["version"] = 1
    del state["num_batches_tracked"]
    layer = BatchNorm1d(5, device="meta")
    layer.load_state_dict(state, assign=True)
    assert layer.num_batches_tracked == 0
    exactly(layer(torch.ones(8, 5)), nn.BatchNorm1d(5)(torch.ones(8, 5)))


@pytest.mark.parametrize(
    "make", [lambda: BatchNorm1d(5), lambda: GhostBatchNorm(5, 4), lambda: BatchRenorm(5)]
)
def test_reset_forgets_every_batch(make):
    layer, fresh = make(), make()
    layer(torch.randn(8, 5))
    layer.reset_running_stats()
    exactly(dict(layer.state_dict()), dict(fresh.state_dict()))
    nn.init.zeros_(layer.weight)
    layer(torch.randn(8, 5))
    layer.reset_parameters()
    exactly(dict(layer.state_dict()), dict(fresh.state_dict()))


@every_layer
def test_copies_pickles_and_saved_modules_behave_alike(make, shape):
    layer, x = make(), torch.randn(shape)
    layer(x)
    layer.eval()
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for twin in (
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        torch.load(file, weights_only=False),
    ):
        exactly(twin(x), layer(x))
        assert repr(twin) == repr(layer)


# Types, devices, transforms


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@every_layer
def test_half_precision_goes_in_and_comes_out(make, shape, dtype):
    for layer in (make().to(dtype), make()):
        x = torch.randn(shape).to(dtype).requires_grad_()
        for mode in (True, False):
            y = layer.train(mode)(x)
            assert y.dtype == dtype
            y.sum().backward()
            for tensor in (x, *layer.parameters()):
                assert tensor.grad.dtype == tensor.dtype


@every_layer
def test_autocast_changes_nothing(make, shape):
    for dtype in (torch.bfloat16, torch.float32):
        layer, x = make(), torch.randn(shape).to(dtype)
        alone = copy.deepcopy(layer)(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            exactly(layer(x), alone)


@every_layer
def test_the_meta_device_gives_shapes(make, shape):
    layer = make().to("meta")
    for mode in (True, False):
        y = layer.train(mode)(torch.empty(shape, device="meta"))
        assert (y.shape, y.device.type) == (shape, "meta")


@forward_mode
@every_layer
def test_gradients_are_right_to_the_second_order(make, shape):
    layer = make().double()
    small = torch.randn((4, 6, *(2 for _ in shape[2:]))).double().requires_grad_()
    if isinstance(layer, LayerNorm):
        layer, small = LayerNorm(6).double(), torch.randn(2, 6).double().requires_grad_()
    for mode in (True, False):
        layer.train(mode)

        def function(x, layer=layer):
            if isinstance(layer, BatchRenorm):
                layer.reset_running_stats()  # its gradient leaves out what they do
                layer.r_max, layer.d_max = 1.0, 0.0
            return layer(x).square()

        torch.autograd.gradcheck(function, small, check_forward_ad=True)
        torch.autograd.gradgradcheck(function, small, check_fwd_over_rev=True)


@forward_mode
@pytest.mark.parametrize(
    ("ours", "theirs", "shape"),
    [
        (BatchNorm1d(4, track_running_stats=False),
         nn.BatchNorm1d(4, track_running_stats=False), (5, 4)),
        (BatchNorm1d(4).eval(), nn.BatchNorm1d(4).eval(), (5, 4)),
        (InstanceNorm(4), nn.InstanceNorm1d(4), (2, 4, 3)),
        (GroupNorm(2, 4), nn.GroupNorm(2, 4), (3, 4)),
        (LayerNorm(4), nn.LayerNorm(4), (3, 4)),
        (RMSNorm(4), nn.RMSNorm(4), (3, 4)),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_hessians_forward_over_reverse_are_torchs(ours, theirs, shape):
    random_state(ours.double(), theirs.double())
    x = torch.randn(shape).double()
    assert_close(*(hessian(lambda x, f=f: f(x).pow(3).sum())(x) for f in (ours, theirs)))


@forward_mode
def test_renorms_r_and_d_are_constant_forward_too():
    layer = BatchRenorm(6, r_max=1.1, d_max=0.5).double()
    x, dx, dy = torch.randn(3, 8, 6).double()
    layer(x * 2 + 1)
    other = copy.deepcopy(layer)
    (gradient,) = torch.autograd.grad(other(x.requires_grad_()), x, dy)
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(layer(forward_ad.make_dual(x.detach(), dx)))
        assert forward_ad.unpack_dual(layer.running_mean).tangent is None
    assert_close((dual.tangent * dy).sum(), (gradient * dx).sum())
    exactly(buffers(layer), buffers(other))


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
@every_layer
def test_vmap_over_stacked_layers_equals_one_by_one_buffers_included(make, shape, mode):
    layers = [make().train(mode) for _ in range(3)]
    for layer in layers:
        for tensor in layer.state_dict().values():
            if tensor.is_floating_point():
                nn.init.uniform_(tensor, 0.5, 1.5)
    parameters, stacked = stack_module_state(layers)

    def one(parameters, buffers, x):
        return functional_call(layers[0], (parameters, buffers), (x,))

    def gradients(y, parameters, dy):
        parameters = list(parameters)
        return torch.autograd.grad(y, parameters, dy) if parameters else ()

    for x, dy in torch.randn(2, 2, 3, *shape):
        together = vmap(one)(parameters, stacked, x)
        found = [together, *gradients(together, parameters.values(), dy)]
        alone = [
            (y := layer(each), *gradients(y, layer.parameters(), d))
            for layer, each, d in zip(layers, x, dy, strict=True)
        ]
        assert_close(found, [torch.stack(tensors) for tensors in zip(*alone, strict=True)])
        assert_close(stacked, stack_module_state(layers)[1])


def test_grad_within_vmap_trains_many_seeds_at_once():
    layers = [BatchNorm1d(5).double() for _ in range(3)]
    theirs = [nn.BatchNorm1d(5).double() for _ in range(3)]
    x = torch.randn(3, 8, 5).double()
    results = []
    for group in (layers, theirs):
        parameters, stacked = stack_module_state(group)
        parameters = {name: p.detach() for name, p in parameters.items()}

        def loss(parameters, buffers, x, layer=group[0]):
            return (functional_call(layer, (parameters, buffers), (x,)) ** 3).sum()

        results.append([vmap(grad(loss))(parameters, stacked, x), stacked])
    assert_close(*results)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, within torch.compile
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(
    ("make", "fullgraph"),
    [
        (lambda: BatchNorm2d(6, momentum=None), True),  # torch's own is refused here
        (lambda: nn.Sequential(GhostBatchNorm(6, 4), GroupNorm(3, 6), LayerNorm(3)), True),
        (lambda: BatchRenorm(6), False),
    ],
    ids=["BatchNorm2d", "Ghost, Group, Layer", "BatchRenorm"],
)
def test_compiled_training_equals_uncompiled(make, fullgraph):
    torch._dynamo.reset()
    layer = make()
    twin = copy.deepcopy(layer)
    compiled = torch.compile(layer, fullgraph=fullgraph)
    for _ in range(3):
        x, dy = torch.randn(8, 6, 2, 3) + 1, torch.randn(8, 6, 2, 3)
        assert_close(outputs_and_gradients(compiled, x, dy), outputs_and_gradients(twin, x, dy))
        assert_close(buffers(layer), buffers(twin))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_exported_networks_equal_the_ones_they_come_from(mode, momentum):
    net = nn.Sequential(nn.Linear(6, 6), BatchNorm1d(6, momentum=momentum), LayerNorm(6))
    net.train(mode)
    twin = copy.deepcopy(net)
    exported = torch.export.export(net, (torch.randn(8, 6),), strict=False).module()
    for x in torch.randn(2, 8, 6):
        assert_close(exported(x), twin(x))
    assert_close(buffers(exported), buffers(twin))


# The family


def test_the_axes_are_those_of_the_table():
    x = torch.zeros(2, 6, 3, 4)
    assert (
        BatchNorm2d(6).axes(x)
        == GhostBatchNorm(6, 2).axes(x)
        == BatchRenorm(6).axes(x)
        == (0, 2, 3)
    )
    assert InstanceNorm(6).axes(x) == (2, 3)
    assert LayerNorm((6, 3, 4)).axes(x) == RMSNorm((6, 3, 4)).axes(x) == (1, 2, 3)
    assert GroupNorm(3, 6).axes(x.unflatten(1, (3, 2))) == (2, 3, 4)


@every_layer
def test_every_layer_is_normalize_over_its_axes_then_scale_and_shift(make, shape):
    layer, x = make().double(), torch.randn(shape).double() * 3 + 1
    for parameter in layer.parameters():
        nn.init.uniform_(parameter)
    if isinstance(layer, GhostBatchNorm):
        layer.ghost_batch_size = len(x)
    if isinstance(layer, BatchRenorm):
        layer.r_max, layer.d_max = 1.0, 0.0
    assert_close(layer(x), Normalization.forward(layer, x))


@every_layer
def test_the_mean_and_variance_over_the_axes_become_0_and_almost_1(make, shape):
    layer, x = make().double(), torch.randn(shape).double() * 3 + 1
    x_hat = layer.normalized(x)
    if isinstance(layer, GroupNorm):
        x, x_hat = x.unflatten(1, (3, 2)), x_hat.unflatten(1, (3, 2))
    axes = layer.axes(x_hat)
    if isinstance(layer, RMSNorm):
        size = x.square().mean(axes)
        assert_close(x_hat.square().mean(axes), size / (size + torch.finfo(x.dtype).eps))
    else:
        var = x.var(axes, correction=0)
        assert_close(x_hat.mean(axes), torch.zeros_like(var))
        assert_close(x_hat.var(axes, correction=0), var / (var + layer.eps))


def test_one_group_is_layer_norm_and_a_group_per_channel_is_instance_norm():
    x = torch.randn(4, 6, 3, 2).double()
    options = {"affine": False, "dtype": torch.float64}
    assert_close(
        GroupNorm(1, 6, **options)(x), LayerNorm((6, 3, 2), elementwise_affine=False)(x)
    )  # fmt: skip
    assert_close(GroupNorm(6, 6, **options)(x), InstanceNorm(6)(x))


def test_rms_norm_of_centred_values_is_layer_norm():
    x = torch.randn(4, 6).double()
    x = x - x.mean(1, keepdim=True)
    assert_close(RMSNorm(6, 1e-5).double()(x), LayerNorm(6).double()(x))


@pytest.mark.parametrize("shape", [(3, 6, 4, 5), (3, 6, 4, 5, 2)], ids=str)
def test_outputs_are_laid_out_as_torchs_are(shape):
    d = len(shape) - 2
    x = torch.randn(shape)
    inputs = [
        x,
        x.to(memory_format=torch.channels_last if d == 2 else torch.channels_last_3d),
        x.transpose(0, -1).contiguous().transpose(0, -1),
    ]
    layers = [
        ((BatchNorm2d, BatchNorm3d)[d - 2](6), getattr(nn, f"BatchNorm{d}d")(6)),
        (GhostBatchNorm(6, 2), getattr(nn, f"BatchNorm{d}d")(6)),
        (BatchRenorm(6), getattr(nn, f"BatchNorm{d}d")(6)),
        (GroupNorm(3, 6), nn.GroupNorm(3, 6)),
        (InstanceNorm(6), getattr(nn, f"InstanceNorm{d}d")(6)),
        (LayerNorm(shape[2:]), nn.LayerNorm(shape[2:])),
        (RMSNorm(shape[2:]), nn.RMSNorm(shape[2:])),
    ]
    for ours, theirs in layers:
        for x in inputs:
            assert ours(x).stride() == theirs(x).stride(), (ours, x.stride())
    for layer in (LayerNorm(4), InstanceNorm(3, affine=True)):
        assert (
            layer(torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)).view(2, -1).any()
        )


# What the module's docstring says of torch's tools


@pytest.mark.filterwarnings("ignore:.torch.jit.script")
def test_torchs_tools_for_its_own_classes_do_not_take_the_layers_unless_converted():
    ours = nn.Sequential(nn.Linear(5, 5), BatchNorm1d(5))
    theirs = convert(ours, to_torch)
    before = copy.deepcopy(buffers(ours))
    batches = [torch.randn(8, 5)]
    for model in (ours, theirs):
        torch.optim.swa_utils.update_bn(batches, model)
    exactly(buffers(ours), before)
    assert_close(recalibrate(ours, batches)[1].running_mean, theirs[1].running_mean)
    assert type(nn.SyncBatchNorm.convert_sync_batchnorm(ours)[1]) is BatchNorm1d
    assert type(nn.SyncBatchNorm.convert_sync_batchnorm(theirs)[1]) is nn.SyncBatchNorm
    theirs = convert(ours, to_torch)
    for tool in (torch.fx.symbolic_trace, torch.jit.script):
        tool(theirs)
        with pytest.raises(Exception, match=r"symbolically traced|tensor|Tensor|type"):
            tool(ours)
    for model in (ours, theirs):
        torch.func.replace_all_batch_norm_modules_(model)
    assert ours[1].running_mean is not None
    assert theirs[1].running_mean is None


# The map of evaluation mode


@pytest.mark.parametrize("options", [o for o in OPTIONS if "track_running_stats" not in o], ids=str)
@pytest.mark.parametrize("shape", PAIRS, ids=str)
def test_inference_map_is_what_evaluation_computes(options, shape):
    ours, theirs = (layer.eval() for layer in pair(shape, **options))
    scale, shift = ours.inference_map()
    assert scale.shape == shift.shape == (5,)
    along = (5, *(1,) * (len(shape) - 2))
    x = torch.randn(shape).double()
    assert_close(scale.view(along) * x + shift.view(along), theirs(x))


def test_inference_map_carries_gradients_and_is_float32_in_half_precision():
    layer = BatchNorm1d(5)
    scale, shift = layer.inference_map()
    (scale.sum() + shift.sum()).backward()
    assert layer.bias.grad is not None
    assert layer.weight.grad is not None
    half = BatchNorm1d(5).half()
    assert [t.dtype for t in half.inference_map()] == [torch.float32] * 2


# Ghost batch norm


@pytest.mark.parametrize("momentum", [0.1, None, 1.0])
@pytest.mark.parametrize(("m", "ghost"), [(12, 4), (11, 4), (6, 2), (5, 3), (12, 5)])
@pytest.mark.parametrize("positions", [(), (3,), (2, 3), (2, 1, 3)], ids=str)
def test_ghost_is_batch_norm_on_each_virtual_batch_in_turn(m, ghost, positions, momentum):
    torch.manual_seed(0)
    layer = GhostBatchNorm(5, ghost, momentum=momentum).double()
    (torchs,) = {theirs for shape, (_, theirs) in PAIRS.items() if len(shape) == 2 + len(positions)}
    reference = torchs(5, momentum=momentum).double()
    random_state(reference, layer)
    x = torch.randn(m, 5, *positions).double().requires_grad_()
    dy = torch.randn(x.shape).double()
    ours = layer(x), *torch.autograd.grad(layer(x), [x, *layer.parameters()], dy)
    chunks = torch.cat([reference(part) for part in x.split(ghost)])
    again = torch.cat([reference(part) for part in x.split(ghost)])
    assert_close(ours, (chunks, *torch.autograd.grad(again, [x, *reference.parameters()], dy)))
    assert_close(buffers(layer), buffers(reference))
    assert layer.num_batches_tracked == 2 * -(-m // ghost)
    assert_close(layer.eval()(x), reference.eval()(x))


@pytest.mark.parametrize("ghost", [8, 9, 1000])
def test_ghost_with_one_virtual_batch_is_batch_norm(ghost):
    torch.manual_seed(0)
    ours, plain = GhostBatchNorm(5, ghost), BatchNorm1d(5)
    random_state(ours, plain)
    x, dy = torch.randn(8, 5), torch.randn(8, 5)
    exactly(*(outputs_and_gradients(layer, x, dy) for layer in (ours, plain)))
    exactly(dict(ours.state_dict()), dict(plain.state_dict()))


def test_ghost_refuses_before_any_virtual_batch_was_counted():
    layer = GhostBatchNorm(5, 4)
    with pytest.raises(ValueError, match="ghost_batch_size = 4"):
        layer(torch.randn(9, 5))
    assert layer.num_batches_tracked == 0
    layer(torch.randn(9, 5, 2))


# Batch renorm


def with_history(layer):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(0.5, 1.5)
    for _ in range(5):
        layer(torch.randn(8, 5, dtype=layer.weight.dtype) * 2 + 1)
    return layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_renorm_without_correction_is_batch_norm_exactly(dtype):
    ours = with_history(BatchRenorm(5, r_max=1.0, d_max=0.0, dtype=dtype))
    plain = BatchNorm1d(5, dtype=dtype)
    plain.load_state_dict(dict(ours.named_parameters()), strict=False)
    x, dy = torch.randn(8, 5, dtype=dtype), torch.randn(8, 5, dtype=dtype)
    exactly(*(outputs_and_gradients(layer, x, dy) for layer in (ours, plain)))


def test_renorm_without_bounds_trains_on_what_evaluation_computes():
    layer = with_history(BatchRenorm(5, r_max=torch.inf, d_max=torch.inf).double())
    x = torch.randn(8, 5).double() * 3 - 1
    expected = copy.deepcopy(layer).eval()(x)
    assert_close(layer(x), expected)


def test_renorms_gradient_is_batch_norms_with_r_and_d_constant():
    layer = with_history(BatchRenorm(5, r_max=torch.inf, d_max=torch.inf).double())
    x, dy = torch.randn(8, 5).double() * 3 - 1, torch.randn(8, 5).double()
    sigma_batch = torch.sqrt(x.var(0, correction=0) + layer.eps)
    r = sigma_batch / layer.running_std
    d = (x.mean(0) - layer.running_mean) / layer.running_std
    y, dx, dgamma, dbeta = outputs_and_gradients(copy.deepcopy(layer), x, dy)
    leaf = x.clone().requires_grad_()
    gamma, beta = (p.detach().clone().requires_grad_() for p in layer.parameters())
    reference = gamma * (batch_norm(leaf, eps=layer.eps) * r + d) + beta
    reference.backward(dy)
    assert_close([y, dx, dgamma, dbeta], [reference.detach(), leaf.grad, gamma.grad, beta.grad])
    assert dx.sum(0).abs().max() < 1e-12  # as batch norm's, and unlike evaluation's
    assert not torch.allclose(dx, dy * gamma / layer.running_std)


@pytest.mark.parametrize(("r_max", "d_max"), [(1.1, 0.2), (3.0, 5.0), (1.0, 0.5), (2.0, 0.0)])
def test_renorm_follows_its_algorithm_line_by_line(r_max, d_max):
    layer = with_history(BatchRenorm(5, momentum=0.3, eps=1e-3).double())
    layer.r_max, layer.d_max = r_max, d_max  # as a schedule would
    x = torch.randn(8, 5).double() * 4 - 2
    mu, sigma = layer.running_mean.clone(), layer.running_std.clone()
    mu_batch = x.mean(0)
    sigma_batch = (1e-3 + (x - mu_batch).square().mean(0)).sqrt()
    r = torch.clip(sigma_batch / sigma, 1 / r_max, r_max)
    d = torch.clip((mu_batch - mu) / sigma, -d_max, d_max)
    x_hat = (x - mu_batch) / sigma_batch * r + d
    assert_close(layer(x), layer.weight * x_hat + layer.bias)
    assert_close(layer.running_mean, mu + 0.3 * (mu_batch - mu))
    assert_close(layer.running_std, sigma + 0.3 * (sigma_batch - sigma))
    scale, shift = layer.inference_map()
    assert_close(layer.eval()(x), scale * x + shift)
    mu, sigma = layer.running_mean, layer.running_std
    assert_close(layer(x), layer.weight * (x - mu) / sigma + layer.bias)


@pytest.mark.parametrize("options", [{"affine": False}, {"bias": False}, {}], ids=str)
@pytest.mark.parametrize("positions", [(), (3,), (2, 3)], ids=str)
def test_renorm_takes_any_rank_and_any_parameters(positions, options):
    layer = BatchRenorm(5, **options).double()
    x = torch.randn(8, 5, *positions).double()
    flat = x.movedim(1, -1).reshape(-1, 5)
    twin = copy.deepcopy(layer)
    for mode in (True, False):
        y = layer.train(mode)(x)
        assert_close(y.movedim(1, -1).reshape(-1, 5), twin.train(mode)(flat))


def test_renorm_lets_an_empty_batch_through():
    layer = BatchRenorm(5)
    x = torch.zeros(0, 5)
    y, dx, dgamma, dbeta = outputs_and_gradients(layer, x, x)
    assert y.shape == dx.shape == (0, 5)
    exactly([dgamma, dbeta], [torch.zeros(5)] * 2)
    exactly(layer.running_std, torch.ones(5))


# Refusals

BAD = [
    (lambda: BatchNorm1d(0), ValueError, "BatchNorm1d: num_features is 0; it must be at least 1"),
    (lambda: BatchNorm2d(5, eps=-1e-5), ValueError, "BatchNorm2d: eps is -1e-05"),
    (lambda: BatchNorm3d(5, eps=0), ValueError, r"eps is 0.*1e-5 is usual"),
    (lambda: BatchNorm1d(5, eps=float("nan")), ValueError, "eps is nan"),
    (lambda: BatchNorm1d(5, momentum=1.5), ValueError, "momentum is 1.5.*newest batch"),
    (lambda: BatchNorm1d(5)(torch.zeros(8)), ValueError, r"shape \(8,\).*\(m, d\) or \(m, d, l\)"),
    (lambda: BatchNorm2d(5)(torch.zeros(8, 5)), ValueError, r"must be \(m, d, p, q\)"),
    (lambda: BatchNorm2d(5)(torch.zeros(5, 4, 4)), ValueError, r"input\.unsqueeze\(0\)"),
    (lambda: BatchNorm3d(5)(torch.zeros(8, 5, 2, 2)), ValueError, r"\(m, d, o, p, q\)"),
    (lambda: BatchNorm1d(5)(torch.zeros(8, 4)), ValueError, "4 channels.*num_features = 5"),
    (lambda: BatchNorm1d(5)(torch.zeros(1, 5)), ValueError, "at least 2 values per channel"),
    (lambda: BatchNorm2d(5)(torch.zeros(1, 5, 1, 1)), ValueError, r"layer\.eval\(\)"),
    (
        lambda: BatchNorm1d(5, track_running_stats=False).eval()(torch.zeros(1, 5)),
        ValueError,
        "its own statistics",
    ),
    (lambda: BatchNorm1d(5)(torch.zeros(8, 5).long()), TypeError, r"int64.*input\.float\(\)"),
    (lambda: BatchNorm1d(5)(torch.zeros(8, 5).double()), TypeError, "input.*float64.*float32"),
    (lambda: BatchNorm1d(5).half()(torch.zeros(8, 5)), TypeError, "input.*float32.*float16"),
    (lambda: LayerNorm(5).double()(torch.zeros(8, 5)), TypeError, "LayerNorm: input.*float32"),
    (
        lambda: BatchNorm1d(5, track_running_stats=False).inference_map(),
        ValueError,
        "no running statistics.*track_running_stats=True",
    ),
    (lambda: GhostBatchNorm(5, 0), ValueError, "ghost_batch_size is 0"),
    (lambda: GhostBatchNorm(5, 4)(torch.zeros(9, 5)), ValueError, "ghost_batch_size = 4.*1 value"),
    (lambda: GhostBatchNorm(5, 1)(torch.zeros(9, 5)), ValueError, "ghost_batch_size = 1"),
    (lambda: BatchRenorm(5, r_max=0.5), ValueError, "r_max is 0.5.*at least 1"),
    (lambda: BatchRenorm(5, d_max=-1), ValueError, "d_max is -1.*at least 0"),
    (lambda: BatchRenorm(5)(torch.zeros(1, 5)), ValueError, "BatchRenorm: input.*at least 2"),
    (lambda: BatchRenorm(5)(torch.zeros(5)), ValueError, r"must be \(m, d\) or \(m, d, ...\)"),
    (lambda: InstanceNorm(5)(torch.zeros(8, 5)), ValueError, r"shape \(8, 5\).*\(m, d, l\)"),
    (lambda: InstanceNorm(5)(torch.zeros(8, 4, 3)), ValueError, "4 channels.*num_features = 5"),
    (lambda: InstanceNorm(5)(torch.zeros(8, 5, 1)), ValueError, "1 position"),
    (lambda: GroupNorm(4, 6), ValueError, "num_channels is 6, which num_groups = 4"),
    (lambda: GroupNorm(0, 6), ValueError, "num_groups is 0"),
    (lambda: GroupNorm(2, 6)(torch.zeros(6)), ValueError, r"shape \(6,\)"),
    (lambda: GroupNorm(2, 6)(torch.zeros(4, 5)), ValueError, "5 channels.*num_channels = 6"),
    (lambda: GroupNorm(6, 6)(torch.zeros(1, 6)), ValueError, "6 groups has 1 value"),
    (lambda: LayerNorm(()), ValueError, "normalized_shape is"),
    (lambda: LayerNorm((4, 0)), ValueError, r"normalized_shape is \(4, 0\)"),
    (lambda: LayerNorm(6)(torch.zeros(4, 5)), ValueError, r"shape \(4, 5\).*\(6,\)"),
    (lambda: LayerNorm((5, 6))(torch.zeros(6)), ValueError, "last axes must have"),
    (lambda: RMSNorm(6)(torch.zeros(4, 5)), ValueError, "RMSNorm: input has shape"),
    (lambda: RMSNorm(6, eps=0.0), ValueError, "RMSNorm: eps is 0.0"),
    (lambda: LayerNorm(6, eps=float("inf")), ValueError, "LayerNorm: eps is inf.*finite"),
    (lambda: GroupNorm(2, 6, eps=1e-46), ValueError, "eps is 1e-46.*positive in torch.float32"),
    (lambda: BatchNorm1d(5)(torch.zeros(8, 5, device="meta")), ValueError,
     r"BatchNorm1d: input is on meta, the layer is on cpu; use input.to\('cpu'\)"),
    (lambda: BatchNorm1d(5, affine=False)(torch.zeros(8, 5, device="meta")), ValueError,
     "BatchNorm1d: input is on meta"),
    (lambda: BatchRenorm(5)(torch.zeros(8, 5, device="meta")), ValueError, "Renorm: input is on"),
    (lambda: GroupNorm(5, 5)(torch.zeros(8, 5, device="meta")), ValueError, "Norm: input is on"),
    (lambda: LayerNorm(5)(torch.zeros(8, 5, device="meta")), ValueError, "Norm: input is on meta"),
    (lambda: BatchNorm1d("4"), TypeError, "BatchNorm1d: num_features is '4'.*whole number"),
    (lambda: BatchRenorm(4.0), TypeError, "BatchRenorm: num_features is 4.0"),
    (lambda: GhostBatchNorm(4, 2.0), TypeError, "GhostBatchNorm: ghost_batch_size is 2.0"),
    (lambda: GroupNorm(2.0, 4), TypeError, "GroupNorm: num_groups is 2.0"),
    (lambda: LayerNorm(4.0), TypeError, "LayerNorm: normalized_shape is 4.0.*whole number"),
    (lambda: LayerNorm((4, 2.0)), TypeError, r"normalized_shape is \(4, 2.0\)"),
    (lambda: BatchNorm1d(4, dtype=torch.complex64), TypeError, "dtype is torch.complex64.*float32"),
    (lambda: LayerNorm(4, dtype=torch.int32), TypeError, "LayerNorm: dtype is torch.int32"),
    (lambda: BatchNorm1d(2)([[1.0, 2.0]]), TypeError, "input is of type list.*torch.as_tensor"),
    (lambda: RMSNorm(2)(2.0), TypeError, "RMSNorm: input is of type float; it must be a tensor"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), BAD, ids=[words for _, _, words in BAD])
def test_bad_input_is_named_with_what_would_do(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("missing", ["running_mean", "running_var"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_one_running_statistic_without_the_other_is_refused_as_by_torch(missing, training):
    for layer in (BatchNorm1d(5), nn.BatchNorm1d(5)):
        setattr(layer.train(training), missing, None)
        with pytest.raises((ValueError, RuntimeError), match=r"running_(mean|var)"):
            layer(torch.randn(8, 5))


def test_reset_forgets_what_is_there_whatever_the_flag_says():
    layer = BatchNorm1d(5, track_running_stats=False)
    layer.track_running_stats = True
    layer.reset_parameters()
    layer = BatchNorm1d(5)
    layer(torch.randn(8, 5))
    layer.num_batches_tracked = None
    layer.reset_running_stats()
    exactly(layer.running_mean, torch.zeros(5))
    exactly(layer.running_var, torch.ones(5))


def test_numpys_whole_numbers_will_do_as_in_torch():
    assert LayerNorm(np.int64(4)).normalized_shape == (4,)
    assert LayerNorm(torch.Size([3, 4])).normalized_shape == (3, 4)
    x = torch.randn(8, 4)
    exactly(BatchNorm1d(np.int64(4))(x), BatchNorm1d(4)(x))


def test_a_refused_batch_is_not_counted():
    layer = BatchNorm1d(5)
    with pytest.raises(ValueError, match="at least 2 values"):
        layer(torch.zeros(1, 5))
    assert layer.num_batches_tracked == 0
