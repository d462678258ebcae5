"""Normalization layers as modules: one family, whose members differ in the axes they average over.

Every layer here computes x_hat = (x - mean) / sqrt(var + eps), then y = weight * x_hat + bias. The
mean and the variance are taken over the axes that the layer's `axes` method names. For x of shape
(m, d, p, q), which is m examples of d channels with p * q positions each:

=============  ==================================  =======================================
layer          averages over                       so every ... has a mean and a variance
=============  ==================================  =======================================
BatchNorm2d    examples and positions: m, p, q     channel
InstanceNorm   positions: p, q                     channel of an example
GroupNorm      a group's channels and positions    group of d / G channels of an example
LayerNorm      the last axes, say d, p, q          example
RMSNorm        the last axes, say d, p, q          example; the mean is taken to be 0
=============  ==================================  =======================================

Only batch normalization averages over examples. So it alone needs a batch to train on and
population statistics to be evaluated with, and it has two relatives of its own: GhostBatchNorm
averages over a part of the batch, BatchRenorm corrects the batch's statistics towards the running
ones. BatchNorm1d, 2d and 3d are drop-in for torch.nn's: same constructor, state and behaviour, but
that an eps of 0 and a momentum outside [0, 1] are refused. The others have torch's parameters and
state too, where torch has the layer.

Drop-in does not mean that torch takes the layers for its own. Tools that look for the classes of
torch.nn pass over them without a word: `torch.optim.swa_utils.update_bn`,
`torch.func.replace_all_batch_norm_modules_` and `SyncBatchNorm.convert_sync_batchnorm`. And
`torch.fx.symbolic_trace` and `torch.jit.script` refuse them, as the checks of the input are Python.
For these tools make torch's layers of ours with `bn_core.surgery.convert(model, to_torch)`; in
place of `update_bn` there is `bn_core.surgery.recalibrate`. `torch.compile`, `torch.export` and
`torch.func` take the layers as they are.
"""

import math
from collections.abc import Container, Iterable, Sequence
from numbers import Integral
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bn_core.algorithms import (
    batch_norm,
    batch_norm_inference,
    batch_norm_with_statistics,
    batch_statistics,
    normalize,
    normalize_rms,
    population_variance,
)

# Ranks of an input with a channel axis, and with positions; a tensor has at most 64 axes.
_WITH_CHANNELS = range(2, 65)
_WITH_POSITIONS = range(3, 65)


