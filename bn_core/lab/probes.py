"""What happened inside: distributions of what enters and leaves layers, in the course of training.

`Recorder` watches the training passes of any network, a reader's own included, and keeps summaries
of fixed size. `EvaluationRecorder` keeps percentiles of every unit over the examples of evaluation
passes. `movement` says in one number per unit how much such percentiles moved.

**Where the probe sits.** Both see what a layer is given and what it returns, as that forward pass
made it. With batch normalization in front and the model in training mode, what enters a
nonlinearity has mean beta and standard deviation gamma by construction, whatever the network does:
look at what enters the normalization as well, or evaluate the model and see what inference sees.

Layers may work in place, as `nn.ReLU(inplace=True)` does: what a layer is given is looked at, or
copied, before it is overwritten. Only a gradient with respect to a view that is overwritten later
cannot be had, as of what an `nn.Flatten` returns to a nonlinearity that works in place; `arrivals`
and `passage` say so.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from numbers import Integral
from types import TracebackType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils.hooks import RemovableHandle

from bn_core.layers import BatchNorm

Array = NDArray[np.floating[Any]]
Kind = Literal["nonlinearity", "normalization", "other"]

PERCENTILES = (15.0, 50.0, 85.0)  # those of Figure 1(b, c)
FAN = (5.0, 15.0, 50.0, 85.0, 95.0)  # those that a Recorder keeps
BINS = 32  # of the histograms that a Recorder keeps
SATURATED = 0.1  # of its largest derivative: below it, a sigmoid counts as saturated
SAMPLE = 2048  # values of a tensor that percentiles and histograms are taken from, at most
MAX_CALLS = 8  # calls of one module in one forward pass that are told apart

# A row is what one record keeps of one layer: three distributions and four numbers.
_DISTRIBUTION = 2 + len(FAN) + 2 + BINS  # mean, std, percentiles, lowest, highest, shares
_FAN = slice(2, 2 + len(FAN))
_RANGE = slice(-BINS - 2, -BINS)
_SHARES = slice(-BINS, None)
_INNER_EDGES = np.arange(1, BINS) / BINS
_INPUT, _OUTPUT, _GRADIENT = (slice(i * _DISTRIBUTION, (i + 1) * _DISTRIBUTION) for i in range(3))
_MEDIAN, _TOP, _DEAD, _SATURATED = range(3 * _DISTRIBUTION, 3 * _DISTRIBUTION + 4)
_ROW = 3 * _DISTRIBUTION + 4

_WEIGHTED = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
# Of torch's activations those that map each value by itself...
_ELEMENTWISE = (
    *(nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh),
    *(nn.LeakyReLU, nn.LogSigmoid, nn.Mish, nn.ReLU, nn.SELU, nn.Sigmoid, nn.SiLU, nn.Softplus),
    *(nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink, nn.Threshold),
)
# ... and those that do so with weights or at random, and so have no one curve.
_NONLINEAR = (*_ELEMENTWISE, nn.PReLU, nn.RReLU)


@dataclass(frozen=True)
class Distribution:
    """How values were distributed at each record.

    Mean and standard deviation are over all values of a tensor. Percentiles and histogram are over
    at most 2,048 of them, spread evenly over the tensor and the same places at every record.

    Attributes:
        mean: (records,).
        std: (records,), with the divisor n.
        percentiles: (records, 5), the 5th, 15th, 50th, 85th and 95th.
        shares: (records, 32), the share of the values in each bin of a histogram; sums to 1.
        edges: (records, 33), the bins' edges, evenly spaced from the lowest value to the highest.
    """

    mean: Array
    std: Array
    percentiles: Array
    shares: Array
    edges: Array


@dataclass(frozen=True)
class LayerHistory:
    """What a `Recorder` knows of one layer. NaN where there was nothing to measure.

    Attributes:
        steps: (records,) the number of training steps done before each record.
        kind: "nonlinearity", "normalization" or "other".
        type_name: the name of its class, such as "Sigmoid".
        input: what entered the layer; of a nonlinearity, the pre-activations.
        output: what left it; of a nonlinearity, the activations.
        gradient: of the loss, with respect to what left the layer, as the training loop computes
            it: a mean over the batch makes it smaller, a gradient scaler larger. After several
            backward passes it is that of the last.
        gradient_median: (records,) the median of the gradient's absolute values.
        gradient_top: (records,) the 99th percentile of the gradient's absolute values.
        saturated: (records,) the share of the values that entered where the nonlinearity's
            derivative is below a tenth of its maximum: for a sigmoid, farther than 3.64 from 0,
            for tanh 1.82 (see `steep_interval`). NaN for a function that does not flatten on both
            sides, and for one that is not of torch.nn.
        dead: (records,) the share of units that gave 0 for every example of the batch, a feature
            map at every position. A unit that is idle in one batch may wake in another. NaN for a
            function that is not 0 over a whole range, as ReLU is, or not of torch.nn.
    """

    steps: NDArray[np.int64]
    kind: Kind
    type_name: str
    input: Distribution
    output: Distribution
    gradient: Distribution
    gradient_median: Array
    gradient_top: Array
    saturated: Array
    dead: Array


@dataclass(frozen=True)
class ParameterHistory:
    """The size of one parameter and of what training did to it.

    Attributes:
        steps: (records,) the number of training steps done before each record.
        norm: (records,) its Euclidean norm.
        update: (records,) the Euclidean norm of its change in that step. 0 for a frozen parameter;
            NaN where the step did not end.
    """

    steps: NDArray[np.int64]
    norm: Array
    update: Array


class Recorder:
    """What happens inside any network while it trains, at every `every`-th step.

    A context manager. Put it around a training loop, which stays as it is::

        with Recorder(model, every=50) as recorder:
            for images, labels in loader:
                ...
        recorder.layer("relu1").output.std    # (records,)

    Inside it, a call of the model in training mode and with gradients counts as a step, and the
    first, at step 0, is recorded; evaluation passes are not looked at. At a recorded step each
    layer's input, output and the gradient that arrives at its output are summarised in the moment
    they exist. Nothing is changed: training goes as it would without. Outside the `with` block the
    model is as it was: no hook stays behind, also after an exception. The block may be entered
    again to go on.

    Memory does not grow with the length of the run. A record is a few hundred numbers for each
    layer; when there are `max_records`, every second one is dropped and `every` is doubled. From a
    recorded step to the next step, one copy of the parameters is held, to measure the update.

    A module that is called several times in one pass, such as the one ReLU of a residual block, has
    a history for each call: "relu", "relu#2" and so on, up to 8.

    A model from `torch.compile` may be given, and is then run without its compiled code in the
    recorded steps. Give the compiled model itself: calls of it do not show in the original.

    Args:
        model: any module.
        layers: names as in `model.named_modules()`. By default all nonlinearities and
            normalizations, and in a network whose nonlinearities are functions (such as
            `F.relu`), and so cannot be seen, the normalizations, linear layers and convolutions.
        every: steps from one record to the next.
        max_records: an even number.
        passes_per_step: calls of the model in training that make one step: with gradients
            accumulated over 4 batches, 4. The first of them is the one that may be recorded.
        unit_axis: the axis of a layer's output that counts its units, for the dead share. By
            default 1, as in (examples, units) and (examples, channels, height, width); in a tensor
            of three axes the last, as in (examples, tokens, units), unless the model has layers for
            (examples, channels, length), such as `nn.Conv1d`.

    Raises:
        ValueError: a layer that the model does not have, no layer to record, or a number that is
            out of range.
        RuntimeError: the model was compiled in place by `model.compile()`; or, in a recorded step,
            the model is called inside a transform of torch.func.
        TypeError: in a recorded step, a layer that was named takes or returns no tensor.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str] | None = None,
        *,
        every: int = 50,
        max_records: int = 256,
        passes_per_step: int = 1,
        unit_axis: int | None = None,
    ) -> None:
        for argument, value in (("every", every), ("passes_per_step", passes_per_step)):
            if not _is_whole(value) or value < 1:
                raise ValueError(
                    f"Recorder: {argument} is {value!r}; it must be at least 1, a whole number"
                )
        if not _is_whole(max_records) or max_records < 2 or max_records % 2:
            raise ValueError(
                f"Recorder: max_records is {max_records}; it must be an even number, at least 2, "
                "since every second record is dropped when there are so many"
            )
        self._root = model
        self._model = _original(model)
        if self._model._compiled_call_impl is not None:
            raise RuntimeError(
                "Recorder: the model was compiled in place by model.compile(), which hides its "
                "layers; use compiled = torch.compile(model) instead and give `compiled`"
            )
        self._named = layers is not None
        self._modules = _choose(self._model) if layers is None else {}
        if layers is not None:
            self._modules = _find("Recorder", self._model, layers)
        if not self._modules:
            raise ValueError(
                "Recorder: found no layer to record; name some in `layers`. The model has "
                f"{', '.join(dict(_names(self._model))) or 'none inside it'}"
            )
        self._curves = {name: _curve(module) for name, module in self._modules.items()}
        channels_first = any(type(m).__name__.endswith("1d") for m in self._model.modules())
        self._axes = {2: 1, 3: 1 if channels_first else 2}  # by number of axes; 1 for all others
        self._unit_axis = unit_axis
        self._every = every
        self._max_records = max_records
        self._passes_per_step = passes_per_step

        self._passes = 0
        self._steps: list[int] = []
        self._rows: dict[str, list[Array]] = {}
        self._norms: dict[str, list[Array]] = {}

        self._hook: RemovableHandle | None = None  # on the model, inside the `with` block
        self._pass = ExitStack()  # what to undo at the end of a recorded pass
        self._calls: dict[str, int] = {}  # in the present pass
        self._samples: list[_Sample] = []  # of the step that has not ended
        self._last: tuple[Tensor, int, _Sample] | None = None
        self._before: dict[str, Tensor] = {}  # parameters at the last record
        self._step_open = False  # the step of the last record has not ended

    def __enter__(self) -> "Recorder":
        if self._hook is not None:
            raise RuntimeError("Recorder: already recording; leave its `with` block first")
        self._hook = self._root.register_forward_pre_hook(self._before_pass)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._hook is not None:
            self._hook.remove()
        self._hook = None
        self._end_pass()
        if error is not None:
            self._step_open = False  # nobody knows whether the optimizer was there
        self._end_step()
        self._before.clear()

    @property
    def every(self) -> int:
        """Steps from one record to the next, as it is by now."""
        return self._every

    @property
    def step(self) -> int:
        """The number of training steps that began inside the `with` block."""
        return math.ceil(self._passes / self._passes_per_step)

    @property
    def steps(self) -> list[int]:
        """For each record, the number of training steps done before it."""
        return list(self._steps)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that were recorded, in the order in which they were first called."""
        return tuple(self._rows)

    @property
    def silent(self) -> tuple[str, ...]:
        """The chosen layers that no recorded pass has called."""
        return tuple(name for name in self._modules if name not in self._rows)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the recorded parameters, as in `model.named_parameters()`."""
        return tuple(self._norms)

    def layer(self, name: str) -> LayerHistory:
        """What was recorded of one layer. Look between steps, not between forward and backward.

        Args:
            name: one of `layers`.

        Raises:
            KeyError: a layer that was not chosen.
            RuntimeError: nothing was recorded, or the layer was never called.
        """
        self._end_step()
        if not self._steps:
            raise RuntimeError(
                "Recorder: nothing was recorded. A step counts when the model that was given is "
                "itself called, inside the `with` block, in training mode and with gradients; call "
                "neither a part of it, nor a compiled version of it, instead"
            )
        if name in self.silent:
            raise RuntimeError(
                f"Recorder: layer {name!r} was called in none of the {len(self._steps)} recorded "
                "passes; the model may have a path around it, or call its function instead"
            )
        if name not in self._rows:
            raise KeyError(
                f"Recorder: layer {name!r} was not recorded; {', '.join(self._rows)} are"
            )
        rows = np.stack(self._rows[name]).astype(float)
        module = self._modules[name.split("#")[0]]
        return LayerHistory(
            steps=np.array(self._steps),
            kind=_kind(module),
            type_name=type(module).__name__,
            input=_distribution(rows[:, _INPUT]),
            output=_distribution(rows[:, _OUTPUT]),
            gradient=_distribution(rows[:, _GRADIENT]),
            gradient_median=rows[:, _MEDIAN],
            gradient_top=rows[:, _TOP],
            saturated=rows[:, _SATURATED],
            dead=rows[:, _DEAD],
        )

    def parameter(self, name: str) -> ParameterHistory:
        """What was recorded of one parameter. Look between steps, after the optimizer's.

        Args:
            name: one of `parameters`.

        Raises:
            KeyError: a parameter that was not recorded.
        """
        self._end_step()
        if name not in self._norms:
            raise KeyError(
                f"Recorder: parameter {name!r} was not recorded; "
                f"{', '.join(self._norms) or 'none'} are"
            )
        rows = np.stack(self._norms[name]).astype(float)
        return ParameterHistory(np.array(self._steps), norm=rows[:, 0], update=rows[:, 1])

    def state_dict(self) -> dict[str, Any]:
        """All that was recorded, to be saved by `torch.save` with a checkpoint of the run.

        Call it between steps, after the optimizer's. A run that is killed, loads its checkpoint
        into a new recorder of the same settings and goes on, ends with what an uninterrupted run
        would have recorded.

        Returns:
            Numbers, strings, lists and tensors.
        """
        self._end_step()
        return {
            "layers": list(self._modules),
            "max_records": self._max_records,
            "passes_per_step": self._passes_per_step,
            "every": self._every,
            "passes": self._passes,
            "steps": list(self._steps),
            "rows": {name: torch.from_numpy(np.stack(r)) for name, r in self._rows.items()},
            "norms": {name: torch.from_numpy(np.stack(r)) for name, r in self._norms.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned; what this recorder holds so far is forgotten.

        Args:
            state: of a recorder with the same layers, `max_records` and `passes_per_step`.

        Raises:
            ValueError: it is no such state, or the other recorder was made with other settings.
        """
        mine = self.state_dict()
        if missing := [part for part in mine if part not in state]:
            raise ValueError(
                f"Recorder.load_state_dict: the state has no {', '.join(missing)}; give what "
                "`state_dict` of a recorder returned"
            )
        for setting in ("layers", "max_records", "passes_per_step"):
            if state[setting] != mine[setting]:
                raise ValueError(
                    f"Recorder.load_state_dict: the state was saved with {setting} = "
                    f"{state[setting]}, this recorder has {mine[setting]}; make it with the same"
                )
        self._every = state["every"]
        self._passes = state["passes"]
        self._steps = list(state["steps"])
        self._rows = {name: list(rows.cpu().numpy().copy()) for name, rows in state["rows"].items()}
        self._norms = {
            name: list(rows.cpu().numpy().copy()) for name, rows in state["norms"].items()
        }

    # ---- A pass through the model ---------------------------------------------------------

    def _before_pass(self, _module: nn.Module, _inputs: tuple[Any, ...]) -> None:
        # While torch.compile traces the original of a compiled model, there is nothing to see.
        if torch.compiler.is_compiling():
            return
        if not (self._model.training and torch.is_grad_enabled()) or self._calls:
            return
        step, part = divmod(self._passes, self._passes_per_step)
        self._passes += 1
        if part:
            return
        if self._samples or self._step_open:
            self._end_step()
        if step % self._every == 0 and len(self._steps) == self._max_records:
            self._thin()
        if step % self._every == 0:
            self._record(step)

    def _record(self, step: int) -> None:
        if torch._C._functorch.peek_interpreter_stack() is not None:
            raise RuntimeError(
                "Recorder: the model is called inside a transform of torch.func (vmap, grad), "
                "where values cannot be read; record one network in a plain training loop"
            )
        self._steps.append(step)
        for rows in self._rows.values():
            rows.append(_nothing(_ROW))
        for rows in self._norms.values():
            rows.append(_nothing(2))
        self._calls = dict.fromkeys(self._modules, 0)
        # Before anything else, so that a pass that fails is cleaned up after.
        after = self._root.register_forward_hook(self._after_pass, always_call=True)
        self._pass.callback(after.remove)
        self._pass.enter_context(_uncompiled(self._root))
        for name, module in self._modules.items():
            for hook in (
                module.register_forward_pre_hook(self._entering(name), with_kwargs=True),
                module.register_forward_hook(self._leaving(name)),
            ):
                self._pass.callback(hook.remove)

    def _after_pass(self, _module: nn.Module, _inputs: tuple[Any, ...], _output: Any) -> None:
        self._end_pass()
        # Not earlier: a lazy layer has its parameters from its first call on.
        for name, parameter in self._parameters():
            if not nn.parameter.is_lazy(parameter):
                # The same memory each time: to ask for new costs more than to copy.
                before = self._before.get(name)
                if before is None or _place(before) != _place(parameter):
                    before = torch.empty_like(parameter, requires_grad=False)
                    self._before[name] = before
                    self._norms.setdefault(name, [_nothing(2) for _ in self._steps])
                before.copy_(parameter.detach())
        self._step_open = True

    def _end_pass(self) -> None:
        self._pass.close()
        self._calls = {}
        self._last = None

    @torch.no_grad()
    def _end_step(self) -> None:
        """Summarise what the recorded step showed, and measure what it did to the parameters."""
        with np.errstate(all="ignore"):  # a network that diverges has all there is
            _summarise(self._samples)
        self._samples.clear()
        if not self._step_open:
            return
        self._step_open = False
        norms: dict[str, list[Tensor]] = {}
        for name, parameter in self._parameters():
            before = self._before.get(name)
            if before is not None and _place(before) == _place(parameter):
                norms[name] = [_norm(before), _norm(before.sub_(parameter))]
        if norms:
            values = torch.stack([v.float() for pair in norms.values() for v in pair])
            for name, pair in zip(norms, values.view(-1, 2).cpu().numpy(), strict=True):
                self._norms[name][-1] = pair

    def _parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, parameter in self._model.named_parameters():
            yield name.replace("_orig_mod.", ""), parameter

    def _thin(self) -> None:
        """Keep every second record."""
        self._every *= 2
        self._steps = self._steps[::2]
        for kept in (self._rows, self._norms):
            for name, rows in kept.items():
                kept[name] = rows[::2]

    # ---- One layer in a recorded pass ---------------------------------------------------------

    def _entering(self, name: str) -> Callable[..., None]:
        curve = self._curves[name]

        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._calls[name] += 1
            row = self._row(name)
            entered = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), None)
            if row is None or entered is None:
                return self._refuse(name, "takes", args) if entered is None else None
            last = self._last
            if last is not None and last[0] is entered and last[1] == entered._version:
                sample = last[2]  # it is what the layer before returned
            else:
                sample = self._look(entered)
            sample.into.append((row, _INPUT))
            if curve.interval is not None:
                sample.steep.append((row, curve.interval))

        return hook

    def _leaving(self, name: str) -> Callable[..., None]:
        curve = self._curves[name]

        def hook(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
            row = self._row(name)
            if row is None or not isinstance(output, Tensor):
                return None if row is None else self._refuse(name, "returns", output)
            sample = self._look(output)
            sample.into.append((row, _OUTPUT))
            self._last = (output, output._version, sample)
            if curve.has_zeros and output.dim() > 0:
                row[_DEAD] = self._dead(name, output)
            if output.requires_grad:
                output.register_hook(lambda gradient: self._arriving(row, gradient))

        return hook

    def _arriving(self, row: Array, gradient: Tensor) -> None:
        sample = self._look(gradient)
        sample.into.append((row, _GRADIENT))
        sample.sizes.append(row)

    def _look(self, tensor: Tensor) -> "_Sample":
        self._samples.append(_sample(tensor))
        return self._samples[-1]

    def _row(self, name: str) -> Array | None:
        """The present record of a layer, in its present call; None if there are too many calls."""
        call = self._calls[name]
        if call > MAX_CALLS:
            return None
        key = name if call == 1 else f"{name}#{call}"
        if key not in self._rows:
            self._rows[key] = [_nothing(_ROW) for _ in self._steps]
        return self._rows[key][-1]

    def _refuse(self, name: str, does: str, given: Any) -> None:
        if self._named:  # a layer that was not asked for is left out
            raise TypeError(
                f"Recorder: layer {name!r} {does} {_describe(given)}; only layers that take and "
                "return tensors can be recorded. Name others, for example one inside it"
            )

    def _dead(self, name: str, output: Tensor) -> float:
        axis = self._unit_axis
        if axis is None:
            axis = self._axes.get(output.dim(), 1)
        if output.dim() == 1:  # one example
            output, axis = output[None], 1
        if not -output.dim() <= axis < output.dim():
            raise ValueError(
                f"Recorder: unit_axis is {axis}, and layer {name!r} returns {output.dim()} axes; "
                "leave it out or choose an axis that every recorded layer has"
            )
        others = [a for a in range(output.dim()) if a != axis % output.dim()]
        # Of a network that diverged it cannot be told, nor of no examples.
        if output.isnan().any() or not output.numel():
            return math.nan
        return 1 - (output.detach() != 0).any(dim=others).float().mean().item()


class EvaluationRecorder:
    """Percentiles of every unit, over the examples of evaluation passes, of what enters layers.

    A context manager. Inside it, forward passes without gradient are seen, and `take` turns what
    was seen into one record; passes with gradient, the training ones, are not looked at. Outside,
    the model is as it was: no hook stays behind, also after an exception::

        with EvaluationRecorder(model, ["sigmoid3"]) as recorder:
            for step in ...:
                predict(model, images)
                recorder.take(step)
        recorder.percentiles("sigmoid3")    # (records, 3, units)

    What has entered is copied and held until it is taken, so take after each evaluation. Examples
    are counted once for each call of a layer, so name layers that a pass calls once.

    Args:
        model: any module.
        layers: names as in `model.named_modules()`.
        q: percentiles, each in [0, 100]; by default the 15th, 50th and 85th.

    Raises:
        ValueError: a layer that the model does not have, or q is no such list.
        RuntimeError: a compiled model.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[str], q: Sequence[float] = PERCENTILES
    ) -> None:
        _refuse_compiled("EvaluationRecorder", model)
        self._modules = _find("EvaluationRecorder", model, layers)
        percents = np.asarray(q, dtype=float)
        if percents.ndim != 1 or not ((percents >= 0) & (percents <= 100)).all():
            raise ValueError(
                f"EvaluationRecorder: q is {q}; give a list of percentiles, each in [0, 100], as "
                f"{list(PERCENTILES)}"
            )
        self._q = tuple(q)
        self._handles: list[RemovableHandle] = []
        self._seen: dict[str, list[Tensor]] = {name: [] for name in layers}
        self._records: dict[str, list[Array]] = {name: [] for name in layers}
        self.steps: list[int] = []

    def __enter__(self) -> "EvaluationRecorder":
        if self._handles:
            raise RuntimeError(
                "EvaluationRecorder: already recording; leave its `with` block first"
            )
        for name, module in self._modules.items():
            hook = module.register_forward_pre_hook(self._hook(name), with_kwargs=True)
            self._handles.append(hook)
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
                    f"EvaluationRecorder.take: nothing entered {name!r} since the last take; run "
                    "the model without gradient inside the `with` block first"
                )
        for name, seen in self._seen.items():
            self._records[name].append(np.percentile(self._values(name), self._q, axis=0))
            seen.clear()
        self.steps.append(step)

    def entered(self, layer: str) -> Array:
        """What entered one layer since the last `take`, without gradient: (examples, units).

        Raises:
            RuntimeError: no forward pass has gone through it.
            KeyError: a layer that was not chosen.
        """
        self._check_chosen(layer)
        if not self._seen[layer]:
            raise RuntimeError(
                f"EvaluationRecorder.entered: nothing entered {layer!r} since the last take; run "
                "the model without gradient inside the `with` block first"
            )
        return self._values(layer)

    def percentiles(self, layer: str) -> Array:
        """The records of one layer: (records, percentiles, units).

        Raises:
            RuntimeError: nothing was taken.
            KeyError: a layer that was not chosen.
        """
        self._check_chosen(layer)
        if not self.steps:
            raise RuntimeError("EvaluationRecorder.percentiles: no record; call `take` first")
        return np.stack(self._records[layer])

    def _values(self, layer: str) -> Array:
        values: Array = (
            torch.cat([part.flatten(1) for part in self._seen[layer]]).double().cpu().numpy()
        )
        return values

    def _check_chosen(self, layer: str) -> None:
        if layer not in self._records:
            raise KeyError(
                f"EvaluationRecorder: layer {layer!r} was not recorded; "
                f"{', '.join(self._records)} are"
            )

    def _hook(self, name: str) -> Callable[..., None]:
        def keep(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not torch.is_grad_enabled():
                entered = _first_argument("EvaluationRecorder", name, args, kwargs)
                self._seen[name].append(entered.detach().clone())

        return keep


def counts(values: Array, edges: ArrayLike) -> NDArray[np.int64]:
    """How many of each unit's values lie between which edges.

    Args:
        values: (examples, units).
        edges: (bins + 1,), evenly spaced, ascending. A value on an edge is in the bin above it.
            The first and the last bin are open: what lies beyond them, or on the last edge, is
            counted in them.

    Returns:
        (bins, units); each column sums to the number of examples, less those that are NaN.

    Raises:
        ValueError: values are not of two axes, or there are fewer than 2 edges, or they are not
            ascending and evenly spaced.
    """
    edges = np.asarray(edges, dtype=float)
    spacing = np.diff(np.atleast_1d(edges))
    if edges.ndim != 1 or len(edges) < 2 or spacing[0] <= 0 or not np.allclose(spacing, spacing[0]):
        raise ValueError(
            f"counts: edges are {edges}; give at least 2, ascending and evenly spaced, as "
            "np.linspace(-4, 4, 33) does"
        )
    if values.ndim != 2:
        raise ValueError(
            f"counts: values have shape {values.shape}; they must be (examples, units)"
        )
    bins, units = len(spacing), values.shape[1]
    place = (np.searchsorted(edges, values, "right") - 1).clip(0, bins - 1)
    place = np.where(np.isnan(values), bins, place)  # NaN: a bin more, left out below
    flat = np.bincount((place * units + np.arange(units)).ravel(), minlength=(bins + 1) * units)
    return flat.reshape(bins + 1, units)[:bins]


def movement(percentiles: Array, steps: Sequence[int]) -> Array:
    """How much each unit's distribution moved during training, in units of its own width.

    For each unit, the standard deviation over training time of each percentile, averaged over the
    percentiles, divided by the time average of the width (highest minus lowest percentile). A unit
    whose distribution stands still has 0; one whose whole distribution wanders with a standard
    deviation as large as its width has 1. Averages over time are by the trapezoid rule, so records
    may be closer together at the start.

    Args:
        percentiles: (records, percentiles, units), ascending along the second axis.
        steps: (records,), ascending.

    Returns:
        (units,), not negative; NaN or infinite for a unit that never had a width.

    Raises:
        ValueError: fewer than 2 records, as many steps as records are not given, or steps that do
            not ascend.
    """
    if len(percentiles) < 2 or len(percentiles) != len(steps):
        raise ValueError(
            f"movement: {len(percentiles)} records for {len(steps)} steps; give at least 2 records "
            "and one step for each"
        )
    mean, std = _over_time(percentiles, steps)
    with np.errstate(divide="ignore", invalid="ignore"):
        moved: Array = std.mean(0) / (mean[-1] - mean[0])
    return moved


def shift(before: Array, after: Array) -> Array:
    """How far each unit's distribution is from what it was, in units of its own width.

    For each unit, the Wasserstein distance between the values before and after, which in one
    dimension is the mean distance between values of the same rank, divided by the mean of the two
    widths (85th percentile minus 15th). 0 if the values are the same, in whatever order; for a
    normal distribution that keeps its spread, the displacement over 2.07 standard deviations. It
    does not change when both are replaced by k x + c, k not 0, nor when they trade places.

    Args:
        before: (examples, units).
        after: (examples, units), as many.

    Returns:
        (units,), not negative; NaN or infinite for a unit that has no width.

    Raises:
        ValueError: shapes that differ or have other than two axes.
    """
    if before.shape != after.shape or before.ndim != 2:
        raise ValueError(
            f"shift: before has shape {before.shape} and after {after.shape}; give both as "
            "(examples, units), with the same examples"
        )
    one, other = np.sort(before.T), np.sort(after.T)  # each unit's values, ascending
    distance = np.abs(other - one).mean(1, dtype=float)
    ends = np.stack([_percentiles(each, PERCENTILES) for each in (one, other)])
    with np.errstate(divide="ignore", invalid="ignore"):
        moved: Array = distance / (ends[:, :, -1] - ends[:, :, 0]).mean(0)
    return moved


def entering(model: nn.Module, images: Tensor, layers: Sequence[str]) -> dict[str, Array]:
    """What enters layers when examples go through a model once, in evaluation mode.

    Args:
        model: any module that is not compiled; each module's mode is restored afterwards.
        images: (n, ...), all of them go through at once.
        layers: names as in `model.named_modules()`, at least one; each is called once in a pass.

    Returns:
        For each layer its first argument, flattened from the second axis on, (n, values), of its
        own type, but of float32 for bfloat16.

    Raises:
        ValueError: no layer, or one that the model does not have.
        RuntimeError: a compiled model, or a layer that the pass called never or more than once.
        TypeError: a layer whose first argument is no tensor.
    """
    with torch.no_grad(), _evaluated(model), _Pass("entering", model, layers) as seen:
        model(images)
    return {
        name: (x.float() if x.dtype == torch.bfloat16 else x).flatten(1).cpu().numpy()
        for name, x in seen.inputs.items()
    }


def skewness(x: Tensor) -> Tensor:
    """Third standardized moment of each feature over a batch, mean((x - mu)^3) / var^(3/2).

    0 for a symmetric distribution, 2 for an exponential one. Nothing is corrected for bias.

    Args:
        x: (m, ...), floating point; the first axis, of at least one, is averaged over.

    Returns:
        Of the other axes' shape and of x's type, float32 for a narrower one; NaN for a feature
        that is constant.

    Raises:
        ValueError: x is not of such a shape and type.
    """
    return _standardized_moment(x, 3)


def kurtosis(x: Tensor) -> Tensor:
    """Fourth standardized moment of each feature over a batch, mean((x - mu)^4) / var^2.

    3 for a normal distribution, 9 for an exponential one; 1, its least, for two values that are
    equally frequent. Nothing is corrected for bias, and 3 is not subtracted.

    Args:
        x: as for `skewness`.

    Returns:
        As `skewness`.

    Raises:
        ValueError: as `skewness`.
    """
    return _standardized_moment(x, 4)


def _standardized_moment(x: Tensor, power: int) -> Tensor:
    name = {3: "skewness", 4: "kurtosis"}[power]
    if not x.is_floating_point() or x.dim() < 1 or len(x) < 1:
        raise ValueError(
            f"{name}: x has shape {tuple(x.shape)} and type {x.dtype}; it must be (m, ...), with m "
            "at least 1, and floating point"
        )
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    deviation = x - x.mean(0)
    # Divided by a power of two near the largest, which rounds nothing, so that no power overflows.
    largest = deviation.abs().amax(0)
    deviation = deviation / (largest / (2 * torch.frexp(largest).mantissa))
    moment = (deviation**power).mean(0) / deviation.square().mean(0) ** (power / 2)
    return torch.where(x.amax(0) == x.amin(0), torch.nan, moment)


def _over_time(values: Array, steps: Sequence[int]) -> tuple[Array, Array]:
    """Mean and standard deviation over time, by the trapezoid rule.

    A record stands for half the time to the record before and half the time to the one after, and
    the first and the last have a neighbour on one side only.
    """
    intervals = np.diff(np.asarray(steps, dtype=float))
    if not (intervals > 0).all():
        at = int(np.argmin(intervals))
        raise ValueError(
            f"movement: step {steps[at]} is followed by step {steps[at + 1]}; steps must ascend"
        )
    weights = (np.append(intervals, 0) + np.insert(intervals, 0, 0)) / 2
    mean = np.average(values, axis=0, weights=weights)
    return mean, np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights))


