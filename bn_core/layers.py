"""Batch normalization as a module, drop-in for torch.nn: same constructor, state and behaviour."""

import torch
from torch import Tensor, nn

from bn_core.algorithms import (
    batch_norm_inference,
    batch_norm_with_statistics,
    population_variance,
)


class BatchNorm1d(nn.Module):
    """Batch normalization of (m, d) or (m, d, l) inputs, a drop-in for `torch.nn.BatchNorm1d`.

    In training mode the statistics are the mini-batch's, and the running statistics follow them:
    new = (1 - momentum) * old + momentum * batch, the mean as it is, the variance unbiased
    (m / (m - 1) times the one that normalizes). In evaluation mode the running statistics are used;
    without them (`track_running_stats=False`) the mini-batch's are used there too.

    Args:
        num_features: number of channels d.
        eps: added to the variance, inside the root; positive.
        momentum: weight of the newest batch in the running statistics, in [0, 1]; None for the
            plain average over all batches so far. Keras's momentum is 1 minus this one.
        affine: learn gamma (`weight`, starts at 1) and beta (`bias`, starts at 0).
        track_running_stats: keep `running_mean`, `running_var` and `num_batches_tracked`.
        device: where the tensors live.
        dtype: their floating-point type.
        bias: with affine, learn beta too.

    Raises:
        ValueError: num_features or eps is not positive, momentum is not in [0, 1]; and from
            `forward`: the input has the wrong shape, or training with one value per channel.

    Source: Ioffe & Szegedy (2015), Algorithms 1 and 2, with the moving averages that section 3.1
    suggests in place of Algorithm 2's second pass over the data.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if num_features < 1:
            raise ValueError(f"{name}: num_features is {num_features}; it must be at least 1")
        if not eps > 0:
            raise ValueError(f"{name}: eps is {eps}; it must be positive (1e-5 is usual)")
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(
                f"{name}: momentum is {momentum}; it is the weight of the newest batch, so it must "
                "be in [0, 1], or None for a plain average"
            )
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        if affine:
            self.weight = nn.Parameter(torch.empty(num_features, device=device, dtype=dtype))
        else:
            self.register_parameter("weight", None)
        if affine and bias:
            self.bias = nn.Parameter(torch.empty(num_features, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        if track_running_stats:
            self.register_buffer(
                "running_mean", torch.empty(num_features, device=device, dtype=dtype)
            )
            self.register_buffer(
                "running_var", torch.empty(num_features, device=device, dtype=dtype)
            )
            self.register_buffer(
                "num_batches_tracked", torch.tensor(0, dtype=torch.long, device=device)
            )
        else:
            self.register_buffer("running_mean", None)
            self.register_buffer("running_var", None)
            self.register_buffer("num_batches_tracked", None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget every batch seen: mean 0, variance 1, count 0."""
        if self.track_running_stats:
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Start again: gamma 1, beta 0, no batch seen."""
        self.reset_running_stats()
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x, (m, d) or (m, d, l); returns y of x's shape."""
        self._check_shape(x)
        # As in torch, the buffers that are there decide, not the flag of the constructor.
        if self.training or self.running_mean is None or self.running_var is None:
            y, mu, var = batch_norm_with_statistics(x, self.weight, self.bias, self.eps)
            if self.training and self.track_running_stats:
                self._track(mu, var, m=x.numel() // x.shape[1])
            return y
        gamma = torch.ones_like(self.running_mean) if self.weight is None else self.weight
        beta = torch.zeros_like(self.running_mean) if self.bias is None else self.bias
        return batch_norm_inference(x, self.running_mean, self.running_var, gamma, beta, self.eps)

    def extra_repr(self) -> str:
        """The constructor's arguments, for printing."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )

    @torch.no_grad()
    def _track(self, mu: Tensor, var: Tensor, m: int) -> None:
        """Let the running statistics follow one batch: normalize with biased, store unbiased."""
        if self.running_mean is None or self.running_var is None:
            return
        weight = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if weight is None:
                weight = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mu, weight or 0.0)
        self.running_var.lerp_(population_variance(var, m), weight or 0.0)

    def _check_shape(self, x: Tensor) -> None:
        if x.dim() not in (2, 3):
            raise ValueError(
                f"{type(self).__name__}: input has shape {tuple(x.shape)}; it must be (m, d) or "
                f"(m, d, l) with d = {self.num_features}"
            )
        if x.shape[1] != self.num_features:
            raise ValueError(
                f"{type(self).__name__}: input has {x.shape[1]} channels (shape {tuple(x.shape)}), "
                f"the layer has num_features = {self.num_features}; axis 1 must have that length"
            )
