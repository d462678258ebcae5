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

import math
from collections.abc import Collection, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad


class Cache(NamedTuple):
    """What the gradient needs to know of the forward pass; every field broadcasts with x."""

    x_minus_mu: Tensor
    """x less the mini-batch mean, of x's shape."""
    x_hat: Tensor
    """The normalized x, of x's shape."""
    var_plus_eps: Tensor
    """Biased variance plus eps, (1, d, 1, ...), with as many axes as x; one value per channel."""
    gamma: Tensor
    """The scale, (1, d, 1, ...)."""


def batch_norm_forward(
    x: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Cache]:
    """Normalize a mini-batch, line by line as Algorithm 1 does, in the type of x.

    A half precision is computed in half precision here, so sums round and large values overflow;
    `batch_norm` widens it to float32.

    Args:
        x: mini-batch, (m, d) or (m, d, ...); floating point, at least 2 values per channel.
        gamma: scale, (d,).
        beta: shift, (d,).
        eps: added to the variance, inside the root; positive and finite.

    Returns:
        y of x's shape, and the cache that `batch_norm_backward` takes.

    Raises:
        ValueError: x has fewer than 2 axes or 2 values per channel (one value has no variance),
            gamma or beta is not (d,) or on another device than x, or eps is not positive in x's
            type (float32 for a half precision) or not finite.
        TypeError: x is not a tensor of floating point, gamma or beta is not a tensor, or its dtype
            does not go with x: it must be x's, or float32 where x is a half precision.

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
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize with population statistics: one fixed affine map per channel.

    Line 11 of Algorithm 2 is scale * x + (beta - scale * mean), scale = gamma / sqrt(var + eps).
    Here the mean leaves x before x is scaled: the same map, without its cancellation.

    Args:
        x: (m, d) or (m, d, ...), any m, one example included.
        mean: population mean E[x], (d,).
        var: population variance Var[x], (d,); not negative, which is not checked.
        gamma: scale, (d,); without it, 1.
        beta: shift, (d,); without it, 0.
        eps: added to the variance, inside the root; positive and finite.

    Returns:
        y of x's shape and dtype. An example's y does not depend on the other examples.

    Raises:
        ValueError: x has fewer than 2 axes, one of the others is not (d,) or on another device, or
            eps is not positive in the type it computes in, or not finite.
        TypeError: x is not a tensor of floating point, one of the others is not a tensor, or its
            dtype does not go with x: it must be x's, or float32 where x is a half precision.

    Source: Ioffe & Szegedy (2015), Algorithm 2, line 11.
    """
    function = "batch_norm_inference"
    _check_input(function, x, eps)
    wide = _statistics_dtype(x)
    mean = _per_channel(function, "mean", mean, x).to(wide)
    scale = torch.rsqrt(_per_channel(function, "var", var, x).to(wide) + eps)
    if gamma is not None:
        scale = scale * _per_channel(function, "gamma", gamma, x)
    y = (x - mean) * scale
    if beta is not None:
        y = y + _per_channel(function, "beta", beta, x)
    return y.to(x.dtype)


def batch_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalize a mini-batch, differentiably: Algorithm 1 as an autograd function.

    The gradient is the paper's six equations contracted into one,

        dx = gamma / sqrt(var + eps) * (dy - mean(dy) - x_hat * mean(dy * x_hat)),

    exact for every eps. It can be differentiated again and forward (`torch.func.hessian`), compiled
    (`torch.compile`) and transformed (`torch.func.grad`, `torch.func.vmap`). Half precisions are
    computed in float32 and returned as they came; the memory format of x is kept.

    Args:
        x: mini-batch, (m, d) or (m, d, ...); floating point, at least 2 values per channel. An
            empty batch gives an empty y.
        gamma: scale, (d,); without it, 1.
        beta: shift, (d,); without it, 0.
        eps: added to the variance, inside the root; positive and finite.

    Returns:
        y of x's shape and dtype.

    Raises:
        ValueError: as `batch_norm_forward`.
        TypeError: as `batch_norm_forward`.

    Source: Ioffe & Szegedy (2015), Algorithm 1.
    """
    y, _, _, _ = _checked("batch_norm", x, gamma, beta, eps)
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
        y of x's shape and dtype; mu and var (biased), (d,) each, without gradient, float32 where x
        is a half precision.

    Raises:
        ValueError: as `batch_norm`.
        TypeError: as `batch_norm`.
    """
    y, mu, rest, var = _checked("batch_norm_with_statistics", x, gamma, beta, eps)
    return y, _whole_mean(mu, rest), var.flatten()