@dataclass(frozen=True)
class Passage:
    """What a gradient meets on its way back through a row of nonlinearities, example by example.

    Attributes:
        inputs: for each nonlinearity (m, units), what entered it.
        slopes: for each (m, units), its derivative there.
        arriving: (m,) norm of the gradient of an example's loss with respect to what leaves the
            last nonlinearity.
        left: (m,) norm of its gradient with respect to what enters the first.
    """

    inputs: tuple[Tensor, ...]
    slopes: tuple[Tensor, ...]
    arriving: Tensor
    left: Tensor

    @property
    def survival(self) -> Tensor:
        """(m,) the part of an example's gradient that passes, `left` over `arriving`."""
        return self.left / self.arriving

    @property
    def path_mean(self) -> Tensor:
        """(m,) the product of the slopes along a path, averaged over all paths.

        A path takes one unit of each layer. Which unit it takes in one layer does not depend on
        which it takes in another, so the mean of the products is the product of the means.
        """
        means = torch.stack([slope.mean(1) for slope in self.slopes])
        return means.prod(0)


def passage(model: nn.Module, images: Tensor, labels: Tensor, layers: Sequence[str]) -> Passage:
    """Send examples through a model, and the gradient of each one's cross-entropy back.

    The model is evaluated, so that no example's loss depends on another example, and each of its
    modules is put back into the mode that it was in. Small gradients need float64: use
    `model.double()`.

    Args:
        model: maps images to class scores (m, classes).
        images: (m, ...), of the model's type.
        labels: (m,), int64.
        layers: names of the nonlinearities in the order in which they are called; at least one.
            Each takes and returns a tensor (m, units), once in a pass, and maps each value by
            itself.

    Raises:
        ValueError: no layer, or one that the model does not have; another order; or what enters
            one is not (m, units).
        RuntimeError: a compiled model; a layer that the pass called never or more than once; or
            one that no gradient arrives at.
        TypeError: a layer whose first argument is no tensor.
    """
    with torch.enable_grad(), _evaluated(model):
        with _Pass("passage", model, layers) as seen:
            scores = model(_with_gradient(images))
        loss = nn.functional.cross_entropy(scores, labels, reduction="sum")
        left, arriving = seen.gradients(loss, entering=layers[:1], leaving=layers[-1:])
    if list(seen.inputs) != list(layers):
        raise ValueError(
            f"passage: layers are {list(layers)}; name each once, in the order in which they are "
            f"called: {list(seen.inputs)}"
        )
    for name, x in seen.inputs.items():
        if x.dim() != 2:
            raise ValueError(
                f"passage: what enters layer {name!r} has shape {tuple(x.shape)}; it must be "
                "(m, units)"
            )
    return Passage(
        inputs=tuple(seen.inputs.values()),
        slopes=tuple(value_and_slope(seen.modules[name], x)[1] for name, x in seen.inputs.items()),
        arriving=torch.linalg.vector_norm(arriving, dim=1),
        left=torch.linalg.vector_norm(left, dim=1),
    )