class Normalization(nn.Module):
    """What the layers of this module have in common: normalize over some axes, scale, shift.

    A layer names its axes in `axes`. Its `weight` and `bias` are None where it learns none.
    """

    # torch's layer of the name leaves its output contiguous even if the input is channels last.
    _contiguous: ClassVar[bool] = False

    eps: float | None
    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def axes(self, x: Tensor) -> tuple[int, ...]:
        """The axes of x over which one mean and one variance are taken."""
        raise NotImplementedError

    def normalized(self, x: Tensor) -> Tensor:
        """x_hat, in float32 where x is in half precision."""
        assert self.eps is not None
        return normalize(x.to(_accumulator(x.dtype)), self.axes(x), self.eps)

    def forward(self, input: Tensor) -> Tensor:
        """Normalize, scale and shift; returns y of the input's shape and type."""
        self._check_input(input)
        x_hat = self.normalized(input)
        y = self._scale_and_shift(x_hat).to(input.dtype)
        return y.contiguous() if self._contiguous else _laid_out(y)

    def reset_parameters(self) -> None:
        """Start again: weight 1, bias 0."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def _scale_and_shift(self, x_hat: Tensor) -> Tensor:
        y = x_hat
        if self.weight is not None:
            y = y * self._spread(self.weight, y)
        if self.bias is not None:
            y = y + self._spread(self.bias, y)
        return y

    def _spread(self, parameter: Tensor, x: Tensor) -> Tensor:
        """Shape a (d,) parameter so that it broadcasts with x along the channels."""
        return parameter.view(-1, *(1,) * (x.dim() - 2))

    def _add_parameters(
        self,
        shape: tuple[int, ...],
        weight: bool,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(
                f"{type(self).__name__}: dtype is {dtype}; it must be a floating-point type, such "
                "as torch.float32"
            )
        for name, wanted in (("weight", weight), ("bias", weight and bias)):
            parameter = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            self.register_parameter(name, parameter if wanted else None)

    def _check_input(self, x: Tensor) -> None:
        raise NotImplementedError


class BatchNorm(Normalization):
    """Batch normalization of (m, d) or (m, d, ...) inputs; BatchNorm1d, 2d and 3d narrow the shape.

    Arguments and errors are those of `BatchNorm1d`.
    """

    # torch counts the versions of its layers' state likewise; 2 brought num_batches_tracked.
    _version = 2
    _ranks: ClassVar[Container[int]] = _WITH_CHANNELS
    _shapes: ClassVar[str] = "(m, d) or (m, d, ...)"

    eps: float
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
        _check_count(name, "num_features", num_features)
        _check_eps(name, eps, dtype)
        _check_momentum(name, momentum)
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self._add_parameters((num_features,), affine, bias, device, dtype)
        mean = torch.empty(num_features, device=device, dtype=dtype)
        count = torch.tensor(0, dtype=torch.long, device=device)
        self.register_buffer("running_mean", mean if track_running_stats else None)
        self.register_buffer("running_var", mean.clone() if track_running_stats else None)
        self.register_buffer("num_batches_tracked", count if track_running_stats else None)
        self.reset_parameters()

    def axes(self, x: Tensor) -> tuple[int, ...]:
        """Every axis but the channels'."""
        return (0, *range(2, x.dim()))

    def forward(self, input: Tensor) -> Tensor:
        """Normalize, scale and shift; returns y of the input's shape and type."""
        self._check_input(input)
        # As in torch, the buffers that are there decide, not the flag of the constructor.
        if self.training or self.running_mean is None or self.running_var is None:
            y = self._normalize_batch(input)
        else:
            y = batch_norm_inference(
                input, self.running_mean, self.running_var, self.weight, self.bias, self.eps
            )
        return _laid_out(y)

    def inference_map(self) -> tuple[Tensor, Tensor]:
        """The affine map y = scale * x + shift that evaluation mode computes in each channel.

        Returns:
            scale and shift, (d,) each; in float32 for a layer in half precision. They are functions
            of `weight` and `bias`, so gradients flow through them.

        Raises:
            ValueError: the layer keeps no running statistics, so that what evaluation mode does to
                an example depends on the rest of the batch.

        Source: Ioffe & Szegedy (2015), Algorithm 2, line 11.
        """
        if self.running_mean is None or self.running_var is None:
            raise ValueError(
                f"{type(self).__name__}: the layer keeps no running statistics, so evaluation mode "
                "is not one map for all batches; use a layer with track_running_stats=True"
            )
        std = torch.sqrt(self.running_var.to(_accumulator(self.running_var.dtype)) + self.eps)
        scale = 1 / std if self.weight is None else self.weight / std
        shift = -scale * self.running_mean
        return scale, shift if self.bias is None else self.bias + shift

    def reset_running_stats(self) -> None:
        """Forget every batch seen: mean 0, variance 1, count 0."""
        if self.track_running_stats:
            start = ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0))
            for buffer, value in start:
                if buffer is not None:  # the buffers that are there decide, as in `forward`
                    buffer.fill_(value)

    def reset_parameters(self) -> None:
        """Start again: weight 1, bias 0, no batch seen."""
        self.reset_running_stats()
        super().reset_parameters()

    def extra_repr(self) -> str:
        """The constructor's arguments, for printing."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )

    def _normalize_batch(self, x: Tensor) -> Tensor:
        """Normalize x with its own statistics and, in training, let the running ones follow."""
        _check_values_per_channel(type(self).__name__, x)
        y, mu, var = batch_norm_with_statistics(x, self.weight, self.bias, self.eps)
        if self.training and self.track_running_stats:
            newest = _count_batch(self.num_batches_tracked, self.momentum, mu.dtype)
            # As in torch, an empty batch counts, though it has no statistics to follow.
            if self.running_mean is not None and self.running_var is not None and x.numel() > 0:
                m = x.numel() // self.num_features
                _follow(self.running_mean, mu, newest)
                # The biased variance normalizes, the unbiased one is stored.
                _follow(self.running_var, population_variance(var, m), newest)
        return y

    def _check_input(self, x: Tensor) -> None:
        name = type(self).__name__
        own = self.weight if self.weight is not None else self.running_mean
        _check_rank(name, x, self._ranks, self._shapes)
        _check_channels(name, x, "num_features", self.num_features)
        _check_dtype_and_device(name, x, own)
        if (self.running_mean is None) != (self.running_var is None):
            raise ValueError(
                f"{name}: one of running_mean and running_var is None and the other is not; the "
                "layer needs both, or neither to use the batch's own statistics"
            )

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        *rest: Any,
    ) -> None:
        """Load; where a checkpoint older than version 2 has no num_batches_tracked, keep ours."""
        version = local_metadata.get("version")
        if (version is None or version < 2) and self.track_running_stats:
            count = self.num_batches_tracked
            if count is None or count.is_meta:
                count = torch.tensor(0)
            state_dict.setdefault(prefix + "num_batches_tracked", count)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


class BatchNorm1d(BatchNorm):
    """Batch normalization of (m, d) or (m, d, l) inputs, a drop-in for `torch.nn.BatchNorm1d`.

    In training mode the statistics are the mini-batch's, and the running statistics follow them:
    new = (1 - momentum) * old + momentum * batch, the mean as it is, the variance unbiased
    (m / (m - 1) times the one that normalizes, for m values per channel). In evaluation mode the
    running statistics are used; without them (`track_running_stats=False`) the mini-batch's are
    used there too. An empty batch passes through and leaves the running statistics as they are.

    Args:
        num_features: number of channels d.
        eps: added to the variance, inside the root; positive and finite.
        momentum: weight of the newest batch in the running statistics, in [0, 1]; None for the
            plain average over all batches so far. Keras's momentum is 1 minus this one.
        affine: learn gamma (`weight`, starts at 1) and beta (`bias`, starts at 0).
        track_running_stats: keep `running_mean`, `running_var` and `num_batches_tracked`.
        device: where the tensors live.
        dtype: their floating-point type. An input has the same type, or is in half precision where
            the layer is in float32.
        bias: with affine, learn beta too.

    Raises:
        ValueError: num_features or eps is not positive, eps is not finite, momentum is not in
            [0, 1]; and from `forward`: the input has the wrong shape or is on another device, there
            is one value per channel and it would have to be normalized with its own statistics, or
            one of `running_mean` and `running_var` has been set to None.
        TypeError: num_features is not a whole number or dtype not of floating point; and from
            `forward`: the input's type does not go with the layer's.

    Source: Ioffe & Szegedy (2015), Algorithms 1 and 2, with the moving averages that section 3.1
    suggests in place of Algorithm 2's second pass over the data.
    """

    _ranks: ClassVar[Container[int]] = (2, 3)
    _shapes: ClassVar[str] = "(m, d) or (m, d, l)"


class BatchNorm2d(BatchNorm):
    """Batch normalization of (m, d, p, q) inputs, a drop-in for `torch.nn.BatchNorm2d`.

    Every position of a feature map counts as a value, so a channel has m * p * q of them. Arguments
    and errors are those of `BatchNorm1d`.

    Source: Ioffe & Szegedy (2015), section 3.2.
    """

    _ranks: ClassVar[Container[int]] = (4,)
    _shapes: ClassVar[str] = "(m, d, p, q)"


class BatchNorm3d(BatchNorm):
    """Batch normalization of (m, d, o, p, q) inputs, a drop-in for `torch.nn.BatchNorm3d`.

    As `BatchNorm2d`, for volumes: a channel has m * o * p * q values.

    Source: Ioffe & Szegedy (2015), section 3.2.
    """

    _ranks: ClassVar[Container[int]] = (5,)
    _shapes: ClassVar[str] = "(m, d, o, p, q)"


class GhostBatchNorm(BatchNorm):
    """Batch normalization in which each `ghost_batch_size` examples are a mini-batch of their own.

    A batch is cut, in its order, into virtual batches, and each is normalized with its own
    statistics; the last one may be smaller. The running statistics take one step for every virtual
    batch, one after the other. So a forward pass in training is that of BatchNorm on each
    virtual batch in turn. Evaluation mode is BatchNorm's.

    Args:
        num_features: number of channels d; inputs are (m, d) or (m, d, ...).
        ghost_batch_size: examples in a virtual batch; at least 1, and with inputs (m, d) at least
            2. If no batch has more, the layer is BatchNorm.
        eps: as for `BatchNorm1d`, like the arguments that follow.
        momentum: weight of the newest virtual batch.
        affine: learn `weight` and `bias`.
        track_running_stats: keep `running_mean`, `running_var` and `num_batches_tracked`, which
            counts virtual batches.
        device: where the tensors live.
        dtype: their floating-point type.
        bias: with affine, learn `bias` too.

    Raises:
        ValueError: as `BatchNorm1d`; ghost_batch_size is not positive; and from `forward`: a
            virtual batch has one value per channel.
        TypeError: as `BatchNorm1d`.

    Source: Hoffer, Hubara & Soudry (2017), "Train longer, generalize better", arXiv:1705.08741,
    Algorithm 1.
    """

    def __init__(
        self,
        num_features: int,
        ghost_batch_size: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias
        )
        _check_count(type(self).__name__, "ghost_batch_size", ghost_batch_size)
        self.ghost_batch_size = ghost_batch_size

    def extra_repr(self) -> str:
        """The constructor's arguments, for printing."""
        return f"{super().extra_repr()}, ghost_batch_size={self.ghost_batch_size}"

    def _normalize_batch(self, x: Tensor) -> Tensor:
        virtual_batches = x.split(self.ghost_batch_size)
        # All are looked at before the first one changes the running statistics.
        for virtual_batch in virtual_batches:
            self._check_virtual_batch(virtual_batch, x)
        normalize_batch = super()._normalize_batch
        return torch.cat([normalize_batch(virtual_batch) for virtual_batch in virtual_batches])

    def _check_virtual_batch(self, virtual_batch: Tensor, x: Tensor) -> None:
        if virtual_batch.numel() == self.num_features:
            raise ValueError(
                f"{type(self).__name__}: input has shape {tuple(x.shape)}; cut into virtual "
                f"batches of ghost_batch_size = {self.ghost_batch_size}, one of them has 1 value "
                "per channel, and one value has no variance. Use a batch size of which "
                f"ghost_batch_size (at least 2) is a divisor, or drop the last example"
            )


