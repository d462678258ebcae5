"""Algorithm 1, its gradient, and the inference form of Algorithm 2: pure functions on tensors.

Source: Ioffe & Szegedy (2015), "Batch Normalization: Accelerating Deep Network Training by
Reducing Internal Covariate Shift", arXiv:1502.03167. The names are the paper's: a mini-batch x of
m values per channel, its mean mu and biased variance var, the normalized x_hat, the learned scale
gamma and shift beta, the output y. The channel axis is axis 1, so a fully connected layer gives
(m, d) and a convolution (m, d, p, q); the statistics are taken over every other axis.

Algorithm 1 stands here twice. `batch_norm_forward` and `batch_norm_backward` are made to be read
with the paper in the other hand. `batch_norm` is made to be run: the same numbers through
autograd, with the gradient in its compact form. The tests hold each against the other, and both
against torch.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Cache(NamedTuple):
    """What the gradient needs to know of the forward pass; every field broadcasts with x."""

    x_minus_mu: Tensor
    x_hat: Tensor
    var_plus_eps: Tensor
    gamma: Tensor


def batch_norm_forward(
    x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Cache]:
    """Normalize a mini-batch, line by line as Algorithm 1 does.

    Args:
        x: mini-batch, (m, d) or (m, d, ...); floating point, at least 2 values per channel.
        gamma: scale, (d,).
        beta: shift, (d,).
        eps: added to the variance, inside the root; positive.

    Returns:
        y of x's shape, and the cache that `batch_norm_backward` takes.

    Raises:
        ValueError: x has fewer than 2 axes or 2 values per channel (one value has no variance),
            gamma or beta is not (d,), or eps is not positive.
        TypeError: x is not floating point.

    Source: Ioffe & Szegedy (2015), Algorithm 1.
    """
    _check_batch("batch_norm_forward", x, eps)
    gamma = _per_channel("batch_norm_forward", "gamma", gamma, x)
    beta = _per_channel("batch_norm_forward", "beta", beta, x)
    batch = _batch_axes(x)

    mu = x.mean(batch, keepdim=True)  # line 1: mini-batch mean
    var = ((x - mu) ** 2).mean(batch, keepdim=True)  # line 2: mini-batch variance, over m
    x_hat = (x - mu) / torch.sqrt(var + eps)  # line 3: normalize
    y = gamma * x_hat + beta  # line 4: scale and shift

    return y, Cache(x - mu, x_hat, var + eps, gamma)


def batch_norm_backward(dy: Tensor, cache: Cache) -> tuple[Tensor, Tensor, Tensor]:
    """Send the gradient of the loss back through `batch_norm_forward`: the paper's six equations.

    Args:
        dy: gradient of the loss with respect to y, of x's shape.
        cache: what `batch_norm_forward` returned.

    Returns:
        dx of x's shape, dgamma (d,) and dbeta (d,).

    Raises:
        ValueError: dy does not have the shape of the x that the cache is of.

    Source: Ioffe & Szegedy (2015), section 3, the unnumbered display after Algorithm 1.
    """
    x_minus_mu, x_hat, var_plus_eps, gamma = cache
    if dy.shape != x_hat.shape:
        raise ValueError(
            f"batch_norm_backward: dy has shape {tuple(dy.shape)}, but the forward pass was of x "
            f"with shape {tuple(x_hat.shape)}; pass the gradient with respect to that y"
        )
    batch = _batch_axes(dy)
    m = dy.numel() // dy.shape[1]

    dx_hat = dy * gamma
    dvar = (dx_hat * x_minus_mu * -0.5 * var_plus_eps**-1.5).sum(batch, keepdim=True)
    dmu = (dx_hat * -(var_plus_eps**-0.5)).sum(batch, keepdim=True) + dvar * (
        -2 * x_minus_mu  # sums to zero: kept because the paper has it
    ).mean(batch, keepdim=True)
    dx = dx_hat * var_plus_eps**-0.5 + dvar * 2 * x_minus_mu / m + dmu / m
    dgamma = (dy * x_hat).sum(batch)
    dbeta = dy.sum(batch)

    return dx, dgamma, dbeta


def batch_norm_inference(
    x: Tensor, mean: Tensor, var: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5
) -> Tensor:
    """Normalize with population statistics: one fixed affine map per channel.

    Args:
        x: (m, d) or (m, d, ...), any m, one example included.
        mean: population mean E[x], (d,).
        var: population variance Var[x], (d,); not negative.
        gamma: scale, (d,).
        beta: shift, (d,).
        eps: added to the variance, inside the root; positive.

    Returns:
        y of x's shape. An example's y does not depend on the other examples.

    Raises:
        ValueError: x has fewer than 2 axes, one of the others is not (d,), or eps is not positive.
        TypeError: x is not floating point.

    Source: Ioffe & Szegedy (2015), Algorithm 2, line 11.
    """
    _check_input("batch_norm_inference", x, eps)
    mean, var, gamma, beta = (
        _per_channel("batch_norm_inference", name, value, x)
        for name, value in (("mean", mean), ("var", var), ("gamma", gamma), ("beta", beta))
    )
    scale = gamma / torch.sqrt(var + eps)
    return scale * x + (beta - scale * mean)


def batch_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalize a mini-batch, differentiably: Algorithm 1 as an autograd function.

    The gradient is the paper's six equations contracted into one,

        dx = gamma / sqrt(var + eps) * (dy - mean(dy) - x_hat * mean(dy * x_hat)),

    exact for every eps. It can be differentiated a second time.

    Args:
        x: mini-batch, (m, d) or (m, d, ...); floating point, at least 2 values per channel.
        gamma: scale, (d,); without it, 1.
        beta: shift, (d,); without it, 0.
        eps: added to the variance, inside the root; positive.

    Returns:
        y of x's shape.

    Raises:
        ValueError: as `batch_norm_forward`.
        TypeError: as `batch_norm_forward`.

    Source: Ioffe & Szegedy (2015), Algorithm 1.
    """
    y, _, _ = batch_norm_with_statistics(x, gamma, beta, eps)
    return y