def layer_jacobians(model: nn.Sequential, images: Tensor, nonlinearity: str) -> Tensor:
    """Jacobians of one layer, example by example, between what normalizations put out.

    The layer is a nonlinearity g and the linear layer after it. Where a batch normalization stands
    in front of each, its Jacobian is that of the next normalized values by these, with statistics
    held fixed: diag(1 / s) W diag(g'(y) gamma). Here y = gamma x_hat + beta is what enters g, and s
    the root of running variance plus eps of the second normalization. Where none stands, gamma and
    s are 1: it is the Jacobian of the next pre-activations by these.

    Args:
        model: its layers in the order in which they are called. It is evaluated, in inference mode:
            the running statistics must fit its weights, see `bn_core.surgery.recalibrate`.
        images: (m, ...).
        nonlinearity: name of g in `model`. It maps each value by itself; an `nn.Linear` follows.

    Returns:
        (m, outputs, inputs), of the type of the weights.

    Raises:
        ValueError: the model has no such layer, or has it inside a block; no linear layer comes
            after it; or a normalization beside them is not a batch normalization of `bn_core` or
            torch, or has no running statistics or no gamma.
        RuntimeError: a compiled model, or the layer is called more than once.

    Source: Ioffe & Szegedy (2015), section 3.3.
    """
    module = _find("layer_jacobians", model, [nonlinearity])[nonlinearity]
    layers = list(model.children())
    if module not in layers:
        raise ValueError(
            f"layer_jacobians: {nonlinearity!r} is inside a block; the model must have its layers "
            "one after the other, in a single nn.Sequential"
        )
    at = layers.index(module)
    linear = layers[at + 1] if at + 1 < len(layers) else None
    if not isinstance(linear, nn.Linear):
        raise ValueError(
            f"layer_jacobians: after {nonlinearity!r} comes {linear}; it must be an nn.Linear"
        )
    entered = torch.as_tensor(entering(model, images, [nonlinearity])[nonlinearity])
    slopes = value_and_slope(module, entered.to(linear.weight))[1]
    jacobians = linear.weight.detach() * slopes.unsqueeze(1)
    before = layers[at - 1] if at > 0 else None
    after = layers[at + 2] if at + 2 < len(layers) else None
    for norm in (before, after):
        if norm is not None and _kind(norm) == "normalization" and not isinstance(norm, _NORMS):
            raise ValueError(
                f"layer_jacobians: the Jacobian of {norm} beside {nonlinearity!r} is not known; "
                "put bn_core's BatchNorm1d or nn.BatchNorm1d there, or leave it out"
            )
        if isinstance(norm, _NORMS) and (norm.running_var is None or norm.weight is None):
            raise ValueError(
                f"layer_jacobians: {norm} beside {nonlinearity!r} has no running statistics or no "
                "gamma; build it with affine=True and track_running_stats=True"
            )
    if isinstance(before, _NORMS):
        assert before.weight is not None
        jacobians = jacobians * before.weight.detach()
    if isinstance(after, _NORMS):
        assert after.running_var is not None
        jacobians = jacobians / (after.running_var + after.eps).sqrt().unsqueeze(1)
    return jacobians


