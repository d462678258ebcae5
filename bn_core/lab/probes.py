"""What happened inside: distributions of what enters a layer, over the course of training."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Array = NDArray[np.floating[Any]]

PERCENTILES = (15.0, 50.0, 85.0)  # those of Figure 1(b, c)


class Recorder:
    """Percentiles, over examples, of what enters the chosen layers of any network.

    A context manager. Inside it, forward passes without gradient are seen, and `take` turns what
    was seen into one record; passes with gradient, the training ones, are not looked at. Outside,
    the model is as it was: no hook stays behind, also after an exception::

        with Recorder(model, ["sigmoid3"]) as recorder:
            for step in ...:
                predict(model, images)
                recorder.take(step)
        recorder.percentiles("sigmoid3")    # (records, 3, units)

    The probe sees the input of a layer as that forward pass made it. With batch normalization in
    front and the model in training mode, that input has mean beta and standard deviation gamma by
    construction; put the model into evaluation mode to see what inference sees, and record the
    layer before the normalization as well.

    Args:
        model: any module.
        layers: names as in `model.named_modules()`.
        q: percentiles, each in [0, 100].

    Raises:
        ValueError: a layer that the model does not have.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[str], q: Sequence[float] = PERCENTILES
    ) -> None:
        modules = dict(model.named_modules())
        for name in layers:
            if name not in modules:
                raise ValueError(
                    f"Recorder: the model has no layer {name!r}; it has "
                    f"{', '.join(name for name in modules if name)}"
                )
        self._modules = {name: modules[name] for name in layers}
        self._q = tuple(q)
        self._handles: list[RemovableHandle] = []
        self._seen: dict[str, list[Tensor]] = {name: [] for name in layers}
        self._records: dict[str, list[Array]] = {name: [] for name in layers}
        self.steps: list[int] = []

    def __enter__(self) -> "Recorder":
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_pre_hook(self._hook(name)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def take(self, step: int) -> None:
        """Store the percentiles of what entered since the last `take`, without gradient.

        Args:
            step: the training step to file it under.

        Raises:
            RuntimeError: no forward pass has gone through one of the layers.
        """
        for name, seen in self._seen.items():
            if not seen:
                raise RuntimeError(
                    f"Recorder.take: nothing entered {name!r} since the last take; run the model "
                    "inside the `with` block first"
                )
            values = torch.cat([part.flatten(1) for part in seen]).double().cpu().numpy()
            self._records[name].append(np.percentile(values, self._q, axis=0))
            seen.clear()
        self.steps.append(step)

    def percentiles(self, layer: str) -> Array:
        """The records of one layer: (records, percentiles, units)."""
        return np.stack(self._records[layer])

    def _hook(self, name: str) -> Any:
        def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if not torch.is_grad_enabled():
                self._seen[name].append(inputs[0].detach())

        return keep


def movement(percentiles: Array, steps: Sequence[int]) -> Array:
    """How much each unit's distribution moved during training, in units of its own width.

    For each unit, the standard deviation over training time of each percentile, averaged over the
    percentiles, divided by the time average of the width (highest minus lowest percentile). A unit
    whose distribution stands still has 0; one whose whole distribution wanders with a standard
    deviation as large as its width has 1. Time is weighted evenly, so records may be closer
    together at the start.

    Args:
        percentiles: (records, percentiles, units), ascending along the second axis.
        steps: (records,), ascending.

    Returns:
        (units,), not negative.

    Raises:
        ValueError: fewer than 2 records, or as many steps as records are not given.
    """
    if len(percentiles) < 2 or len(percentiles) != len(steps):
        raise ValueError(
            f"movement: {len(percentiles)} records for {len(steps)} steps; give at least 2 records "
            "and one step for each"
        )
    mean, std = _over_time(percentiles, steps)
    moved: Array = std.mean(0) / (mean[-1] - mean[0])
    return moved


def _over_time(values: Array, steps: Sequence[int]) -> tuple[Array, Array]:
    """Mean and standard deviation over time, each record weighted by the time it stands for."""
    weights = np.gradient(np.asarray(steps, dtype=float))
    mean = np.average(values, axis=0, weights=weights)
    return mean, np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights))
