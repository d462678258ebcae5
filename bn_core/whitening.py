"""Full whitening, and the normalization that gradient descent does not see: section 2 of the paper.

Source: Ioffe & Szegedy (2015), arXiv:1502.03167, section 2, where the normalized activation is
Norm(x, X): it depends on the example x and on the examples X that the statistics are of. Here X is
the mini-batch, and the gradient has two parts, dNorm/dx and dNorm/dX.

Every normalization stands here, or in `algorithms`, once with both parts and once with the first
alone. The second of a pair has the same values: the one difference is that its statistics are taken
of `x.detach()`, so the gradient takes them for constants. What dNorm/dX adds is the difference of
the two gradients.

====================  =================  ============================================
statistics            both parts         dNorm/dx alone
====================  =================  ============================================
mean                  `center`           `center_with_detached_mean`
mean and variance     `batch_norm`       `normalize_with_detached_statistics`
covariance, ZCA       `whiten_zca`       `whiten_zca_with_detached_statistics`
covariance, Cholesky  `whiten_cholesky`  `whiten_cholesky_with_detached_statistics`
====================  =================  ============================================

The channel axis is axis 1, as in `algorithms`: x is (m, d) or (m, d, ...), and each position of a
feature map counts as a further sample of the same d features.

Everything here takes float16 and bfloat16 but computes in float32 and casts back: a mean in half
precision is off by its rounding, and LAPACK has no half precision. Autocast would take the matrix
products of whitening to half precision again, so switch it off around it:
`with torch.autocast("cpu", enabled=False)`.
"""

import math
from typing import Any

import torch
from torch import Tensor

from bn_core.algorithms import batch_norm_with_statistics


