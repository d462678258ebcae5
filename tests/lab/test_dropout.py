"""Dropout whose masks come from a seed and a count, against published numbers and torch's."""

import pytest
import torch

from bn_core.lab.dropout import Dropout, splitmix64


def masks(layer, shape=(50, 20), number=1):
    """Which values each of the next forward passes keeps."""
    return torch.stack([layer(torch.ones(shape)) != 0 for _ in range(number)])


def test_the_generator_gives_the_published_numbers():
    # Of splitmix64 with seed 1234567, https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64
    numbers = splitmix64(torch.tensor(1234567), torch.arange(5))
    assert [number % 2**64 for number in numbers.tolist()] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_each_bit_of_the_generator_is_one_half_of_the_time():
    numbers = splitmix64(torch.tensor(3), torch.arange(40_000))
    shares = ((numbers.unsqueeze(1) >> torch.arange(64)) & 1).double().mean(0)
    torch.testing.assert_close(shares, torch.full((64,), 0.5).double(), atol=0.0125, rtol=0)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_share_p_is_dropped_and_the_rest_scaled_up(p):
    y = Dropout(p)(torch.ones(400, 500))
    # five standard deviations of a mean of 200,000 draws
    assert (y == 0).double().mean().item() == pytest.approx(p, abs=5 * (p * (1 - p) / 2e5) ** 0.5)
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - p)))


def test_places_calls_and_seeds_are_dropped_independently():
    first, second = masks(Dropout(0.5, seed=7), (400, 500), 2).double()
    other = masks(Dropout(0.5, seed=8), (400, 500))[0].double()
    for a, b in (
        (first, second),
        (first, other),
        (second, other),
        (first[:, 1:], first[:, :-1]),
        (first[1:], first[:-1]),
    ):
        correlation = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]
        assert abs(correlation) < 5 / a.numel() ** 0.5


def test_a_seed_gives_the_same_masks_again_whatever_else_draws():
    first = masks(Dropout(seed=5), number=3)
    torch.rand(7)
    assert torch.equal(masks(Dropout(seed=5), number=3), first)
    before = torch.get_rng_state()
    masks(Dropout(seed=5))
    assert torch.equal(torch.get_rng_state(), before)


def test_state_dict_continues_the_masks():
    layer = Dropout(seed=2)
    masks(layer, number=3)
    other = Dropout(seed=9)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(masks(other), masks(layer))


def test_vmap_gives_each_seed_the_masks_it_has_alone():
    layers = [Dropout(0.3, seed=seed) for seed in (0, 1, 5)]
    _, buffers = torch.func.stack_module_state(layers)
    x = torch.randn(3, 6, 4)

    def one(buffers, x):
        return torch.func.functional_call(layers[0], buffers, (x,))

    for _ in range(2):
        together = torch.vmap(one)(buffers, x)
        alone = torch.stack([layer(part) for layer, part in zip(layers, x, strict=True)])
        assert torch.equal(together, alone)


def test_the_gradient_is_that_of_the_mask():
    x = torch.randn(30, 4, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, (y != 0) * 2.0)


@pytest.mark.parametrize("seed", [-(2**63), 2**63 - 1])
@pytest.mark.parametrize("p", [0.0, 1 - 2**-53])
def test_any_seed_and_p_of_the_range_will_do(seed, p):
    assert masks(Dropout(p, seed)).double().mean().item() == pytest.approx(1 - p)


def test_in_evaluation_nothing_is_dropped_or_counted():
    layer = Dropout().eval()
    x = torch.randn(5)
    assert layer(x) is x
    assert layer.calls == 0


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan"), "a"])
def test_p_must_be_a_probability_below_one(p):
    with pytest.raises(ValueError, match=r"p is .* in \[0, 1\)"):
        Dropout(p)


def test_seed_must_have_64_bits():
    with pytest.raises(ValueError, match="64-bit"):
        Dropout(seed=2**63)


@pytest.mark.parametrize("seed", [1.5, "a", None])
def test_seed_is_an_integer(seed):
    with pytest.raises(TypeError, match="integer"):
        Dropout(seed=seed)


def test_the_seed_is_kept_as_int64():
    assert Dropout(seed=True).seed.dtype == torch.int64


def test_p_is_looked_at_again_when_it_is_used():
    layer = Dropout()
    layer.p = 2
    with pytest.raises(ValueError, match=r"p is 2.*\[0, 1\)"):
        layer(torch.ones(3))


def test_integers_are_refused_as_torch_does():
    with pytest.raises(TypeError, match=r"input has dtype torch\.int64"):
        Dropout()(torch.arange(4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.tensor(0.0), torch.arange(3)), r"seed is torch\.float32"),
        ((torch.tensor(0), torch.arange(3, dtype=torch.int32)), r"index is torch\.int32"),
        ((0, torch.arange(3)), "seed is int; it must be an int64 tensor"),
    ],
)
def test_the_generator_takes_int64_alone(arguments, message):
    with pytest.raises(TypeError, match=message):
        splitmix64(*arguments)