def normalize(x: Tensor, axes: Sequence[int], eps: float = 1e-5) -> Tensor:
    """Subtract the mean over the given axes and divide by the root of variance plus eps.

    What the relatives of batch normalization have in common; they differ in the axes.

    Args:
        x: any shape; floating point.
        axes: the axes to average over, at least one.
        eps: added to the biased variance, inside the root; positive and finite.

    Returns:
        x_hat of x's shape and dtype; differentiable twice.

    Raises:
        ValueError: axes is empty, repeats an axis or names one that x does not have; or eps is not
            positive in the type it computes in, or not finite.
        TypeError: x is not a tensor of floating point, or axes not a sequence of whole numbers.

    Source: Ioffe & Szegedy (2015), Algorithm 1, lines 1 to 3, over any axes.
    """
    x_hat, _, _, _ = _normalize(x, None, None, _check_axes("normalize", x, axes, eps), eps)
    return x_hat


def normalize_rms(x: Tensor, axes: Sequence[int], eps: float = 1e-5) -> Tensor:
    """Divide by the root mean square over the given axes: `normalize` without the mean.

    Args:
        x: any shape; floating point.
        axes: the axes to average over, at least one.
        eps: added to the mean square, inside the root; positive and finite.

    Returns:
        x / sqrt(mean(x^2) + eps) of x's shape and dtype; differentiable twice.

    Raises:
        ValueError: as `normalize`.
        TypeError: as `normalize`.

    Source: Zhang & Sennrich (2019), "Root Mean Square Layer Normalization", arXiv:1910.07467,
    equation 4.
    """
    counted = _check_axes("normalize_rms", x, axes, eps)
    wide = x.to(_statistics_dtype(x))
    return (wide * torch.rsqrt(wide.square().mean(counted, keepdim=True) + eps)).to(x.dtype)


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of a mini-batch, per channel: lines 1 and 2 of Algorithm 1.

    Args:
        x: mini-batch, (m, d) or (m, d, ...); floating point.

    Returns:
        mu and var, (d,) each; var is the mean of (x - mu)^2, so it divides by the number of values.

    Raises:
        ValueError: x has fewer than 2 axes.
        TypeError: x is not a tensor of floating point.

    Source: Ioffe & Szegedy (2015), Algorithm 1, lines 1 and 2.
    """
    _check_input("batch_statistics", x)
    mu, rest, var, _ = _moments(x, _batch_axes(x))
    return _whole_mean(mu, rest), var.flatten()


def population_variance(var: Tensor, m: int) -> Tensor:
    """Unbiased estimate of the population variance from a mini-batch's biased variance.

    Args:
        var: biased variance of m independent values, any shape.
        m: number of values the variance is of, a whole number; at least 2.

    Returns:
        m / (m - 1) * var. Average it over mini-batches for Algorithm 2's Var[x].

    Raises:
        ValueError: m < 2. Nothing else about m is checked.

    Source: Ioffe & Szegedy (2015), section 3.1 and Algorithm 2, line 10.
    """
    if m < 2:
        raise ValueError(
            f"population_variance: m is {m}; one value has no variance, so m must be at least 2"
        )
    return var * (m / (m - 1))


class _Normalize(torch.autograd.Function):
    """Algorithm 1 over any axes, with the compact gradient; gamma and beta broadcast with x.

    What takes the time on a processor is memory: each operation walks through the whole of x, and a
    fresh tensor of x's size costs more than two walks through an old one, because the system has to
    map its pages first. So forward and backward own one such tensor each, the one they return, and
    use it as scratch paper on the way: `y` holds the squared deviations before it holds y. Per
    channel there is little data, so scales and shifts are combined there before they meet x.
    """

    @staticmethod
    def forward(
        x: Tensor, gamma: Tensor | None, beta: Tensor | None, axes: list[int], eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mu, rest, var, y = _moments(x, axes)
        scale = torch.rsqrt(var + eps)
        if gamma is not None:
            scale = scale * gamma
        y = _deviations_again(x, mu, y)
        y.mul_(scale).sub_(rest * scale if beta is None else rest * scale - beta)
        return y.to(x.dtype), mu, rest, var

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, gamma, _, ctx.axes, ctx.eps = inputs
        _, mu, rest, var = output
        ctx.save_for_backward(x, gamma, mu, rest, var)
        ctx.mark_non_differentiable(mu, rest, var)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if dy is None:  # nothing depends on y
            return (None,) * 5
        x, gamma, mu, rest, var = ctx.saved_tensors
        if torch.is_grad_enabled() or _in_forward_mode():  # it may be differentiated again
            dx, dgamma, dbeta = _gradient(dy, x, gamma, ctx.axes, ctx.eps)
        else:
            m = _count(x, mu)
            one_over_s = torch.rsqrt(var + ctx.eps)
            dbeta = dy.sum(ctx.axes, keepdim=True, dtype=mu.dtype)
            dx = x - mu
            # sum(dy * x_hat), with x_hat = (x - mu - rest) / s
            dgamma = dx.mul_(dy).sum(ctx.axes, keepdim=True)
            dgamma = torch.addcmul(dgamma, rest, dbeta, value=-1) * one_over_s
            if ctx.needs_input_grad[0]:
                # x_hat * mean(dy * x_hat) = slope * (x - mu - rest)
                slope = dgamma * one_over_s / m
                dx = _deviations_again(x, mu, dx)
                dx.mul_(-slope).add_(dy).sub_(dbeta / m - rest * slope)
                dx.mul_(one_over_s if gamma is None else one_over_s * gamma)
        return (
            dx.to(x.dtype) if ctx.needs_input_grad[0] else None,
            dgamma if ctx.needs_input_grad[1] else None,
            dbeta if ctx.needs_input_grad[2] else None,
            None,
            None,
        )

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        x: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        axes: list[int],
        eps: float,
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """One more axis in front, which is not averaged over."""
        size = info.batch_size
        outputs = _normalize(
            _in_front(x, in_dims[0], size),
            None if gamma is None else _in_front(gamma, in_dims[1], size),
            None if beta is None else _in_front(beta, in_dims[2], size),
            [axis + 1 for axis in axes],
            eps,
        )
        return outputs, (0, 0, 0, 0)


def _in_front(t: Tensor, axis: int | None, size: int) -> Tensor:
    """Move an axis to the front; one of the given size is made where there is none."""
    return t.expand(size, *t.shape) if axis is None else t.movedim(axis, 0)


def _checked(
    function: str, x: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check_batch(function, x, eps)
    if gamma is not None:
        gamma = _per_channel(function, "gamma", gamma, x)
    if beta is not None:
        beta = _per_channel(function, "beta", beta, x)
    return _normalize(x, gamma, beta, _batch_axes(x), eps)


def _normalize(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, axes: list[int], eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`_Normalize` with its types: y, mu, what rounding left of mu, and var."""
    if _in_forward_mode():
        return _composed(x, gamma, beta, axes, eps)
    return _Normalize.apply(x, gamma, beta, axes, eps)  # type: ignore[no-untyped-call, no-any-return]