def batch_covariance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased covariance of a mini-batch, over all channels jointly.

    Args:
        x: mini-batch, (m, d) or (m, d, ...); floating point. A value that is not finite spreads, as
            in `batch_statistics`.

    Returns:
        mu, (d,), and Sigma, (d, d), the mean over the samples of (x - mu)(x - mu)^T. Both carry the
        gradient. With n samples (m times the positions) the rank of Sigma is at most n - 1, since
        the n deviations sum to zero; it is at most d as well.

    Raises:
        ValueError: x has fewer than 2 axes, no sample or no channel.
        TypeError: x is not a tensor of floating point.

    Source: Ioffe & Szegedy (2015), section 2, Cov[x]; divided by n, as Algorithm 1's variance is.
    """
    samples = _samples("batch_covariance", x, least=1)
    about = samples.detach().mean(0)
    mu, sigma = _covariance(samples - about)
    return (mu + about).to(x.dtype), sigma.to(x.dtype)


def covariance_rank(x: Tensor) -> int:
    """Rank of a mini-batch's covariance, as far as x's precision can tell.

    An eigenvalue of Sigma counts if it is above what rounding in x's precision (float32 at least)
    can leave there, max(n, d) units of rounding of the largest eigenvalue.

    Args:
        x: mini-batch, (m, d) or (m, d, ...), of n samples; floating point, finite.

    Returns:
        the rank, at most d and at most n - 1. `whiten_zca` and `whiten_cholesky` need rank d when
        eps is 0.

    Raises:
        ValueError: x has fewer than 2 axes, no sample or no channel, or its covariance is not
            finite.
        TypeError: x is not a tensor of floating point.

    Source: Ioffe & Szegedy (2015), section 3: a mini-batch smaller than the number of activations
    has a singular covariance, the reason for one variance per feature.
    """
    samples = _samples_near_zero("covariance_rank", x, least=1).detach()
    _, sigma = _finite_covariance("covariance_rank", samples)
    return _rank(sigma, len(samples))


def center(x: Tensor) -> Tensor:
    """Subtract the mini-batch's mean, x_hat = x - E[x], with the gradient through the mean.

    A shift of the batch changes nothing, and the gradient says so: dx = dy - mean(dy), which sums
    to zero over the batch.

    Args:
        x: mini-batch, (m, d) or (m, d, ...); floating point, at least 2 values per channel.

    Returns:
        x_hat of x's shape and dtype.

    Raises:
        ValueError: x has fewer than 2 axes, 2 values per channel or 1 channel.
        TypeError: x is not a tensor of floating point.

    Source: Ioffe & Szegedy (2015), section 2.
    """
    _check_input("center", x, least=2)
    wide = _widened(x)
    return _center(wide, wide).to(x.dtype)


def center_with_detached_mean(x: Tensor) -> Tensor:
    """Subtract the mini-batch's mean and let the gradient take it for a constant: dx = dy.

    This is the paper's example of a normalization that the gradient step ignores. With x = u + b,
    one feature, and the loss mean((x_hat - t)^2), the gradient for b is -2 mean(t), because
    mean(x_hat) is 0. Gradient descent at rate alpha therefore gives

        b_T = b_0 + 2 alpha T mean(t)

    after T steps, while x_hat and the loss stay what they were. With `center` the gradient for b is
    0. If the loss is the mean over d features as well, alpha / d stands for alpha.

    Args:
        x: as for `center`.

    Returns:
        x_hat of x's shape and dtype, equal to `center`'s.

    Raises:
        ValueError: as `center`.
        TypeError: as `center`.

    Source: Ioffe & Szegedy (2015), section 2.
    """
    _check_input("center_with_detached_mean", x, least=2)
    wide = _widened(x)
    return _center(wide, wide.detach()).to(x.dtype)


def normalize_with_detached_statistics(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalize as `batch_norm` does and let the gradient take mean and variance for constants.

    The gradient is dx = dy / sqrt(var + eps). In the example of `center_with_detached_mean`, b
    drifts by 2 alpha mean(t) / sqrt(var + eps) a step. A weight that scales x gets a gradient as
    well, although its size, but for eps, does not change x_hat.

    Args:
        x: mini-batch, (m, d) or (m, d, ...); floating point, at least 2 values per channel.
        eps: added to the variance, inside the root; positive.

    Returns:
        x_hat of x's shape, equal to that of `batch_norm`, which has the whole gradient.

    Raises:
        ValueError: x has fewer than 2 axes, 2 values per channel or 1 channel, or eps is not
            positive.
        TypeError: x is not a tensor of floating point.

    Source: Ioffe & Szegedy (2015), section 2; `batch_norm` is its Algorithm 1.
    """
    function = "normalize_with_detached_statistics"
    _check_input(function, x, least=2)
    if not 0 < eps < math.inf:
        raise ValueError(
            f"{function}: eps is {eps}; it keeps the root away from zero, so it must be positive "
            "and finite (1e-5 is usual)"
        )
    x_hat, _, var = batch_norm_with_statistics(x.detach(), eps=eps)
    one_over_s = torch.rsqrt(var + eps).view(-1, *(1,) * (x.dim() - 2))
    # The value is batch_norm's, to the last bit; the second term is zero, but its gradient is not.
    return x_hat + ((x - x.detach()) * one_over_s).to(x.dtype)