class BatchRenorm(Normalization):
    """Batch renormalization: batch normalization, corrected towards the running statistics.

    In training x_hat = (x - mu_B) / sigma_B * r + d, with sigma_B = sqrt(var_B + eps) and

        r = clip(sigma_B / sigma, 1 / r_max, r_max),

        d = clip((mu_B - mu) / sigma, -d_max, d_max),

    where mu and sigma are the running mean and standard deviation. r and d count as constants in
    the gradient. Without clipping, x_hat is (x - mu) / sigma, what evaluation mode computes; with
    r_max = 1 and d_max = 0 the layer is BatchNorm. After use, mu and sigma take a step of
    `momentum` towards mu_B and sigma_B.

    The running statistics differ from BatchNorm's in two ways: the buffer is `running_std`, not
    `running_var`, and contains eps; and sigma_B is stored as it is, without m / (m - 1). Under
    `torch.compile` the layer makes two graphs in training, so `fullgraph=True` refuses it.

    Args:
        num_features: number of channels d; inputs are (m, d) or (m, d, ...).
        eps: added to the variance, inside the root; positive and finite.
        momentum: weight of the newest batch in the running statistics, the paper's alpha, in
            [0, 1]; None for the plain average.
        affine: learn gamma (`weight`) and beta (`bias`).
        device: where the tensors live.
        dtype: their floating-point type.
        bias: with affine, learn beta too.
        r_max: bound of r, at least 1; an attribute that a schedule may change.
        d_max: bound of d, at least 0; an attribute likewise. The paper starts at r_max = 1 and
            d_max = 0, and relaxes both during training, to 3 and 5.

    Raises:
        ValueError: as `BatchNorm1d`; r_max < 1 or d_max < 0.
        TypeError: as `BatchNorm1d`.

    Source: Ioffe (2017), "Batch Renormalization", arXiv:1702.03275, Algorithm 1.
    """

    eps: float
    running_mean: Tensor
    running_std: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
        r_max: float = 3.0,
        d_max: float = 5.0,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        _check_count(name, "num_features", num_features)
        _check_eps(name, eps, dtype)
        _check_momentum(name, momentum)
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.r_max = r_max
        self.d_max = d_max
        self._check_bounds()
        self._add_parameters((num_features,), affine, bias, device, dtype)
        mean = torch.empty(num_features, device=device, dtype=dtype)
        self.register_buffer("running_mean", mean)
        self.register_buffer("running_std", mean.clone())
        self.register_buffer(
            "num_batches_tracked", torch.tensor(0, dtype=torch.long, device=device)
        )
        self.reset_parameters()

    def axes(self, x: Tensor) -> tuple[int, ...]:
        """Every axis but the channels'."""
        return (0, *range(2, x.dim()))

    def forward(self, input: Tensor) -> Tensor:
        """Normalize, scale and shift; returns y of the input's shape and type."""
        self._check_input(input)
        if self.training:
            return _laid_out(self._renormalize_batch(input))
        scale, shift = self.inference_map()
        y = self._spread(scale, input) * input + self._spread(shift, input)
        return _laid_out(y.to(input.dtype))

    def inference_map(self) -> tuple[Tensor, Tensor]:
        """The affine map y = scale * x + shift that evaluation mode computes in each channel.

        Returns:
            scale and shift, (d,) each; in float32 for a layer in half precision.
        """
        std = self.running_std.to(_accumulator(self.running_std.dtype))
        scale = 1 / std if self.weight is None else self.weight / std
        shift = -scale * self.running_mean
        return scale, shift if self.bias is None else self.bias + shift

    def reset_running_stats(self) -> None:
        """Forget every batch seen: mean 0, standard deviation 1, count 0."""
        self.running_mean.zero_()
        self.running_std.fill_(1)
        self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Start again: weight 1, bias 0, no batch seen."""
        self.reset_running_stats()
        super().reset_parameters()

    def extra_repr(self) -> str:
        """The constructor's arguments, for printing."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, r_max={self.r_max}, d_max={self.d_max}"
        )

    def _renormalize_batch(self, x: Tensor) -> Tensor:
        self._check_bounds()
        _check_values_per_channel(type(self).__name__, x)
        with torch.no_grad():
            mu_batch, var_batch = batch_statistics(x.detach())  # no_grad leaves forward mode on
            sigma_batch = torch.sqrt(var_batch + self.eps)
            r = (sigma_batch / self.running_std).clamp(1 / self.r_max, self.r_max)
            d = ((mu_batch - self.running_mean) / self.running_std).clamp(-self.d_max, self.d_max)
            if torch.compiler.is_compiling():
                # In one graph with the update, the compiled gradient would compute r and d again
                # from the updated statistics (pytorch/pytorch pull request 197039).
                torch._dynamo.graph_break()
            newest = _count_batch(self.num_batches_tracked, self.momentum, mu_batch.dtype)
            if x.numel() > 0:
                _follow(self.running_mean, mu_batch, newest)
                _follow(self.running_std, sigma_batch, newest)
        # gamma (x_hat r + d) + beta is batch normalization with gamma r and gamma d + beta.
        gamma = r if self.weight is None else self.weight * r
        beta = d if self.weight is None else self.weight * d
        return batch_norm(x, gamma, beta if self.bias is None else beta + self.bias, self.eps)

    def _check_bounds(self) -> None:
        name = type(self).__name__
        if not self.r_max >= 1:
            raise ValueError(
                f"{name}: r_max is {self.r_max}; it bounds r to [1 / r_max, r_max], "
                "so it must be at least 1 (1 for no correction of the scale)"
            )
        if not self.d_max >= 0:
            raise ValueError(
                f"{name}: d_max is {self.d_max}; it bounds d to [-d_max, d_max], so it "
                "must be at least 0 (0 for no correction of the mean)"
            )

    def _check_input(self, x: Tensor) -> None:
        name = type(self).__name__
        _check_rank(name, x, _WITH_CHANNELS, "(m, d) or (m, d, ...)")
        _check_channels(name, x, "num_features", self.num_features)
        _check_dtype_and_device(name, x, self.running_mean)