def _in_forward_mode() -> bool:
    """Whether tensors may carry tangents: within `torch.func.jvp`, `jacfwd` or a dual level."""
    return forward_ad._current_level >= 0


def _composed(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, axes: list[int], eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `_Normalize` computes, of operations that torch differentiates forward as well.

    A `jvp` of its own would not do: torch.compile refuses a function that has one, and a second
    derivative forward over forward loses a part of it (torch 2.13).
    """
    wide = x.to(_statistics_dtype(x))
    mu = wide.mean(axes, keepdim=True)
    deviations = wide - mu
    rest = deviations.mean(axes, keepdim=True)
    deviations = deviations - rest
    var = deviations.square().mean(axes, keepdim=True)
    y = deviations * torch.rsqrt(var + eps)
    if gamma is not None:
        y = y * gamma
    if beta is not None:
        y = y + beta
    return y.to(x.dtype), mu.detach(), rest.detach(), var.detach()


def _moments(x: Tensor, axes: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, what rounding left of it, biased variance, and a tensor of x's size as scratch paper.

    The variance is the mean of squared deviations; mean(x^2) - mu^2 would cancel catastrophically
    when the mean is large beside the spread. At mean / std = 1e6 even mu itself, in float32, is
    only good to some hundredths of the spread. So the mean of the deviations is taken too (`rest`,
    zero but for rounding) and corrects both: the result is as good as at mean 0.
    """
    total = x.sum(axes, keepdim=True, dtype=_statistics_dtype(x))
    m = _count(x, total)
    mu = total / m
    deviations = x - mu
    rest = deviations.sum(axes, keepdim=True) / m
    mean_square = deviations.mul_(deviations).sum(axes, keepdim=True) / m
    return mu, rest, torch.addcmul(mean_square, rest, rest, value=-1), deviations


def _whole_mean(mu: Tensor, rest: Tensor) -> Tensor:
    """The mean, (d,), as well as float32 can say it; infinite if a value of x is."""
    return (mu + rest.nan_to_num(0.0, 0.0, 0.0)).flatten()


def _deviations_again(x: Tensor, mu: Tensor, scratch: Tensor) -> Tensor:
    """Take mu off x again, into a tensor that is there already."""
    if torch.compiler.is_compiling():  # which finds memory itself; and torch.export refuses out=
        return x - mu
    return torch.sub(x, mu, out=scratch)


def _gradient(
    dy: Tensor, x: Tensor, gamma: Tensor | None, axes: list[int], eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The compact gradient as a function of x, which autograd can differentiate again."""
    x = x.to(_statistics_dtype(x))
    deviations = x - x.mean(axes, keepdim=True)
    deviations = deviations - deviations.mean(axes, keepdim=True)
    one_over_s = torch.rsqrt(deviations.square().mean(axes, keepdim=True) + eps)
    x_hat = deviations * one_over_s
    dgamma = (dy * x_hat).sum(axes, keepdim=True)
    dbeta = dy.sum(axes, keepdim=True, dtype=x.dtype)
    m = _count(x, dbeta)
    dx = one_over_s * (dy - dbeta / m - x_hat * dgamma / m)
    return dx if gamma is None else gamma * dx, dgamma, dbeta


def _batch_axes(x: Tensor) -> list[int]:
    """Every axis but the channel's."""
    return [axis for axis in range(x.dim()) if axis != 1]


def _count(x: Tensor, statistic: Tensor) -> int:
    """How many values of x each value of the statistic is over: the m of the paper.

    1 where there are none, so that an empty batch has gradients of zero, not of 0 / 0.
    """
    return max(1, x.numel() // max(1, statistic.numel()))


def _statistics_dtype(x: Tensor) -> torch.dtype:
    """The precision that sums are taken in: x's, but never less than float32."""
    return torch.promote_types(x.dtype, torch.float32)


def _check_floating(function: str, x: object) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{function}: x is of type {type(x).__name__}; it must be a tensor. Use "
            "torch.as_tensor(x)."
        )
    if not x.is_floating_point():
        raise TypeError(
            f"{function}: x has dtype {x.dtype}; statistics need floating point. Use x.float()."
        )


def _check_input(function: str, x: Tensor, eps: float = 1.0) -> None:
    _check_floating(function, x)
    if x.dim() < 2:
        raise ValueError(
            f"{function}: x has shape {tuple(x.shape)}; the channel axis is axis 1, so x must be "
            "(m, d) or (m, d, ...). Use x.unsqueeze(0) for a batch of one, x.unsqueeze(1) for one "
            "channel."
        )
    _check_eps(function, x, eps)


def _check_eps(function: str, x: Tensor, eps: float) -> None:
    dtype = _statistics_dtype(x)
    if not torch.finfo(dtype).tiny <= eps < math.inf:
        raise ValueError(
            f"{function}: eps is {eps}; it keeps the root away from zero, so it must be positive "
            f"in {dtype}, and finite (1e-5 is usual)"
        )


def _check_batch(function: str, x: Tensor, eps: float) -> None:
    _check_input(function, x, eps)
    if x.numel() == x.shape[1] > 0:
        raise ValueError(
            f"{function}: x has shape {tuple(x.shape)}; training needs at least 2 values per "
            "channel, since one value has no variance. Use population statistics "
            "(`batch_norm_inference`) for a single example."
        )


def _check_axes(function: str, x: Tensor, axes: Sequence[int], eps: float) -> list[int]:
    """The axes, counted from the front."""
    _check_floating(function, x)
    _check_eps(function, x, eps)
    if not isinstance(axes, Collection) or not all(_is_whole(axis) for axis in axes):
        raise TypeError(
            f"{function}: axes is {axes!r}; it must be a sequence of whole numbers, such as [0]"
        )
    counted = [axis + x.dim() if axis < 0 else axis for axis in axes]
    if not counted or len(set(counted)) < len(counted) or not set(counted) <= set(range(x.dim())):
        raise ValueError(
            f"{function}: axes is {list(axes)}; x has shape {tuple(x.shape)}, "
            + (
                f"so axes must be one or more different numbers from {-x.dim()} to {x.dim() - 1}"
                if x.dim()
                else "no axis to average over. Use x.unsqueeze(0)"
            )
        )
    return counted


def _is_whole(value: object) -> bool:
    """Whether it is an integer, Python's or NumPy's."""
    return not isinstance(value, bool) and isinstance(value, Integral)


def _per_channel(function: str, name: str, value: object, x: Tensor) -> Tensor:
    """Shape a (d,) tensor so that it broadcasts with x along the channel axis."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{function}: {name} is of type {type(value).__name__}; it must be a tensor, "
            f"({x.shape[1]},). Use torch.as_tensor({name})"
        )
    if value.shape != (x.shape[1],):
        raise ValueError(
            f"{function}: {name} has shape {tuple(value.shape)}, but x has {x.shape[1]} channels "
            f"(shape {tuple(x.shape)}); {name} must be ({x.shape[1]},)"
        )
    if value.dtype not in (x.dtype, _statistics_dtype(x)):
        raise TypeError(
            f"{function}: {name} has dtype {value.dtype}, but x has {x.dtype}; {name} must be "
            f"{' or '.join(map(str, sorted({x.dtype, _statistics_dtype(x)}, key=str)))}"
        )
    if value.device != x.device:
        raise ValueError(
            f"{function}: {name} is on {value.device}, but x is on {x.device}; move one of them "
            f"with {name}.to(x.device)"
        )
    return value.view(1, -1, *(1,) * (x.dim() - 2))