_NORMS = (BatchNorm, nn.BatchNorm1d)  # those whose Jacobian `layer_jacobians` knows


def gaussian_share_beyond(edge: float, std: ArrayLike) -> Array:
    """The share of a centred normal distribution that is farther than an edge from 0.

    P(x > c or x < -c) = 2 (1 - Phi(c / s)) = erfc(c / (s sqrt(2))), since the two tails are alike.

    Args:
        edge: c, not negative.
        std: s, any shape, positive.

    Returns:
        Of std's shape, in [0, 1].

    Raises:
        ValueError: edge is negative, or a standard deviation is not positive.
    """
    s = torch.as_tensor(np.asarray(std, dtype=float))
    if not edge >= 0:
        raise ValueError(f"gaussian_share_beyond: edge is {edge}; it must not be negative")
    if not (s > 0).all():
        raise ValueError(
            f"gaussian_share_beyond: std has the value {s.min().item()}; all must be positive"
        )
    share: Array = torch.erfc(edge / (s * math.sqrt(2))).numpy()
    return share


# ---- The gradient that arrives at a normalization -------------------------------------------


@dataclass(frozen=True)
class Arrival:
    """What arrives at one layer: from below on the way forth, from above on the way back.

    Attributes:
        input: what the layer was given, without gradient.
        gradient: of the loss with respect to what it returned, of that output's shape.
    """

    input: Tensor
    gradient: Tensor


