"""The training loop, against a loop written out by hand, and many networks against each alone."""

import math
import os
import pickle
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bn_core import BatchNorm1d, BatchNorm2d, layers
from bn_core.lab import checkpoint
from bn_core.lab.checkpoint import CheckpointError
from bn_core.lab.dropout import Dropout
from bn_core.lab.stack import Stack
from bn_core.lab.training import (
    Interrupted,
    Training,
    accuracy,
    batches,
    predict,
    train,
    train_stack,
)


@pytest.fixture(autouse=True)
def _one_thread():
    """Two threads wait for each other longer than networks of this size compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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


OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: torch.optim.SGD(
        parameters, lr=0.05, momentum=0.9, weight_decay=0.01
    ),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
}
NORMALIZATIONS = {
    "nothing": nn.Identity,
    "BatchNorm1d": BatchNorm1d,
    "GhostBatchNorm": lambda d: layers.GhostBatchNorm(d, 4),
    "BatchRenorm": layers.BatchRenorm,
    "LayerNorm": layers.LayerNorm,
    "RMSNorm": layers.RMSNorm,
    "GroupNorm": lambda d: layers.GroupNorm(2, d),
}
DEVICES = ["cpu"]
if torch.cuda.is_available():
    DEVICES.append("cuda")
if torch.backends.mps.is_available():
    DEVICES.append("mps")


def network(seed, normalization="BatchNorm1d", p=0.0):
    torch.manual_seed(seed)
    # No bias that a normalization subtracts again: its gradient is rounding, which Adam scales up.
    linear = nn.Linear(4, 6, bias=normalization == "nothing")
    return nn.Sequential(
        linear, NORMALIZATIONS[normalization](6), Dropout(p, seed), nn.Linear(6, 3)
    )


def convolutional(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)),
        nn.Conv2d(1, 4, 2, padding=1, bias=False),
        BatchNorm2d(4),
        nn.ReLU(),
        layers.InstanceNorm(4),
        nn.Flatten(),
        nn.Linear(36, 3),
    )


def generators(seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def alone(model, seed, optimizer="momentum", dtype=torch.float64, device="cpu", **options):
    images, labels = examples()
    model.to(device, dtype)
    return train(
        model,
        images.to(device, dtype),
        labels.to(device),
        OPTIMIZERS[optimizer](model.parameters()),
        **{"steps": 40, "batch_size": 8, "generator": generators([seed])[0], **options},
    )


def together(models, seeds, optimizer="momentum", dtype=torch.float64, device="cpu", **options):
    """Train as a stack; returns it and the record of each network."""
    images, labels = examples()
    stack = Stack(models).to(device, dtype)
    return stack, train_stack(
        stack,
        images.to(device, dtype),
        labels.to(device),
        OPTIMIZERS[optimizer](stack.parameters()),
        **{"steps": 40, "batch_size": 8, "generators": generators(seeds), **options},
    )


def assert_together_is_alone(build, optimizer="momentum", dtype=torch.float64, **close):
    seeds = (3, 5, 8)
    at = {"watch_at": range(0, 41, 5)}
    stack, records = together([build(seed) for seed in seeds], seeds, optimizer, dtype, **at)
    for s, seed in enumerate(seeds):
        model = build(seed)
        record = alone(model, seed, optimizer, dtype, **at)
        torch.testing.assert_close(stack.unstack(s).state_dict(), model.state_dict(), **close)
        assert records[s].steps == record.steps
        torch.testing.assert_close(
            torch.tensor(records[s].losses), torch.tensor(record.losses), equal_nan=True, **close
        )


TIGHT = {"rtol": 1e-9, "atol": 1e-9}


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_network_in_a_stack_is_trained_as_alone(optimizer, normalization):
    assert_together_is_alone(lambda seed: network(seed, normalization), optimizer, **TIGHT)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_network_in_a_stack_is_trained_as_alone_in_single_precision(optimizer):
    assert_together_is_alone(network, optimizer, torch.float32, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("normalization", ["nothing", "BatchNorm1d"])
def test_dropout_in_a_stack_is_that_of_the_network_alone(normalization):
    assert_together_is_alone(lambda seed: network(seed, normalization, p=0.3), "adam", **TIGHT)


def test_a_convolutional_network_in_a_stack_is_trained_as_alone():
    assert_together_is_alone(convolutional, **TIGHT)


@pytest.mark.parametrize("device", DEVICES)
def test_trains_where_model_and_data_are(device):
    model = network(0)
    record = alone(model, 1, dtype=torch.float32, device=device, watch_at=[40])
    stack, records = together([network(0)], [1], dtype=torch.float32, device=device, watch_at=[40])
    assert next(model.parameters()).device.type == device
    assert next(stack.parameters()).device.type == device
    assert records[0].losses == pytest.approx(record.losses, rel=1e-3)


def test_a_stack_gives_the_same_bits_again():
    (first, one), (second, two) = (
        together([network(s, p=0.2) for s in (1, 2)], (1, 2), watch_at=[20, 40]) for _ in range(2)
    )
    assert one == two
    assert_same_bits(first, second)


def assert_same_bits(first, second):
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_orders_of_a_stack_are_those_of_single_runs():
    images, labels = examples()
    seen = []
    with torch.no_grad():
        stack = Stack([network(s) for s in (1, 2)])
    advance = stack.backward
    stack.backward = lambda x, y: (seen.append(x.clone()), advance(x, y))[1]
    sgd = torch.optim.SGD(stack.parameters(), lr=0.1)
    train_stack(stack, images, labels, sgd, steps=9, batch_size=7, generators=generators([4, 6]))
    for s, generator in enumerate(generators([4, 6])):
        order = batches(30, 7, generator)
        for x in seen:
            assert torch.equal(x[s], images[next(order)])


def test_divergence_of_one_network_leaves_the_others_alone():
    models = [network(seed) for seed in (3, 5, 8)]
    with torch.no_grad():
        models[1][3].weight.fill_(float("inf"))
    at = {"watch_at": [0, 10, 40], "watch": lambda step: [{"step": step}] * 3}
    stack, records = together(models, (3, 5, 8), **at)
    assert records[1].diverged_at == 1
    assert records[1].steps == records[1].measured["step"] == [0]
    for s, seed in ((0, 3), (2, 8)):
        model = network(seed)
        record = alone(model, seed, watch_at=at["watch_at"])
        torch.testing.assert_close(stack.unstack(s).state_dict(), model.state_dict(), **TIGHT)
        assert records[s].losses[1:] == pytest.approx(record.losses[1:])
        assert records[s].diverged_at is None
        assert records[s].measured == {"step": [0, 10, 40]}


def test_divergence_has_the_step_it_has_alone():
    def explosive(seed):
        model = network(seed, "nothing").double()
        with torch.no_grad():
            model[0].weight.mul_(10.0**seed)
        return model

    def rate(parameters):
        return torch.optim.SGD(parameters, lr=30.0)

    images, labels = examples()
    stack = Stack([explosive(seed) for seed in (0, 1, 40)])
    records = train_stack(
        stack,
        images.double(),
        labels,
        rate(stack.parameters()),
        steps=300,
        batch_size=8,
        generators=generators([0, 1, 40]),
    )
    for record, seed in zip(records, (0, 1, 40), strict=True):
        model = explosive(seed)
        single = train(
            model,
            images.double(),
            labels,
            rate(model.parameters()),
            steps=300,
            batch_size=8,
            generator=generators([seed])[0],
        )
        assert record.diverged_at == single.diverged_at


def test_training_ends_when_all_have_diverged():
    heard = []
    models = [network(seed) for seed in (3, 5)]
    for model in models:
        model[3].weight.data.fill_(float("inf"))
    _, records = together(models, (3, 5), steps=5000, report=heard.append)
    assert [record.diverged_at for record in records] == [1, 1]
    assert len(heard) < 200


def test_what_watch_returns_is_kept():
    shown = {
        "number": np.float64(1.5),
        "flag": True,
        "text": "yes",
        "nothing": None,
        "scalar": torch.tensor(2.0),
        "tensor": torch.ones(2, requires_grad=True),
        "array": np.arange(3),
    }
    measured = alone(network(0), 0, watch=lambda _: shown, watch_at=[1, 2]).measured
    assert [type(values[0]) for values in measured.values()] == [
        float, bool, str, type(None), float, np.ndarray, np.ndarray,
    ]  # fmt: skip
    assert all(len(values) == 2 for values in measured.values())


def test_what_watch_returns_is_copied():
    model = network(0)
    seen = alone(model, 0, watch=lambda _: {"bias": model[3].bias}, watch_at=[0, 40]).measured
    assert not np.array_equal(*seen["bias"])


def test_watch_must_return_what_can_be_kept():
    with pytest.raises(TypeError, match=r"returned a Linear as 'layer'.*number"):
        alone(network(0), 0, watch=lambda _: {"layer": nn.Linear(1, 1)}, watch_at=[1])


def test_watch_must_return_the_same_names_each_time():
    with pytest.raises(ValueError, match=r"\['2'\] at step 2, but \['1'\]"):
        alone(network(0), 0, watch=lambda step: {str(step): step}, watch_at=[1, 2])


def test_watch_of_a_stack_must_return_one_mapping_for_each():
    with pytest.raises(ValueError, match="returned 1 mappings; there are 2"):
        together([network(0), network(1)], (0, 1), watch=lambda _: [{}], watch_at=[1])


def test_the_record_grows_with_watch_at_only():
    images, labels = examples()
    model = small()

    def trained_for(steps):
        sgd = torch.optim.SGD(model.parameters(), lr=0.01)
        tracemalloc.start()
        train(model, images, labels, sgd, steps=steps, batch_size=2, watch_at=[steps])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    trained_for(200)
    assert trained_for(2_000) < trained_for(200) + 20_000  # 2,000 floats alone are more


def test_schedule_comes_before_each_step():
    model, rates = small(), []
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)

    def schedule(step):
        rates.append(step)
        sgd.param_groups[0]["lr"] = 0.0 if step > 2 else 0.1

    before_third = []

    def watch(step):
        before_third.append([p.detach().clone() for p in model.parameters()])

    train(
        model, *examples(), sgd, steps=5, batch_size=7, schedule=schedule, watch=watch,
        watch_at=[2, 5],
    )  # fmt: skip
    assert rates == [1, 2, 3, 4, 5]
    assert all(torch.equal(a, b) for a, b in zip(*before_third, strict=True))


def test_progress_shows_loss_and_time_left_and_is_quiet_unless_asked_for(capfd):
    alone(network(0), 0)
    assert capfd.readouterr().err == ""
    alone(network(0), 0, progress="a network", steps=70, report=lambda _: time.sleep(0.01))
    err = capfd.readouterr().err
    assert "a network" in err
    assert re.search(r"loss \d+\.\d+", err)
    assert re.search(r"\d\d:\d\d<\d\d:\d\d", err)


# Checkpoints. A run of each kind, that can be interrupted and resumed.

RESUMABLE = ("one network", "torch's dropout", "a stack")


def resumable(kind, checkpoint=None, steps=30, **options):
    """Train from the start, or from the checkpoint; returns the model and its records."""
    options = {
        "watch_at": [0, 10, 20, 30],
        "checkpoint": checkpoint,
        "checkpoint_seconds": 0.0,
        "steps": steps,
        **options,
    }
    if kind == "a stack":
        models = [network(seed, p=0.2) for seed in (1, 2)]
        watch = lambda step: [{"step": step, "array": np.full(2, s)} for s in (1, 2)]  # noqa: E731
        return together(models, (1, 2), "adam", torch.float32, watch=watch, **options)
    model = network(1, p=0.2)
    if kind == "torch's dropout":
        model[2] = nn.Dropout(0.2)
    watch = lambda step: {"step": step, "array": model[0].bias}  # noqa: E731
    return model, [alone(model, 1, "adam", torch.float32, watch=watch, **options)]


def assert_same_run(first, second):
    assert_same_bits(first[0], second[0])
    for one, two in zip(first[1], second[1], strict=True):
        np.testing.assert_equal(vars(one), vars(two))


def run_until_killed(kind, checkpoint):
    """What the killed process does."""

    def report(step):
        if step == 13:
            print("ready", flush=True)
            time.sleep(600)

    torch.set_num_threads(1)
    resumable(kind, Path(checkpoint), report=report)


def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path):
    root = Path(__file__).parents[2]
    code = "import sys; from tests.lab import test_training as t; t.run_until_killed(*sys.argv[1:])"
    files = {kind: tmp_path / f"{i}.pt" for i, kind in enumerate(RESUMABLE)}
    processes = {
        kind: subprocess.Popen(
            [sys.executable, "-c", code, kind, file],
            cwd=root,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for kind, file in files.items()
    }
    for process in processes.values():
        with process:
            assert process.stdout.readline() == b"ready\n"
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    for kind, file in files.items():
        heard = []
        resumed = resumable(kind, file, report=heard.append)
        assert heard[0] == 13  # continued, not started again
        assert_same_run(resumed, resumable(kind))


@pytest.mark.parametrize("kind", RESUMABLE)
def test_ctrl_c_ends_after_the_step_and_resumes_bit_for_bit(kind, tmp_path):
    def press(step):
        if step == 17:
            signal.raise_signal(signal.SIGINT)

    file = tmp_path / "state.pt"
    with pytest.raises(Interrupted, match="after step 17 of 30") as stop:
        resumable(kind, file, report=press, checkpoint_seconds=1e9)
    for training in stop.value.trainings:
        assert training.steps == training.measured["step"] == [0, 10]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert_same_run(resumable(kind, file), resumable(kind))


def test_ctrl_c_twice_ends_at_once_and_keeps_what_was_measured():
    def press_twice(step):
        if step == 17:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("not reached")

    with pytest.raises(KeyboardInterrupt) as stop:
        resumable("one network", report=press_twice)
    assert stop.value.trainings[0].steps == [0, 10]


def test_interrupted_can_be_sent_to_another_process():
    stop = pickle.loads(pickle.dumps(Interrupted("stopped", [Training(steps=[1])])))
    assert (str(stop), stop.trainings) == ("stopped", [Training(steps=[1])])


@pytest.mark.parametrize("kind", RESUMABLE)
def test_a_finished_training_is_not_repeated(kind, tmp_path):
    file = tmp_path / "folder" / "state.pt"
    first = resumable(kind, file)
    heard = []
    assert_same_run(resumable(kind, file, report=heard.append), first)
    assert not heard
    assert [path.name for path in file.parent.iterdir()] == ["state.pt"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 31}, "steps was 30, is 31"),
        ({"batch_size": 9}, "batch_size was 8, is 9"),
        ({"watch_at": [1]}, r"watch_at was \[0, 10, 20, 30\], is \[1\]"),
        ({"generator": torch.Generator().manual_seed(7)}, "state of the generators"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(change, named, tmp_path):
    file = tmp_path / "state.pt"
    resumable("one network", file)
    with pytest.raises(CheckpointError, match=rf"of another run: {named}"):
        resumable("one network", file, **change)


def test_a_checkpoint_of_another_model_optimizer_or_data_is_refused(tmp_path):
    file = tmp_path / "state.pt"
    images, labels = examples()
    options = {"steps": 1, "batch_size": 7, "checkpoint": file}

    def run(model, images, optimizer=torch.optim.SGD, lr=0.1):
        train(model, images, labels, optimizer(model.parameters(), lr=lr), **options)

    run(small(), images)
    with pytest.raises(CheckpointError, match="initial state of the model"):
        run(small(seed=1), images)
    with pytest.raises(CheckpointError, match="model was Sequential"):
        run(small(norm=True), images)
    with pytest.raises(CheckpointError, match="examples"):
        run(small(), images + 1)
    with pytest.raises(CheckpointError, match="optimizer was SGD, is Adam"):
        run(small(), images, torch.optim.Adam)
    with pytest.raises(CheckpointError, match=r"its settings was.*'lr': 0\.1.*is.*'lr': 0\.2"):
        run(small(), images, lr=0.2)


def test_a_damaged_checkpoint_is_refused_with_what_to_do(tmp_path):
    file = tmp_path / "state.pt"
    resumable("one network", file)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"state\.pt is damaged.*delete it"):
        resumable("one network", file)


# Bad input.


def test_a_stack_and_a_network_are_told_apart():
    stack = Stack([network(0)])
    sgd = torch.optim.SGD(stack.parameters())
    with pytest.raises(TypeError, match="use train_stack"):
        train(stack, *examples(), sgd, steps=1)
    with pytest.raises(TypeError, match=r"use train$"):
        train_stack(network(0), *examples(), sgd, steps=1, generators=generators([0]))


@pytest.mark.parametrize("given", [generators([0]), generators([0]) * 2])
def test_each_network_needs_a_generator_of_its_own(given):
    with pytest.raises(ValueError, match="1 different generators for 2 networks"):
        together([network(0), network(1)], (), generators=given)


def test_labels_must_go_with_the_images():
    images, labels = examples()
    sgd = torch.optim.SGD(small().parameters())
    with pytest.raises(ValueError, match=r"labels has shape \(29,\); with 30 images"):
        train(small(), images, labels[1:], sgd, steps=1)
    with pytest.raises(TypeError, match=r"labels has dtype torch\.float32.*labels\.long\(\)"):
        train(small(), images, labels.float(), sgd, steps=1)


def test_the_optimizer_must_be_the_models():
    sgd = torch.optim.SGD(small().parameters())
    with pytest.raises(ValueError, match="none of the model's parameters"):
        train(small(), *examples(), sgd, steps=1, batch_size=3)


def test_model_and_examples_must_be_on_one_device():
    model = small().to("meta")
    sgd = torch.optim.SGD(model.parameters())
    with pytest.raises(ValueError, match=r"images is on cpu, but the model's 0\.weight is on meta"):
        train(model, *examples(), sgd, steps=1, batch_size=3)


@pytest.mark.parametrize(("name", "value"), [("steps", -1), ("checkpoint_seconds", -1.0)])
def test_numbers_must_not_be_negative(name, value):
    with pytest.raises(ValueError, match=f"{name} is -1.*at least 0"):
        alone(network(0), 0, **{name: value})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"watch": lambda step: {}}, ValueError, r"watch_at is empty, so.*\[12\]"),
        ({"watch_at": [0.5]}, TypeError, r"watch_at \[0\.5\]; they must be whole numbers"),
        ({"watch_at": 5}, TypeError, "watch_at a list"),
        ({"steps": 2.5}, TypeError, r"steps is 2\.5"),
        ({"watch": lambda step: 3, "watch_at": [1]}, TypeError, "watch returned a int; it must"),
        ({"checkpoint": 3}, TypeError, "int"),
    ],
)
def test_what_train_would_pass_over_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        trained(small(), **options)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"model": lambda x: x}, TypeError, r"model is a function; it must be an nn\.Module"),
        ({"images": np.zeros((30, 4))}, TypeError, r"images is a ndarray.*torch\.as_tensor"),
        ({"labels": [0] * 30}, TypeError, r"labels is a list.*torch\.as_tensor\(labels\)"),
        ({"optimizer": None}, TypeError, r"optimizer is a NoneType; it must be a torch\.optim"),
        ({"optimizer": torch.optim.LBFGS(small().parameters())}, TypeError, "LBFGS, which needs"),
        ({"generator": 0}, TypeError, r"generator is a int.*manual_seed\(seed\)"),
        ({"generator": np.random.default_rng(0)}, TypeError, "generator is a Generator"),
        ({"images": torch.zeros(0, 4), "labels": torch.zeros(0).long()}, ValueError, "no examples"),
        ({"labels": torch.full((30,), 3)}, ValueError, r"values from 3 to 3.*in \[0, 3\)"),
        ({"labels": torch.full((30,), -1)}, ValueError, r"values from -1 to -1.*in \[0, 3\)"),
    ],
)
def test_arguments_that_do_not_fit_are_named(changed, error, message):
    model = small()
    images, labels = examples()
    arguments = {
        "model": model,
        "images": images,
        "labels": labels,
        "optimizer": torch.optim.SGD(model.parameters()),
        **changed,
    }
    with pytest.raises(error, match=message):
        train(**arguments, steps=1, batch_size=7)


def test_frozen_models_are_refused():
    with pytest.raises(ValueError, match="all of the model's parameters are frozen"):
        trained(small().requires_grad_(False))


class Returns(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.what = what

    def forward(self, x):
        return self.what(self.linear(x))


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        (lambda y: (y, y), TypeError, "the model returns a tuple; it must return a tensor"),
        (lambda y: y[0], ValueError, r"scores of shape \(3,\); with a batch of 7.*\(7, classes\)"),
    ],
)
def test_a_model_returns_scores(what, error, message):
    with pytest.raises(error, match=message):
        trained(Returns(what))


@pytest.mark.parametrize("model", [small().double(), nn.Linear(5, 3)])
def test_what_the_model_raises_comes_with_the_step_and_the_batch(model):
    with pytest.raises(RuntimeError) as error:
        trained(model)
    assert error.value.__notes__ == ["train: in step 1, with a batch of (7, 4), torch.float32"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"generators": None}, TypeError, "generators is a NoneType; give a list"),
        ({"generators": [0, 1]}, TypeError, "generator is a int"),
        (
            {"watch": lambda step: {"a": 1}, "watch_at": [1]},
            TypeError,
            "returned a dict.*in a list",
        ),
        ({"watch": lambda step: [1, 2], "watch_at": [1]}, TypeError, "watch returned a int"),
        ({"watch": lambda step: None, "watch_at": [1]}, TypeError, "returned a NoneType"),
    ],
)
def test_what_a_stack_is_trained_with_is_looked_at(options, error, message):
    with pytest.raises(error, match=message):
        together([network(0), network(1)], (0, 1), **options)


def test_a_stack_has_no_labels_that_do_not_count():
    images, labels = examples()
    labels[3] = -100
    stack = Stack([network(0)])
    sgd = torch.optim.SGD(stack.parameters())
    with pytest.raises(ValueError, match=r"train_stack: labels has -100.*\[0, classes\)"):
        train_stack(stack, images, labels, sgd, steps=1, batch_size=7, generators=generators([0]))


UNKEPT = {
    "longdouble": np.zeros(2, dtype=np.longdouble),
    "sparse": torch.eye(2).to_sparse(),
    "fp8": torch.zeros(2).to(torch.float8_e4m3fn),
    "text": np.array(["a", "b"]),
}


@pytest.mark.parametrize("name", UNKEPT)
def test_values_that_a_checkpoint_could_not_hold_are_refused_by_name(name):
    with pytest.raises(TypeError, match=rf"watch returned a \w+ of .* as '{name}'; it must be"):
        alone(network(0), 0, watch=lambda _: {name: UNKEPT[name]}, watch_at=[1])


def test_arrays_of_either_byte_order_are_kept(tmp_path):
    given = np.arange(3, dtype=">f8")[::-1]
    options = {"watch": lambda _: {"a": given}, "watch_at": [1], "checkpoint": tmp_path / "c"}
    for _ in range(2):
        [kept] = alone(network(0), 0, **options).measured["a"]
        np.testing.assert_array_equal(kept, given)
        assert kept.dtype.isnative


def test_a_checkpoint_may_be_named_by_a_string(tmp_path):
    file = str(tmp_path / "state.pt")
    first = resumable("one network", file)
    heard = []
    assert_same_run(resumable("one network", file, report=heard.append), first)
    assert not heard


# Accuracy, batches and scores.


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        (torch.eye(4), torch.arange(4)[:, None]),
        (torch.eye(4), torch.eye(4).long()),
        (torch.eye(4), torch.tensor([1])),
        (torch.eye(4), torch.tensor(1)),
        (torch.zeros(0, 4), torch.zeros(0).long()),
        (torch.zeros(2, 4, 3), torch.zeros(2).long()),
        (torch.zeros(4), torch.zeros(4).long()),
    ],
)
def test_accuracy_is_of_scores_and_labels_of_as_many_examples(scores, labels):
    with pytest.raises(ValueError, match=r"scores has shape .* and labels .*\(n, classes\)"):
        accuracy(scores, labels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_accuracy_is_of_integer_labels(dtype):
    with pytest.raises(ValueError, match=f"labels has dtype {dtype}"):
        accuracy(torch.eye(4), torch.ones(4, dtype=dtype))


@pytest.mark.parametrize(
    ("n", "size", "message"),
    [
        (5, 6, r"batch_size is 6; with 5 examples it must be in \[1, 5\]"),
        (5, 0, "batch_size is 0"),
        (5, -1, "batch_size is -1"),
        (0, 1, "n is 0; it must be at least 1"),
    ],
)
def test_batches_are_refused_before_the_first(n, size, message):
    with pytest.raises(ValueError, match=message):
        batches(n, size)


def test_predict_needs_batches_of_one_at_least():
    with pytest.raises(ValueError, match="batch_size is 0"):
        predict(small(), examples()[0], batch_size=0)


# Checkpoints by themselves.


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (lambda: 1, r"state\['a'\]\[0\]\['b'\] is a function"),
        (np.zeros(2), "is a ndarray"),
        (np.float64(1), "is a float64"),
        (Path("a"), "is a PosixPath"),
    ],
)
def test_what_could_not_be_read_is_not_written(value, where, tmp_path):
    with pytest.raises(TypeError, match=where):
        checkpoint.write(tmp_path / "c", {}, {"a": [{"b": value}]})
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_file_and_leaves_no_part(tmp_path, monkeypatch):
    file = str(tmp_path / "c")
    checkpoint.write(file, {}, {"a": 1})

    def break_off(content, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", break_off)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.write(file, {}, {"a": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert checkpoint.read(file, {}) == {"a": 1}


def test_all_kinds_of_values_come_back(tmp_path):
    state = {
        "tensors": [torch.arange(3), nn.Parameter(torch.ones(2)), torch.Size([2, 3])],
        "values": (None, True, 1, 1.5, 1j, "a", b"a", torch.float32, torch.device("cpu")),
        3: {"set": {1, 2}},
    }
    checkpoint.write(tmp_path / "c", {}, state)
    assert str(checkpoint.read(tmp_path / "c", {})) == str(state)


@pytest.mark.parametrize("part", ["run", "state"])
def test_a_file_of_other_parts_is_no_checkpoint(part, tmp_path):
    content = {"format": checkpoint.FORMAT, "run": {}, "state": {}, part: [1]}
    torch.save(content, tmp_path / "c")
    with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
        checkpoint.read(tmp_path / "c", {})


def test_why_a_file_cannot_be_read_is_said_without_colours(tmp_path):
    torch.save({"format": 1, "run": {}, "state": {"a": np.zeros(1)}}, tmp_path / "c")
    with pytest.raises(CheckpointError) as error:
        checkpoint.read(tmp_path / "c", {})
    assert "\x1b" not in str(error.value)


def test_a_digest_is_of_dense_tensors():
    values = torch.tensor([1 + 2j, 3j])
    assert checkpoint.digest([values.conj()]) == checkpoint.digest([values.conj().resolve_conj()])
    for tensor in (torch.eye(2).to_sparse(), torch.zeros(2, device="meta")):
        with pytest.raises(TypeError, match="must be dense and have values"):
            checkpoint.digest([tensor])
