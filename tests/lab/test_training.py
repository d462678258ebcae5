"""The training loop, against a loop written out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bn_core import BatchNorm1d
from bn_core.lab.training import accuracy, batches, predict, train


def small(seed=0, norm=False):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), *([BatchNorm1d(5)] if norm else []), nn.Linear(5, 3))


def examples(n=30):
    generator = torch.Generator().manual_seed(9)
    return torch.randn(n, 4, generator=generator), torch.randint(3, (n,), generator=generator)


def trained(model, steps=12, **options):
    sgd = torch.optim.SGD(model.parameters(), lr=options.pop("lr", 0.1))
    generator = torch.Generator().manual_seed(5)
    return train(model, *examples(), sgd, steps=steps, batch_size=7, generator=generator, **options)


def test_is_gradient_descent_on_the_mean_cross_entropy_of_each_batch():
    ours, by_hand = small(), small()
    trained(ours)
    images, labels = examples()
    order = batches(30, 7, torch.Generator().manual_seed(5))
    for _ in range(12):
        index = next(order)
        loss = F.cross_entropy(by_hand(images[index]), labels[index])
        gradients = torch.autograd.grad(loss, list(by_hand.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(by_hand.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
    for mine, theirs in zip(ours.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_same_seed_gives_the_same_bits():
    first, second = small(), small()
    trained(first)
    trained(second)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


def test_an_epoch_shows_each_example_at_most_once_and_epochs_differ():
    order = batches(20, 6, torch.Generator().manual_seed(0))
    first, second = (torch.cat([next(order) for _ in range(3)]) for _ in range(2))
    assert len(set(first.tolist())) == 18
    assert not torch.equal(first, second)


def test_watch_is_called_at_its_steps_and_training_mode_returns():
    model = small(norm=True)
    seen = []

    def watch(step):
        seen.append((step, model.training))
        model.eval()

    record = trained(model, watch=watch, watch_at=[0, 3, 12])
    assert seen == [(0, True), (3, True), (12, True)]
    assert record.steps == [0, 3, 12]


def test_losses_are_means_since_the_stop_before():
    every = trained(small(), watch_at=range(1, 13)).losses
    some = trained(small(), watch_at=[0, 4, 12]).losses
    assert math.isnan(some[0])
    assert some[1:] == pytest.approx([sum(every[:4]) / 4, sum(every[4:]) / 8])


def test_divergence_stops_training_and_keeps_what_was_measured():
    record = trained(small(), steps=200, lr=1e20, watch_at=[1, 200])
    assert record.diverged_at is not None
    assert record.diverged_at < 200
    assert record.steps == [1]


def test_report_hears_of_every_step():
    heard = []
    trained(small(), report=heard.append)
    assert heard == list(range(1, 13))


def test_predict_uses_evaluation_mode_and_restores_each_modules_own():
    model = small(norm=True)
    model[0].eval()
    scores = predict(model, examples()[0], batch_size=4)
    assert [module.training for module in model] == [False, True, True]
    model.eval()
    torch.testing.assert_close(scores, model(examples()[0]).detach())


def test_predict_restores_modes_after_an_error():
    model = small()
    with pytest.raises(RuntimeError):
        predict(model, torch.zeros(3, 99))
    assert model.training


def test_accuracy_is_the_share_of_highest_scores_at_the_label():
    scores = torch.tensor([[0.0, 1.0], [3.0, 2.0], [0.0, 9.0], [0.0, 1.0]])
    assert accuracy(scores, torch.tensor([1, 0, 1, 0])) == 0.75


@pytest.mark.parametrize("size", [0, 31])
def test_batch_size_must_fit(size):
    model = small()
    with pytest.raises(ValueError, match=rf"batch_size is {size}.*\[1, 30\]"):
        train(model, *examples(), torch.optim.SGD(model.parameters()), steps=1, batch_size=size)


@pytest.mark.parametrize("watch_at", [[-1], [13]])
def test_watch_must_be_within_training(watch_at):
    with pytest.raises(ValueError, match=r"watch_at .*\[0, 12\]"):
        trained(small(), watch_at=watch_at)
