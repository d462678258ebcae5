"""Dropout whose masks depend on a seed and a count alone, so that they can be had again."""

import operator
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

# Of splitmix64; two's complement, since torch's 64-bit integers have a sign. They wrap around.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


class Dropout(nn.Module):
    """Set each value to zero with probability p in training, and scale up the others.

    As `torch.nn.Dropout`, but for where the chance comes from: the n-th mask of a layer is a
    function of its seed and of n. So a network draws the same masks alone and in a
    `bn_core.lab.stack.Stack`, on every device, and after `load_state_dict`; and what else draws
    random numbers makes no difference. Layers of one network need different seeds, or their masks
    are the same.

    Args:
        p: probability of zero, in [0, 1).
        seed: any 64-bit integer.

    Raises:
        ValueError: p or seed is out of range.
        TypeError: seed is not an integer; in `forward`, in training, the input is one of integers.

    Attributes:
        seed: buffer (), int64.
        calls: buffer (), int64; masks drawn so far.

    Source: Srivastava et al. (2014), "Dropout: A Simple Way to Prevent Neural Networks from
    Overfitting"; scaled in training instead of in evaluation.
    """

    seed: Tensor
    calls: Tensor

    def __init__(self, p: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        _check_p(p)
        if not -(2**63) <= operator.index(seed) < 2**63:
            raise ValueError(f"Dropout: seed is {seed}; it must be a 64-bit integer")
        self.p = p
        self.register_buffer("seed", torch.tensor(operator.index(seed), dtype=torch.int64))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, input: Tensor) -> Tensor:
        """Drop and scale; in evaluation mode, return the input as it is."""
        if not self.training or self.p == 0:
            return input
        _check_p(self.p)
        if not input.is_floating_point() and not input.is_complex():
            raise TypeError(f"Dropout: input has dtype {input.dtype}; it must be floating point")
        # The layer's sequence gives each mask a key, from which a sequence of its own starts.
        key = splitmix64(self.seed, self.calls)
        self.calls.add_(1)
        positions = torch.arange(input.numel(), device=input.device).view(input.shape)
        # Random integers of all 64 bits, the sign included: a share p lies below this bound.
        bound = int(self.p * 2**64) - 2**63
        kept = splitmix64(key, positions) >= bound
        return input * (kept.to(input.dtype) / (1 - self.p))

    def extra_repr(self) -> str:
        """The constructor's arguments but for the seed, in which equal networks differ."""
        return f"p={self.p}"


def _check_p(p: Any) -> None:
    if not isinstance(p, Real) or not 0 <= float(p) < 1:
        raise ValueError(
            f"Dropout: p is {p!r}; it is a probability of zero, so it must be a number in [0, 1)"
        )


def splitmix64(seed: Tensor, index: Tensor) -> Tensor:
    """Number `index` of the random sequence that starts from a seed, without those before it.

    Args:
        seed: int64; the numbers as they are, or two's complement where they are 2^63 or more.
        index: int64, from 0; broadcasts with seed.

    Returns:
        Integers of 64 random bits, int64, in two's complement.

    Raises:
        TypeError: seed or index is not an int64 tensor.

    Source: Steele, Lea & Flood (2014), "Fast Splittable Pseudorandom Number Generators", with the
    constants of Vigna's splitmix64.c, https://prng.di.unimi.it/splitmix64.c.
    """
    for name, tensor in (("seed", seed), ("index", index)):
        if not isinstance(tensor, Tensor) or tensor.dtype != torch.int64:
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(f"splitmix64: {name} is {kind}; it must be an int64 tensor")
    z = seed + (index + 1) * _GOLDEN
    z = (z ^ _shifted(z, 30)) * _MIX_1
    z = (z ^ _shifted(z, 27)) * _MIX_2
    mixed: Tensor = z ^ _shifted(z, 31)
    return mixed


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Shift to the right and fill with zeros, where `>>` fills with copies of the sign."""
    shifted: Tensor = (z >> bits) & (2 ** (64 - bits) - 1)
    return shifted