def whiten_zca(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Whiten a mini-batch with the symmetric root: x_hat = (Sigma + eps I)^(-1/2) (x - mu).

    The covariance of x_hat is Sigma (Sigma + eps I)^-1, so the identity if eps is 0: the channels'
    counterpart of var / (var + eps). Of all whitenings with this eps, which differ by an orthogonal
    matrix, this one moves the centred samples least, in squares. If the samples are rotated, x_hat
    is rotated the same way.

    The gradient is whole, exact where eigenvalues of Sigma coincide, and can be differentiated
    again.

    Args:
        x: mini-batch, (m, d) or (m, d, ...); floating point, at least 2 samples.
        eps: added to every eigenvalue of Sigma, inside the root; not negative, and 0 only for a
            batch whose covariance has full rank d, which takes more than d samples.

    Returns:
        x_hat of x's shape.

    Raises:
        ValueError: x has fewer than 2 axes, 2 samples or 1 channel; eps is negative or not finite;
            eps is 0 and `covariance_rank` is below d; x has a value that is not finite (one such
            value would reach every output), or is so large that Sigma is not finite.
        TypeError: x is not a tensor of floating point.

    Source: Ioffe & Szegedy (2015), section 2, Cov[x]^(-1/2) (x - E[x]).
    """
    function = "whiten_zca"
    samples = _samples_to_whiten(function, x, eps)
    return _shaped_like(x, _whiten_zca(function, samples, samples, eps))


def whiten_zca_with_detached_statistics(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Whiten as `whiten_zca` does and let the gradient take mu and Sigma for constants.

    The gradient is dx = (Sigma + eps I)^(-1/2) dy: dNorm/dx without dNorm/dX.

    Args:
        x: as for `whiten_zca`.
        eps: as for `whiten_zca`.

    Returns:
        x_hat of x's shape, equal to `whiten_zca`'s.

    Raises:
        ValueError: as `whiten_zca`.
        TypeError: as `whiten_zca`.

    Source: Ioffe & Szegedy (2015), section 2, on what happens without the second term.
    """
    function = "whiten_zca_with_detached_statistics"
    samples = _samples_to_whiten(function, x, eps)
    return _shaped_like(x, _whiten_zca(function, samples, samples.detach(), eps))


def whiten_cholesky(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Whiten a mini-batch one channel after the other: x_hat = L^-1 (x - mu).

    L is the Cholesky factor, lower triangular with L L^T = Sigma + eps I. Channel k of x_hat is
    channel k of x less what channels 1 to k - 1 predict of it linearly (eps acts as a ridge), at
    unit scale. So it uses no later channel, the first is that of `batch_norm`, and the order of the
    channels matters. It is a rotation of `whiten_zca` with the same eps. The gradient is whole and
    can be differentiated again.

    Args:
        x: as for `whiten_zca`.
        eps: added to the diagonal of Sigma; not negative, and 0 only for a batch whose covariance
            has full rank d.

    Returns:
        x_hat of x's shape.

    Raises:
        ValueError: as `whiten_zca`; and if eps is too small, beside the variances, to make
            Sigma + eps I positive definite in x's precision.
        TypeError: as `whiten_zca`.

    Source: Ioffe & Szegedy (2015), section 2, with another root of Cov[x] than the symmetric one.
    """
    function = "whiten_cholesky"
    samples = _samples_to_whiten(function, x, eps)
    return _shaped_like(x, _whiten_cholesky(function, samples, samples, eps))


def whiten_cholesky_with_detached_statistics(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Whiten as `whiten_cholesky` does and let the gradient take mu and Sigma for constants.

    The gradient is dx = L^-T dy: dNorm/dx without dNorm/dX.

    Args:
        x: as for `whiten_cholesky`.
        eps: as for `whiten_cholesky`.

    Returns:
        x_hat of x's shape, equal to `whiten_cholesky`'s.

    Raises:
        ValueError: as `whiten_cholesky`.
        TypeError: as `whiten_cholesky`.

    Source: Ioffe & Szegedy (2015), section 2, on what happens without the second term.
    """
    function = "whiten_cholesky_with_detached_statistics"
    samples = _samples_to_whiten(function, x, eps)
    return _shaped_like(x, _whiten_cholesky(function, samples, samples.detach(), eps))


# In the three functions that follow, `source` is what the statistics are taken of: the first
# tensor itself, or the same detached. Nothing else tells the two members of a pair apart.


def _center(x: Tensor, source: Tensor) -> Tensor:
    batch = [axis for axis in range(x.dim()) if axis != 1]
    return x - source.mean(batch, keepdim=True)


def _whiten_zca(function: str, samples: Tensor, source: Tensor, eps: float) -> Tensor:
    mu, sigma = _finite_covariance(function, source)
    _, inverse_root, _, _ = _RootAndInverse.apply(sigma, eps)  # type: ignore[no-untyped-call]
    x_hat: Tensor = (samples - mu) @ inverse_root  # rows are samples; the root is symmetric
    return x_hat


def _whiten_cholesky(function: str, samples: Tensor, source: Tensor, eps: float) -> Tensor:
    mu, sigma = _finite_covariance(function, source)
    identity = torch.eye(len(sigma), dtype=sigma.dtype, device=sigma.device)
    factor, failed = torch.linalg.cholesky_ex(sigma + eps * identity)
    if failed:
        raise ValueError(
            f"{function}: eps is {eps}, lost in rounding beside the largest variance "
            f"{sigma.diagonal().max().item():.3g} of x in {sigma.dtype}, so Sigma + eps I is not "
            "positive definite. Use a larger eps, x.double(), a smaller scale, or `whiten_zca`."
        )
    # Rows are samples, so L^-1 stands on their right and transposed.
    x_hat: Tensor = torch.linalg.solve_triangular(factor.mT, samples - mu, upper=True, left=False)
    return x_hat


class _RootAndInverse(torch.autograd.Function):
    """R = (Sigma + eps I)^(1/2), its inverse F, and the eigenvalues and eigenvectors of R.

    The gradient does not go through the eigenvectors. Theirs holds 1 / (l_i - l_j), infinite where
    eigenvalues l of Sigma coincide, as they do for every batch of fewer than d samples; R and F,
    however, are smooth there. Differentiating R R = Sigma + eps I gives the Lyapunov equation

        R dR + dR R = dSigma,

    which in the eigenbasis, where R is diag(r), reads dR_ij = dSigma_ij / (r_i + r_j): sums of
    positive numbers, never differences. From F R = I follows dF = -F dR F, and with it dF_ij =
    -dSigma_ij / (r_i r_j (r_i + r_j)). The map from dSigma to dR is its own adjoint, so backward
    solves the same equation, with dl/dR on the right. To make that differentiable the solution is
    an autograd function too, whose backward solves the equation again.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(sigma: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        eigenvalues, q = torch.linalg.eigh(sigma)
        # Rounding can take a zero eigenvalue of a covariance below zero. Adding eps here rather
        # than to Sigma keeps it from being lost beside the largest eigenvalue.
        r = torch.sqrt(eigenvalues.clamp_min(0) + eps)
        return (q * r) @ q.mT, (q / r) @ q.mT, r, q

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        root, inverse, r, q = output
        ctx.mark_non_differentiable(r, q)
        ctx.save_for_backward(root, inverse, r, q)

    @staticmethod
    def backward(
        ctx: Any, droot: Tensor, dinverse: Tensor, _dr: Tensor, _dq: Tensor
    ) -> tuple[Tensor, None]:
        root, inverse, r, q = ctx.saved_tensors
        return _solve_lyapunov(root, droot - inverse @ dinverse @ inverse, r, q), None


class _SolveLyapunov(torch.autograd.Function):
    """The solution X of R X + X R = C, for R symmetric with eigenvalues r > 0, eigenvectors q.

    r and q say how to solve; the derivative is with respect to R and C. It follows from
    R dX + dX R = dC - dR X - X dR: with Y the solution for dl/dX in place of C,
    dl/dC = Y and dl/dR = -(Y X^T + X^T Y).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(root: Tensor, c: Tensor, r: Tensor, q: Tensor) -> Tensor:
        return q @ ((q.mT @ c @ q) / (r.unsqueeze(1) + r)) @ q.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        root, _, r, q = inputs
        ctx.save_for_backward(root, output, r, q)

    @staticmethod
    def backward(ctx: Any, dx: Tensor) -> tuple[Tensor, Tensor, None, None]:
        root, x, r, q = ctx.saved_tensors
        y = _solve_lyapunov(root, dx, r, q)
        return -(y @ x.mT + x.mT @ y), y, None, None


def _solve_lyapunov(root: Tensor, c: Tensor, r: Tensor, q: Tensor) -> Tensor:
    solution: Tensor = _SolveLyapunov.apply(root, c, r, q)  # type: ignore[no-untyped-call]
    return solution


def _samples(function: str, x: Tensor, least: int = 2) -> Tensor:
    """(m, d, ...) as (n, d), one row a sample, in float32 at least."""
    _check_input(function, x, least)
    samples: Tensor = _widened(x).movedim(1, -1).flatten(0, -2)
    return samples


def _widened(x: Tensor) -> Tensor:
    """Take x to the type to compute in: half precisions are widened."""
    return x.float() if torch.finfo(x.dtype).bits < 32 else x


def _samples_near_zero(function: str, x: Tensor, least: int = 2) -> Tensor:
    """The samples of a finite x, about their mean.

    A constant taken off changes no covariance and no gradient, but without it a mean far from zero
    leaves its rounding error in the covariance, where small eigenvalues drown in it. The mean is
    then taken once more, of small numbers, and comes out right; a constant feature as exactly 0.
    """
    samples = _samples(function, x, least)
    bad = x.numel() - int(samples.isfinite().sum())
    if bad:
        raise ValueError(
            f"{function}: {bad} of the {x.numel()} values of x {'is' if bad == 1 else 'are'} not "
            "finite, and the covariance would spread that to every output. Find out where it comes "
            "from, or leave those samples out."
        )
    return samples - samples.detach().mean(0)


def _samples_to_whiten(function: str, x: Tensor, eps: float) -> Tensor:
    """The samples about their mean, once it is clear that x and eps will do."""
    samples = _samples_near_zero(function, x)
    if not 0 <= eps < math.inf:
        raise ValueError(
            f"{function}: eps is {eps}; it is added to the eigenvalues of the covariance, so it "
            "must be finite and not negative (1e-5 is usual)"
        )
    if eps < torch.finfo(samples.dtype).tiny:  # 0, or as good as 0
        n, d = samples.shape
        _, sigma = _finite_covariance(function, samples.detach())
        rank = _rank(sigma, n)
        if rank < d:
            way_out = (
                f"more than {d} samples (the rank is at most m - 1)"
                if n <= d
                else "features of which none is constant or a linear function of the others"
            )
            raise ValueError(
                f"{function}: eps is {eps}, but the covariance of m = {n} samples of d = {d} "
                f"features has rank {rank}; an eigenvalue of 0 has no inverse root. Use eps > 0, "
                f"{way_out}, or normalize one feature at a time (`batch_norm`)."
            )
    return samples


def _shaped_like(x: Tensor, samples: Tensor) -> Tensor:
    """Undo `_samples`."""
    like_x: Tensor = samples.unflatten(0, (x.shape[0], *x.shape[2:])).movedim(-1, 1)
    return like_x.to(x.dtype)


def _covariance(samples: Tensor) -> tuple[Tensor, Tensor]:
    mu = samples.mean(0)
    deviations = samples - mu
    return mu, deviations.mT @ deviations / len(samples)


def _finite_covariance(function: str, samples: Tensor) -> tuple[Tensor, Tensor]:
    mu, sigma = _covariance(samples)
    if not sigma.isfinite().all():
        raise ValueError(
            f"{function}: x is so large that its covariance overflows in {sigma.dtype}. "
            "Use x.double(), or divide x by a constant first."
        )
    return mu, sigma


def _rank(sigma: Tensor, n: int) -> int:
    rounding = max(n, len(sigma)) * torch.finfo(sigma.dtype).eps
    return int(torch.linalg.matrix_rank(sigma, hermitian=True, rtol=rounding))


def _check_input(function: str, x: object, least: int) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{function}: x is of type {type(x).__name__}; it must be a tensor. Use "
            "torch.as_tensor(x)."
        )
    if not x.is_floating_point():
        raise TypeError(
            f"{function}: x has dtype {x.dtype}; statistics need floating point. Use x.float()."
        )
    shape = tuple(x.shape)
    if x.dim() < 2:
        raise ValueError(
            f"{function}: x has shape {shape}; the channel axis is axis 1, so x must be (m, d) or "
            "(m, d, ...). Use x.unsqueeze(0) for a batch of one, x.unsqueeze(1) for one channel."
        )
    if x.shape[1] < 1:
        raise ValueError(f"{function}: x has shape {shape}; axis 1 must hold at least 1 channel")
    n = x.numel() // x.shape[1]
    if n < least:
        raise ValueError(
            f"{function}: x has shape {shape}, {n} {'sample' if n == 1 else 'samples'} of "
            f"{x.shape[1]} features; it takes at least {least}"
            + (
                ", since one sample is its own mean and nothing is left of it. Pass a larger batch."
                if least > 1
                else " to have a mean. Pass a batch that is not empty."
            )
        )