class InstanceNorm(Normalization):
    """Instance normalization of (m, d, ...) inputs with any number of axes of positions.

    Each channel of each example is normalized on its own. It is `torch.nn.InstanceNorm1d`, 2d or 3d
    by the input's rank, without running statistics: training and evaluation are the same.

    Args:
        num_features: number of channels d.
        eps: added to the variance, inside the root; positive and finite.
        affine: learn a scale and a shift per channel (`weight` and `bias`).
        device: where the tensors live.
        dtype: their floating-point type.
        bias: with affine, learn the shift too.

    Raises:
        ValueError: as `BatchNorm1d` of num_features and eps; and from `forward`: the input has the
            wrong shape or a single position, or is on another device.
        TypeError: as `BatchNorm1d`.

    Source: Ulyanov, Vedaldi & Lempitsky (2016), "Instance Normalization", arXiv:1607.08022.
    """

    _contiguous = True

    eps: float

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        *,
        affine: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        _check_count(name, "num_features", num_features)
        _check_eps(name, eps, dtype)
        self.num_features = num_features
        self.eps = eps
        self.affine = affine
        self._add_parameters((num_features,), affine, bias, device, dtype)
        self.reset_parameters()

    def axes(self, x: Tensor) -> tuple[int, ...]:
        """The positions."""
        return tuple(range(2, x.dim()))

    def extra_repr(self) -> str:
        """The constructor's arguments, for printing."""
        return (
            f"{self.num_features}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )

    def _check_input(self, x: Tensor) -> None:
        name = type(self).__name__
        _check_rank(name, x, _WITH_POSITIONS, "(m, d, l) or (m, d, p, q, ...)")
        _check_channels(name, x, "num_features", self.num_features)
        _check_dtype_and_device(name, x, self.weight)
        if x.shape[2:].numel() == 1:
            raise ValueError(
                f"{name}: input has shape {tuple(x.shape)}; each channel of each example has 1 "
                "position, and one value has no variance. Use inputs with more positions, or "
                "LayerNorm over the channels"
            )


class GroupNorm(Normalization):
    """Group normalization of (m, d) or (m, d, ...) inputs, as `torch.nn.GroupNorm`.

    The channels are divided, in their order, into groups of d / num_groups; each group of each
    example is normalized on its own. One group is LayerNorm over all axes but the examples', d
    groups are InstanceNorm, but for the shape of the parameters.

    Args:
        num_groups: number of groups G; a divisor of num_channels.
        num_channels: number of channels d.
        eps: added to the variance, inside the root; positive and finite.
        affine: learn a scale and a shift per channel (`weight` and `bias`).
        device: where the tensors live.
        dtype: their floating-point type.
        bias: with affine, learn the shift too.

    Raises:
        ValueError: num_groups does not divide num_channels, one of them or eps is not positive, or
            eps is not finite; and from `forward`: the input has the wrong shape, is a single
            example with one value per group, or is on another device.
        TypeError: as `BatchNorm1d`, of num_groups and num_channels.

    Source: Wu & He (2018), "Group Normalization", arXiv:1803.08494.
    """

    eps: float

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        _check_count(name, "num_groups", num_groups)
        _check_count(name, "num_channels", num_channels)
        _check_eps(name, eps, dtype)
        if num_channels % num_groups != 0:
            raise ValueError(
                f"{name}: num_channels is {num_channels}, which num_groups = {num_groups} does not "
                "divide; the groups must be of equal size"
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        self._add_parameters((num_channels,), affine, bias, device, dtype)
        self.reset_parameters()

    def axes(self, x: Tensor) -> tuple[int, ...]:
        """A group's channels and the positions, for x seen as (m, G, d / G, ...)."""
        return tuple(range(2, x.dim()))

    def normalized(self, x: Tensor) -> Tensor:
        """x_hat, in float32 where x is in half precision."""
        groups = x.unflatten(1, (self.num_groups, self.num_channels // self.num_groups))
        return super().normalized(groups).flatten(1, 2)

    def extra_repr(self) -> str:
        """The constructor's arguments, for printing."""
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )

    def _check_input(self, x: Tensor) -> None:
        name = type(self).__name__
        _check_rank(name, x, _WITH_CHANNELS, "(m, d) or (m, d, ...)")
        _check_channels(name, x, "num_channels", self.num_channels)
        _check_dtype_and_device(name, x, self.weight)
        if x.numel() == self.num_groups:
            raise ValueError(
                f"{name}: input has shape {tuple(x.shape)}; each of the {self.num_groups} groups "
                "has 1 value, and one value has no variance. Use fewer groups"
            )


class LayerNorm(Normalization):
    """Layer normalization over the last axes of the input, as `torch.nn.LayerNorm`.

    Args:
        normalized_shape: lengths of the axes to average over, the last ones of the input; a number
            for the last axis alone.
        eps: added to the variance, inside the root; positive and finite.
        elementwise_affine: learn a scale and a shift (`weight` and `bias`) of that shape.
        bias: with elementwise_affine, learn the shift too.
        device: where the tensors live.
        dtype: their floating-point type.

    Raises:
        ValueError: normalized_shape is empty or has a length below 1, or eps is not positive or
            not finite; and from `forward`: the input's last axes are not normalized_shape, or it is
            on another device.
        TypeError: as `BatchNorm1d`, of normalized_shape.

    Source: Ba, Kiros & Hinton (2016), "Layer Normalization", arXiv:1607.06450.
    """

    _contiguous = True

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        _check_eps(name, eps, dtype)
        self.normalized_shape = _shape_of(name, normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self._add_parameters(self.normalized_shape, elementwise_affine, bias, device, dtype)
        self.reset_parameters()

    def axes(self, x: Tensor) -> tuple[int, ...]:
        """The last axes, as many as normalized_shape has."""
        return tuple(range(x.dim() - len(self.normalized_shape), x.dim()))

    def extra_repr(self) -> str:
        """The constructor's arguments, for printing."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )

    def _spread(self, parameter: Tensor, x: Tensor) -> Tensor:
        return parameter  # of normalized_shape, it broadcasts as it is

    def _check_input(self, x: Tensor) -> None:
        _check_last_axes(type(self).__name__, x, self.normalized_shape)
        _check_dtype_and_device(type(self).__name__, x, self.weight)


class RMSNorm(LayerNorm):
    """LayerNorm without the mean: y = weight * x / sqrt(mean(x^2) + eps), as `torch.nn.RMSNorm`.

    Args:
        normalized_shape: lengths of the axes to average over, the last ones of the input; a number
            for the last axis alone.
        eps: added to the mean square, inside the root; positive and finite. None for
            `torch.finfo(dtype).eps` of the type it computes in, the input's or, for half
            precisions, float32.
        elementwise_affine: learn a scale (`weight`) of that shape; there is no shift.
        device: where the tensors live.
        dtype: their floating-point type.

    Raises:
        ValueError: as `LayerNorm`.
        TypeError: as `LayerNorm`.

    Source: Zhang & Sennrich (2019), "Root Mean Square Layer Normalization", arXiv:1910.07467.
    """

    _contiguous = False

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            normalized_shape, 1.0 if eps is None else eps, elementwise_affine, False, device, dtype
        )
        self.eps = eps

    def normalized(self, x: Tensor) -> Tensor:
        """x_hat, in float32 where x is in half precision; x divided by its root mean square."""
        x = x.to(_accumulator(x.dtype))
        eps = torch.finfo(x.dtype).eps if self.eps is None else self.eps
        return normalize_rms(x, self.axes(x), eps)

    def extra_repr(self) -> str:
        """The constructor's arguments, for printing."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


def _count_batch(
    num_batches_tracked: Tensor | None, momentum: float | None, dtype: torch.dtype
) -> Tensor | float:
    """Count one batch more; returns its weight in the running statistics."""
    if num_batches_tracked is not None:
        num_batches_tracked.add_(1)
        if momentum is None:
            # A tensor, not a number: under vmap there are as many counts as layers, and
            # torch.compile and torch.export cannot look at any.
            return num_batches_tracked.to(dtype).reciprocal()
    return momentum or 0.0


@torch.no_grad()
def _follow(running: Tensor, batch: Tensor, weight: Tensor | float) -> None:
    """Set running to (1 - weight) * running + weight * batch, in place, at batch's precision."""
    running.copy_(torch.lerp(running.to(batch.dtype), batch, weight))


def _laid_out(y: Tensor) -> Tensor:
    """Lay y out in memory as torch's layers do: contiguous, or channels last if it is already."""
    channels_last = y.dim() in (4, 5) and y.movedim(1, -1).is_contiguous()
    return y if channels_last else y.contiguous()


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    """The type to compute in: half precisions are widened."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _shape_of(layer: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    lengths = (
        tuple(normalized_shape) if isinstance(normalized_shape, Iterable) else (normalized_shape,)
    )
    if not all(isinstance(length, Integral) for length in lengths):
        raise TypeError(
            f"{layer}: normalized_shape is {normalized_shape!r}; it must be a whole number or a "
            "sequence of them"
        )
    shape = tuple(int(length) for length in lengths)
    if not shape or min(shape) < 1:
        raise ValueError(
            f"{layer}: normalized_shape is {normalized_shape}; it must be the lengths of the last "
            "axes of the input, at least one of them, each at least 1"
        )
    return shape


def _check_count(layer: str, name: str, value: object) -> None:
    if not isinstance(value, Integral):
        raise TypeError(f"{layer}: {name} is {value!r}; it must be a whole number, at least 1")
    if int(value) < 1:
        raise ValueError(f"{layer}: {name} is {value}; it must be at least 1")


def _check_eps(layer: str, eps: float, dtype: torch.dtype | None) -> None:
    wide = torch.promote_types(dtype or torch.get_default_dtype(), torch.float32)
    if not torch.finfo(wide).tiny <= eps < math.inf:
        raise ValueError(
            f"{layer}: eps is {eps}; it must be positive in {wide}, and finite (1e-5 is usual)"
        )


def _check_momentum(layer: str, momentum: float | None) -> None:
    if momentum is not None and not 0 <= momentum <= 1:
        raise ValueError(
            f"{layer}: momentum is {momentum}; it is the weight of the newest batch, so it must be "
            "in [0, 1], or None for a plain average"
        )


def _check_tensor(layer: str, x: object) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{layer}: input is of type {type(x).__name__}; it must be a tensor. Use "
            "torch.as_tensor(input)"
        )


def _check_rank(layer: str, x: Tensor, ranks: Container[int], shapes: str) -> None:
    _check_tensor(layer, x)
    if x.dim() not in ranks:
        raise ValueError(
            f"{layer}: input has shape {tuple(x.shape)}; it must be {shapes}, with the channels on "
            "axis 1. Use input.unsqueeze(0) for a single example"
        )


def _check_channels(layer: str, x: Tensor, name: str, number: int) -> None:
    if x.shape[1] != number:
        raise ValueError(
            f"{layer}: input has {x.shape[1]} channels (shape {tuple(x.shape)}), the layer has "
            f"{name} = {number}; axis 1 must have that length"
        )


def _check_values_per_channel(layer: str, x: Tensor) -> None:
    if x.numel() == x.shape[1]:
        raise ValueError(
            f"{layer}: input has shape {tuple(x.shape)}; to be normalized with its own statistics "
            "it needs at least 2 values per channel, since one value has no variance. Use a larger "
            "batch, or layer.eval() with running statistics for a single example"
        )


def _check_last_axes(layer: str, x: Tensor, normalized_shape: tuple[int, ...]) -> None:
    _check_tensor(layer, x)
    if x.shape[-len(normalized_shape) :] != normalized_shape:
        raise ValueError(
            f"{layer}: input has shape {tuple(x.shape)}, the layer has normalized_shape = "
            f"{normalized_shape}; the input's last axes must have these lengths"
        )


def _check_dtype_and_device(layer: str, x: Tensor, own: Tensor | None) -> None:
    """Refuse an x that does not go with the layer's own tensors, of which own is one."""
    if not x.is_floating_point():
        raise TypeError(
            f"{layer}: input has dtype {x.dtype}; statistics need floating point. Use input.float()"
        )
    if own is not None and own.dtype not in (x.dtype, _accumulator(x.dtype)):
        raise TypeError(
            f"{layer}: input has dtype {x.dtype}, the layer has {own.dtype}; use "
            f"input.to({own.dtype}) or layer.to({x.dtype})"
        )
    if own is not None and own.device != x.device:
        raise ValueError(
            f"{layer}: input is on {x.device}, the layer is on {own.device}; use "
            f"input.to('{own.device}') or layer.to('{x.device}')"
        )
