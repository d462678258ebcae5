"""BatchNorm1d against torch.nn.BatchNorm1d: outputs, gradients, buffers, state and refusals."""

import copy
import pickle

import pytest
import torch
from torch import nn

from bn_core import BatchNorm1d

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


def pair(**options):
    """Our layer and torch's with the same random parameters, in float64."""
    ours, theirs = BatchNorm1d(5, **options).double(), nn.BatchNorm1d(5, **options).double()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn(5))
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", [(8, 5), (4, 5, 3)], ids=str)
def test_training_agrees_with_torch_in_outputs_gradients_and_buffers(options, shape):
    torch.manual_seed(0)
    ours, theirs = pair(**options)
    for _ in range(20):
        x = torch.randn(shape).double() * 2 + 1
        dy = torch.randn(shape).double()
        gradients = []
        for layer in (ours, theirs):
            leaf = x.clone().requires_grad_()
            layer.zero_grad()
            y = layer(leaf)
            y.backward(dy)
            gradients.append([y, leaf.grad, *(p.grad for p in layer.parameters())])
        torch.testing.assert_close(*gradients)
        torch.testing.assert_close(dict(ours.named_buffers()), dict(theirs.named_buffers()))
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x), theirs(x))


def test_mode_is_the_modules_not_autograds():
    ours, theirs = pair()
    x = torch.randn(8, 5).double()
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    assert ours.num_batches_tracked == 1


def test_evaluation_takes_a_batch_of_one_and_changes_no_buffer():
    ours, theirs = pair()
    x = torch.randn(8, 5).double()
    ours(x), theirs(x)
    before = copy.deepcopy(ours.state_dict())
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x[:1]), theirs(x[:1]))
    torch.testing.assert_close(dict(ours.state_dict()), dict(before))


def test_checkpoints_go_both_ways():
    ours, theirs = pair()
    ours(torch.randn(8, 5).double())
    theirs.load_state_dict(ours.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    torch.testing.assert_close(dict(theirs.state_dict()), dict(ours.state_dict()))


def test_reset_forgets_every_batch():
    layer = BatchNorm1d(5)
    layer(torch.randn(8, 5))
    layer.reset_parameters()
    torch.testing.assert_close(dict(layer.state_dict()), dict(nn.BatchNorm1d(5).state_dict()))


def test_prints_as_torchs_does():
    assert repr(BatchNorm1d(5, momentum=None)) == repr(nn.BatchNorm1d(5, momentum=None))


def test_copies_and_pickles_behave_alike():
    layer = BatchNorm1d(5)
    x = torch.randn(8, 5)
    layer(x)
    layer.eval()
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(twin(x), layer(x))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: BatchNorm1d(0), "num_features is 0"),
        (lambda: BatchNorm1d(5, eps=-1e-5), "eps is -1e-05"),
        (lambda: BatchNorm1d(5, momentum=1.5), "momentum is 1.5.*newest batch"),
        (lambda: BatchNorm1d(5)(torch.zeros(8)), r"shape \(8,\); it must be \(m, d\)"),
        (lambda: BatchNorm1d(5)(torch.zeros(8, 4)), "4 channels.*num_features = 5"),
        (lambda: BatchNorm1d(5)(torch.zeros(1, 5)), "at least 2 values per channel"),
    ],
)
def test_bad_input_is_named_with_what_would_do(call, words):
    with pytest.raises(ValueError, match=words):
        call()