def batch_norm_with_statistics(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `batch_norm` returns, and the statistics it used, for a layer that tracks them.

    Args:
        x: as for `batch_norm`.
        gamma: as for `batch_norm`.
        beta: as for `batch_norm`.
        eps: as for `batch_norm`.

    Returns:
        y of x's shape; mu and var (biased), (d,) each, without gradient.

    Raises:
        ValueError: as `batch_norm_forward`.
        TypeError: as `batch_norm_forward`.
    """
    _check_batch("batch_norm", x, eps)
    if gamma is not None:
        gamma = _per_channel("batch_norm", "gamma", gamma, x)
    if beta is not None:
        beta = _per_channel("batch_norm", "beta", beta, x)
    y, mu, var = _BatchNorm.apply(x, gamma, beta, eps)  # type: ignore[no-untyped-call]
    return y, mu.flatten(), var.flatten()


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of a mini-batch, per channel: lines 1 and 2 of Algorithm 1.

    Args:
        x: mini-batch, (m, d) or (m, d, ...); floating point.

    Returns:
        mu and var, (d,) each; var is the mean of (x - mu)^2, so it divides by the number of values.

    Raises:
        ValueError: x has fewer than 2 axes.
        TypeError: x is not floating point.

    Source: Ioffe & Szegedy (2015), Algorithm 1, lines 1 and 2.
    """
    _check_input("batch_statistics", x)
    mu, var = _moments(x)
    return mu.flatten(), var.flatten()


def population_variance(var: Tensor, m: int) -> Tensor:
    """Unbiased estimate of the population variance from a mini-batch's biased variance.

    Args:
        var: biased variance of m independent values, any shape.
        m: number of values the variance is of; at least 2.

    Returns:
        m / (m - 1) * var. Average it over mini-batches for Algorithm 2's Var[x].

    Raises:
        ValueError: m < 2.

    Source: Ioffe & Szegedy (2015), section 3.1 and Algorithm 2, line 10.
    """
    if m < 2:
        raise ValueError(
            f"population_variance: m is {m}; one value has no variance, so m must be at least 2"
        )
    return var * (m / (m - 1))


class _BatchNorm(torch.autograd.Function):
    """Algorithm 1 with the compact gradient; gamma and beta, if given, broadcast with x."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch = _batch_axes(x)
        mu = x.mean(batch, keepdim=True)
        x_minus_mu = x - mu
        var = x_minus_mu.square().mean(batch, keepdim=True)
        one_over_s = torch.rsqrt(var + eps)
        y = x_minus_mu.mul_(one_over_s if gamma is None else gamma * one_over_s)
        if beta is not None:
            y = y.add_(beta)
        # x rather than x_hat: x is kept by the layer before in any case, and only from x can a
        # second derivative be taken.
        ctx.save_for_backward(x, gamma, mu, one_over_s)
        ctx.eps = eps
        ctx.mark_non_differentiable(mu, var)
        return y, mu, var

    @staticmethod
    def backward(
        ctx: Any, dy: Tensor, _dmu: Tensor, _dvar: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, gamma, mu, one_over_s = ctx.saved_tensors
        if torch.is_grad_enabled():
            # The caller asked for a graph of the gradient (create_graph=True), so mu and s must
            # be functions of x again, not the constants that were saved.
            mu, var = _moments(x)
            one_over_s = torch.rsqrt(var + ctx.eps)
        batch = _batch_axes(x)
        m = x.numel() // x.shape[1]
        x_hat = (x - mu) * one_over_s
        dgamma = (dy * x_hat).sum(batch, keepdim=True)
        dbeta = dy.sum(batch, keepdim=True)
        dx = None
        if ctx.needs_input_grad[0]:
            scale = one_over_s if gamma is None else gamma * one_over_s
            dx = scale * torch.addcmul(dy - dbeta / m, x_hat, dgamma, value=-1 / m)
        return (
            dx,
            dgamma if ctx.needs_input_grad[1] else None,
            dbeta if ctx.needs_input_grad[2] else None,
            None,
        )


def _batch_axes(x: Tensor) -> list[int]:
    """Every axis but the channel's."""
    return [axis for axis in range(x.dim()) if axis != 1]


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over the batch axes, shaped to broadcast with x.

    The variance is the mean of squared deviations; mean(x^2) - mu^2 would cancel catastrophically
    when the mean is large beside the spread.
    """
    batch = _batch_axes(x)
    mu = x.mean(batch, keepdim=True)
    return mu, (x - mu).square().mean(batch, keepdim=True)


def _check_input(function: str, x: Tensor, eps: float = 1.0) -> None:
    if not x.is_floating_point():
        raise TypeError(
            f"{function}: x has dtype {x.dtype}; statistics need floating point. Use x.float()."
        )
    if x.dim() < 2:
        raise ValueError(
            f"{function}: x has shape {tuple(x.shape)}; the channel axis is axis 1, so x must be "
            "(m, d) or (m, d, ...). Use x.unsqueeze(0) for a batch of one, x.unsqueeze(1) for one "
            "channel."
        )
    if not eps > 0:
        raise ValueError(
            f"{function}: eps is {eps}; it keeps the root away from zero, so it must be positive "
            "(1e-5 is usual)"
        )


def _check_batch(function: str, x: Tensor, eps: float) -> None:
    _check_input(function, x, eps)
    if x.numel() < 2 * x.shape[1]:
        raise ValueError(
            f"{function}: x has shape {tuple(x.shape)}; training needs at least 2 values per "
            "channel, since one value has no variance. Use population statistics "
            "(`batch_norm_inference`) for a single example."
        )


def _per_channel(function: str, name: str, value: Tensor, x: Tensor) -> Tensor:
    """Shape a (d,) tensor so that it broadcasts with x along the channel axis."""
    if value.shape != (x.shape[1],):
        raise ValueError(
            f"{function}: {name} has shape {tuple(value.shape)}, but x has {x.shape[1]} channels "
            f"(shape {tuple(x.shape)}); {name} must be ({x.shape[1]},)"
        )
    return value.view(1, -1, *(1,) * (x.dim() - 2))