def arrivals(
    model: nn.Module, layers: Sequence[str], images: Tensor, labels: Tensor
) -> dict[str, Arrival]:
    """Send one mini-batch forth and the gradient of its mean cross-entropy back, and look.

    A copy of the model does both passes, in the mode that the model is in: neither its parameters'
    `grad` nor its running statistics change.

    Args:
        model: maps images to class scores (m, classes).
        layers: names as in `model.named_modules()`; each takes and returns one tensor, once a pass.
        images: (m, ...).
        labels: (m,), int64.

    Returns:
        One for each layer, in the order given.

    Raises:
        ValueError: no layer, or one that the model does not have.
        RuntimeError: a compiled model; a layer that the pass called never or more than once; or
            one that no gradient arrives at.
        TypeError: a layer whose first argument is no tensor.
    """
    model = copy.deepcopy(model)
    with torch.enable_grad():
        with _Pass("arrivals", model, layers) as seen:
            scores = model(_with_gradient(images))
        loss = nn.functional.cross_entropy(scores, labels)
        gradients = seen.gradients(loss, leaving=layers)
    return {
        name: Arrival(seen.inputs[name], gradient)
        for name, gradient in zip(layers, gradients, strict=True)
    }


def split_gradient(x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split the gradient that arrives at a normalization along the directions it takes off.

    Per channel, dy is a vector of m numbers. One part lies along the vector of ones, one along
    x_hat, and the rest is orthogonal to both. But for eps, batch normalization's backward pass
    sends on the rest, times gamma / sqrt(var + eps), and nothing of the other two.

    Args:
        x: what enters the normalization, (m, d) or (m, d, ...).
        dy: gradient of the loss with respect to its output, of x's shape.

    Returns:
        The parts along 1, along x_hat, and the rest, each of x's shape, and of float32 where x or
        dy is narrower; they sum to dy. In a channel whose x does not vary there is no direction
        x_hat, and that part is 0.

    Raises:
        ValueError: x has fewer than 2 axes, dy has another shape than x, or one of them is not
            floating point.
    """
    if x.dim() < 2 or x.shape != dy.shape or not (x.is_floating_point() and dy.is_floating_point()):
        raise ValueError(
            f"split_gradient: x has shape {tuple(x.shape)} and dy {tuple(dy.shape)}, of {x.dtype} "
            f"and {dy.dtype}; they must be equal, (m, d) or (m, d, ...), and floating point"
        )
    x, dy = (t.to(torch.promote_types(t.dtype, torch.float32)) for t in (x, dy))
    axes = [axis for axis in range(x.dim()) if axis != 1]
    deviations = x - x.mean(axes, keepdim=True)
    deviations = deviations - deviations.mean(axes, keepdim=True)  # where the mean was rounded
    squares = deviations.square().sum(axes, keepdim=True)
    varies = x.amax(axes, keepdim=True) > x.amin(axes, keepdim=True)
    along_ones = dy.mean(axes, keepdim=True).expand_as(dy)
    slope = (dy * deviations).sum(axes, keepdim=True) / squares
    along_x_hat = deviations * torch.where(varies, slope, 0)
    return along_ones, along_x_hat, dy - along_ones - along_x_hat


@torch.no_grad()
def among_mates(
    model: nn.Module,
    example: Tensor,
    others: Tensor,
    batch_size: int,
    draws: int,
    generator: torch.Generator,
) -> Tensor:
    """Class scores of one example, in training mode, among mates drawn anew each time.

    Args:
        model: maps (m, ...) to (m, classes); it stays as it is.
        example: one, without the axis of a batch.
        others: (n, ...), from which mates are drawn, each independently of the rest; at least one.
        batch_size: m, the example included; at least 2.
        draws: how many batches, at least 1.
        generator: source of the mates.

    Returns:
        (draws, classes). In evaluation mode all rows would be equal.

    Raises:
        ValueError: batch_size or draws is out of range, or others are not examples like this one.
    """
    if batch_size < 2:
        raise ValueError(
            f"among_mates: batch_size is {batch_size}; it must be at least 2, the example and one "
            "mate"
        )
    if draws < 1 or not len(others) or others.shape[1:] != example.shape:
        raise ValueError(
            f"among_mates: draws is {draws}, example has shape {tuple(example.shape)} and others "
            f"{tuple(others.shape)}; give at least 1 draw, an example without the axis of a batch, "
            "and at least one other of its shape"
        )
    model = copy.deepcopy(model).train()
    scores = []
    for _ in range(draws):
        mates = torch.randint(len(others), (batch_size - 1,), generator=generator)
        batch = torch.cat([example[None], others[mates]])
        scores.append(model(batch)[0])
    return torch.stack(scores)


def split_weight_gradient(given: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Split the gradient of a linear layer's weights into a common and a differing part.

    With u_i what the layer was given for example i, and delta_i the gradient of the loss with
    respect to what it returned, the weights' gradient is the sum of delta_i u_i^T. That is m times
    the product of the means, which would be there if all examples were alike, plus the sum of
    (delta_i - mean)(u_i - mean)^T, which is 0 then: the cross terms cancel.

    Args:
        given: u, (m, ...), flattened to (m, inputs).
        gradient: delta, (m, outputs).

    Returns:
        The common part and the differing part, each (outputs, inputs); their sum is the gradient.

    Raises:
        ValueError: the two are not of equally many examples, or gradient is not (m, outputs).
    """
    if gradient.dim() != 2 or len(given) != len(gradient):
        raise ValueError(
            f"split_weight_gradient: given has shape {tuple(given.shape)} and gradient "
            f"{tuple(gradient.shape)}; they must be (m, ...) and (m, outputs), of the same examples"
        )
    u = given.flatten(1)
    u_mean, delta_mean = u.mean(0), gradient.mean(0)
    common = len(u) * torch.outer(delta_mean, u_mean)
    return common, (gradient - delta_mean).T @ (u - u_mean)


def share_between_examples(x: Tensor) -> Tensor:
    """The part r of each feature map's variance that lies between examples.

    The variance over the examples of a map's mean, over the variance of all its values. With n
    positions in a map, r is 1/n where positions are independent of each other and equal in mean,
    and 1 where they are equal. A mini-batch of m independent examples has the variance
    (1 - r/m) sigma^2 on average, so it counts as m/r independent values.

    Args:
        x: all examples, (m, d, ...); m at least 2.

    Returns:
        (d,), in [0, 1], float64; NaN for a channel whose values are all equal.

    Raises:
        ValueError: x is not of such a shape, or holds fewer than two examples.
    """
    if x.dim() < 2 or len(x) < 2:
        raise ValueError(
            f"share_between_examples: x has shape {tuple(x.shape)}; it must be (m, d, ...), with m "
            "at least 2"
        )
    values = x.detach().double().reshape(*x.shape[:2], -1)
    means = values.mean(2)
    return means.var(0, correction=0) / values.var((0, 2), correction=0)


# ---- Layers of a model ------------------------------------------------------------------------


def _original(model: nn.Module) -> nn.Module:
    """The module that a compiled one was made from, or the module itself."""
    return getattr(model, "_orig_mod", model)


def _is_compiled(module: nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or module._compiled_call_impl is not None


def _uncompiled(model: nn.Module) -> AbstractContextManager[Any]:
    """A context in which compiled parts of the model run as they were before compilation."""
    if not any(_is_compiled(module) for module in model.modules()):
        return ExitStack()
    if not hasattr(torch.compiler, "set_stance"):
        raise RuntimeError(
            f"Recorder: recording a compiled model needs torch 2.6, and this is torch "
            f"{torch.__version__}; give the model that went into torch.compile, and train that one"
        )
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


def _names(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """All names of all modules in a model, without the part that torch.compile inserts."""
    for name, module in model.named_modules(remove_duplicate=False):
        if name and not hasattr(module, "_orig_mod"):
            yield name.replace("_orig_mod.", "").removesuffix("._orig_mod"), module


def _refuse_compiled(who: str, model: nn.Module) -> None:
    if any(_is_compiled(module) for module in model.modules()):
        raise RuntimeError(
            f"{who}: the model is compiled, which hides its layers; give the model that went into "
            "torch.compile, and evaluate that one"
        )


def _find(who: str, model: nn.Module, layers: Sequence[str]) -> dict[str, nn.Module]:
    modules = dict(_names(model))
    if isinstance(layers, str):
        raise ValueError(f"{who}: layers is the string {layers!r}; give a list, [{layers!r}]")
    for name in layers:
        if name not in modules:
            raise ValueError(
                f"{who}: the model has no layer {name!r}; it has {', '.join(modules) or 'none'}"
            )
    return {name: modules[name] for name in layers}


def _choose(model: nn.Module) -> dict[str, nn.Module]:
    """The layers to record when none are named."""
    leaves: dict[nn.Module, str] = {}
    for name, module in _names(model):
        if not any(True for _ in module.children()) and "parametrizations" not in name:
            leaves.setdefault(module, name)
    seen = any(_kind(module) == "nonlinearity" for module in leaves)
    return {
        name: module
        for module, name in leaves.items()
        if _kind(module) != "other" or (not seen and isinstance(module, _WEIGHTED))
    }


def _kind(module: nn.Module) -> Kind:
    if isinstance(module, _NONLINEAR):
        return "nonlinearity"
    # By its name: networks bring normalizations of their own.
    return "normalization" if "norm" in type(module).__name__.lower() else "other"


@dataclass(frozen=True)
class _Curve:
    """What a function of one variable looks like: where it is steep, whether it is 0 somewhere."""

    interval: tuple[float, float] | None = None
    has_zeros: bool = False


def _curve(module: nn.Module) -> _Curve:
    if not isinstance(module, _ELEMENTWISE):
        return _Curve()
    below = value_and_slope(module, torch.tensor([-8.0, -6.0, -4.0], dtype=torch.float64))[0]
    return _Curve(steep_interval(module), has_zeros=not below.any().item())


def steep_interval(
    activation: Callable[[Tensor], Tensor], share: float = SATURATED
) -> tuple[float, float] | None:
    """Where a function's derivative is at least a share of its maximum; outside, it is saturated.

    The derivative's absolute value counts, so that a function may fall.

    Args:
        activation: maps each value of a tensor by itself; looked at between -20 and 20.
        share: of the largest derivative, in (0, 1); by default 0.1.

    Returns:
        The lowest and the highest such value, or None if the derivative does not fall below the
        share on both sides. With a share of 0.1, -3.637 and 3.637 for the sigmoid, -1.818 and
        1.818 for tanh.

    Raises:
        ValueError: share is out of range.
    """
    if not 0 < share < 1:
        raise ValueError(f"steep_interval: share is {share}; it must be in (0, 1)")
    x = torch.linspace(-20, 20, 4001, dtype=torch.float64, device="cpu")
    slope = value_and_slope(activation, x)[1].abs()
    enough = share * slope.max()
    steep = (slope >= enough).nonzero().flatten().tolist()
    if not steep or steep[0] == 0 or steep[-1] == len(x) - 1:
        return None
    low, high = x[steep[0]].item(), x[steep[-1]].item()
    spacing = 0.01
    for _ in range(3):  # each time 100 times finer
        fine = torch.linspace(0, spacing, 101, dtype=torch.float64, device="cpu")
        for outwards in (-1, 1):
            start = low if outwards < 0 else high
            is_steep = value_and_slope(activation, start + outwards * fine)[1].abs() >= enough
            reach = fine[: int(is_steep.long().cumprod(0).sum())]  # to where it first is not
            edge = start + outwards * (reach[-1].item() if len(reach) else 0.0)
            low, high = (edge, high) if outwards < 0 else (low, edge)
        spacing /= 100
    return low, high


def value_and_slope(activation: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """A function of one variable, and its derivative by autograd, at each value of x.

    Args:
        activation: maps each value of a tensor by itself: a function, or a module, whose hooks are
            not called.
        x: any shape, floating-point.

    Returns:
        The values and the derivatives, of x's shape.

    Raises:
        ValueError: x is not floating point, or the function returns another shape.
    """
    if not x.is_floating_point():
        raise ValueError(f"value_and_slope: x is of {x.dtype}; it must be floating point")
    # The clone may be overwritten, as nn.ReLU(inplace=True) does.
    function = activation.forward if isinstance(activation, nn.Module) else activation
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = function(x.clone())
        if not isinstance(y, Tensor) or y.shape != x.shape:
            returned = tuple(y.shape) if isinstance(y, Tensor) else _describe(y)
            raise ValueError(
                f"value_and_slope: of x of shape {tuple(x.shape)} the function makes {returned}; "
                "it must map each value by itself"
            )
        if not y.requires_grad:  # a constant
            return y, torch.zeros_like(x, requires_grad=False)
        (slope,) = torch.autograd.grad(y.sum(), x, materialize_grads=True)
    return y.detach(), slope


# ---- One pass through a model -----------------------------------------------------------------


class _Pass:
    """What layers are given in one pass, and where the gradients arrive at them.

    A context manager: inside it, run the model once. What a layer is given may be overwritten
    later, so it is copied when the layer is called. Of a gradient, the place in the graph is kept
    at which it arrives: it stays that of the tensor as it was then.

    Attributes:
        modules: the layers, by name.
        inputs: for each layer, in the order of the calls, its first argument without gradient.

    Raises:
        ValueError: no layer, or one that the model does not have.
        RuntimeError: a compiled model; at the end, a layer that was not called; and in the pass,
            one that is called again.
        TypeError: in the pass, a layer whose first argument is no tensor.
    """

    def __init__(self, who: str, model: nn.Module, layers: Sequence[str]) -> None:
        _refuse_compiled(who, model)
        self.modules = _find(who, model, layers)
        if not self.modules:
            raise ValueError(f"{who}: layers is empty; name at least one")
        self._who = who
        self.inputs: dict[str, Tensor] = {}
        self._entrances: dict[str, _End] = {}
        self._exits: dict[str, _End] = {}
        self._hooks = ExitStack()

    def __enter__(self) -> "_Pass":
        for name, module in self.modules.items():
            for hook in (
                module.register_forward_pre_hook(self._entering(name), with_kwargs=True),
                module.register_forward_hook(self._leaving(name)),
            ):
                self._hooks.callback(hook.remove)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._hooks.close()
        for name in self.modules:
            if error is None and name not in self.inputs:
                raise RuntimeError(
                    f"{self._who}: the pass did not call layer {name!r}; leave it out"
                )

    def gradients(
        self, loss: Tensor, *, entering: Sequence[str] = (), leaving: Sequence[str] = ()
    ) -> Sequence[Tensor]:
        """Of a loss, with respect to what entered layers, and then to what left others.

        Raises:
            RuntimeError: no gradient arrives there.
        """
        names = [*entering, *leaving]
        ends = [self._entrances[n] for n in entering] + [self._exits[n] for n in leaving]
        found: Sequence[Any] = [end.edge() for end in ends]
        if loss.requires_grad and None not in found:
            found = torch.autograd.grad(loss, found, allow_unused=True)
        for name, gradient in zip(names, found, strict=True):
            if gradient is None or not loss.requires_grad:
                raise RuntimeError(
                    f"{self._who}: no gradient of the loss arrives at layer {name!r}; what it "
                    "returns is no tensor, is detached or not used, or is a view that a later "
                    "layer overwrites in place"
                )
        return found

    def _entering(self, name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if name in self.inputs:
                raise RuntimeError(
                    f"{self._who}: layer {name!r} is called more than once in a pass; give each "
                    "call a module of its own"
                )
            entered = _first_argument(self._who, name, args, kwargs)
            self.inputs[name] = entered.detach().clone()
            self._entrances[name] = _End(entered)

        return hook

    def _leaving(self, name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
            self._exits[name] = _End(output)

        return hook


class _End:
    """Where in the graph the gradient with respect to a value, as it is now, arrives."""

    def __init__(self, value: Any) -> None:
        self._edge: GradientEdge | None = None
        self._view: tuple[Tensor, int] | None = None
        if isinstance(value, Tensor) and value.requires_grad:
            self._edge = get_gradient_edge(value)
            if value._is_view():
                self._view = value, value._version

    def edge(self) -> GradientEdge | None:
        """None if no gradient arrives, or not all of it: that of a view, if it was overwritten."""
        if self._view is not None and self._view[0]._version != self._view[1]:
            return None
        return self._edge


def _first_argument(
    who: str, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Tensor:
    given = (*args, *kwargs.values())
    if not given or not isinstance(given[0], Tensor):
        raise TypeError(
            f"{who}: layer {name!r} takes {_describe(given)}; only layers whose first argument is "
            "a tensor can be recorded"
        )
    return given[0]


def _with_gradient(images: Tensor) -> Tensor:
    """A copy that gradients arrive at, so that they do in a network of frozen parameters too."""
    if images.is_floating_point() or images.is_complex():
        return images.detach().requires_grad_().clone()
    return images


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """A context in which a model is evaluated; then each module's mode is as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


# ---- Summaries of a tensor --------------------------------------------------------------------


@dataclass(frozen=True)
class _Sample:
    """Values of a tensor, to be summarised with others of their number at the end of the step.

    Attributes:
        values: (n,) at most `SAMPLE` values of the tensor, in any order.
        mean: of all its values.
        std: of all its values.
        into: rows that the summary belongs into, and where in them.
        steep: rows that the saturated share belongs into, and the interval outside of which it is.
        sizes: rows that the percentiles of the absolute values belong into.
    """

    values: Array
    mean: float
    std: float
    into: list[tuple[Array, slice]] = field(default_factory=list)
    steep: list[tuple[Array, tuple[float, float]]] = field(default_factory=list)
    sizes: list[Array] = field(default_factory=list)


def _sample(tensor: Tensor) -> _Sample:
    with torch.no_grad():
        flat = tensor.detach().reshape(-1)
        if flat.dtype not in (torch.float32, torch.float64):
            flat = flat.float()
        n = flat.numel()
        # Not torch.var_mean, which takes several times as long.
        mean = flat.mean()
        std = torch.linalg.vector_norm(flat - mean).item() / math.sqrt(max(n, 1))
        if n > SAMPLE:
            flat = flat.index_select(0, _places(n).to(flat.device))
            return _Sample(flat.cpu().numpy(), mean.item(), std)
        return _Sample(flat.cpu().numpy().copy(), mean.item(), std)


def _summarise(samples: Sequence[_Sample]) -> None:
    """Fill the rows that the samples belong into."""
    alike: dict[tuple[int, Any], list[_Sample]] = {}
    for sample in samples:
        if np.isfinite(sample.values).all() and len(sample.values):
            alike.setdefault((len(sample.values), sample.values.dtype), []).append(sample)
        else:
            _summarise_alike([sample], np.sort(sample.values[~np.isnan(sample.values)])[None])
    for group in alike.values():
        _summarise_alike(group, np.sort(np.stack([sample.values for sample in group]), axis=1))


def _summarise_alike(samples: Sequence[_Sample], ascending: Array) -> None:
    """The same for samples of one size: (samples, values), ascending along the second axis."""
    summaries = np.full((len(samples), _DISTRIBUTION), np.nan)
    summaries[:, 0] = [sample.mean for sample in samples]
    summaries[:, 1] = [sample.std for sample in samples]
    if ascending.size:
        summaries[:, _FAN] = _percentiles(ascending, FAN)
        finite = ascending
        if not np.isfinite(ascending).all():  # then there is one sample
            finite = ascending[np.isfinite(ascending)][None]
        if finite.size:
            summaries[:, _RANGE], summaries[:, _SHARES] = _histograms(finite)
    for sample, values, summary in zip(samples, ascending, summaries, strict=True):
        for row, part in sample.into:
            row[part] = summary
        for row, (low, high) in sample.steep:
            inside = values.searchsorted(high, "right") - values.searchsorted(low)
            row[_SATURATED] = 1 - inside / len(values) if len(values) else np.nan
    of_size = [i for i, sample in enumerate(samples) if sample.sizes]
    if of_size and ascending.size:
        sizes = _percentiles(np.sort(np.abs(ascending[of_size]), axis=1), (50.0, 99.0))
        for i, (median, top) in zip(of_size, sizes, strict=True):
            for row in samples[i].sizes:
                row[_MEDIAN], row[_TOP] = median, top


def _percentiles(ascending: Array, q: Sequence[float]) -> Array:
    """Percentiles of each row of ascending values, interpolated as `numpy.percentile` does."""
    if not ascending.shape[1]:
        raise ValueError("no values to take percentiles of; give at least one example")
    position = np.array(q) / 100 * (ascending.shape[1] - 1)
    below = position.astype(int)
    part = position - below
    low = ascending[:, below]
    high = ascending[:, np.minimum(below + 1, ascending.shape[1] - 1)]
    result: Array = np.where(part > 0, low + part * (high - low), low)
    return result


def _histograms(ascending: Array) -> tuple[Array, Array]:
    """Lowest and highest value (rows, 2) and the shares of the bins between (rows, BINS)."""
    ends = ascending[:, [0, -1]].astype(float)
    inner = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * _INNER_EDGES
    below = np.zeros((len(ascending), BINS + 1))  # the share of values below each edge
    for values, edges, share in zip(ascending, inner.astype(ascending.dtype), below, strict=True):
        share[1:-1] = values.searchsorted(edges)
    below[:, 1:-1] /= ascending.shape[1]
    below[:, -1] = 1
    return ends, np.diff(below, axis=1)


def _norm(tensor: Tensor) -> Tensor:
    precise = torch.promote_types(tensor.dtype, torch.float32)
    norm: Tensor = torch.linalg.vector_norm(tensor, dtype=precise)
    return norm


def _place(tensor: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return tensor.shape, tensor.dtype, tensor.device


@lru_cache(maxsize=64)
def _places(n: int) -> Tensor:
    """2,048 of n places: one at random in each of as many equal parts, always the same."""
    generator = torch.Generator().manual_seed(0)
    inside = torch.rand(SAMPLE, generator=generator, dtype=torch.float64)
    return ((torch.arange(SAMPLE) + inside) * (n / SAMPLE)).long().clamp(max=n - 1)


def _nothing(width: int) -> Array:
    return np.full(width, np.nan, dtype=np.float32)


def _distribution(rows: Array) -> Distribution:
    low, high = np.split(rows[:, _RANGE], 2, axis=1)
    with np.errstate(invalid="ignore"):  # from or to infinity there are no edges
        edges = low + (high - low) * np.linspace(0, 1, BINS + 1)
    return Distribution(
        mean=rows[:, 0],
        std=rows[:, 1],
        percentiles=rows[:, _FAN],
        shares=rows[:, _SHARES],
        edges=edges,
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral)


def _describe(value: Any) -> str:
    """What something is, in words, for an error."""
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {', '.join(type(v).__name__ for v in value) or 'none'}"
    return f"a {type(value).__name__}"
