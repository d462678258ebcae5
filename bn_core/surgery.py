"""Operations on whole models: population statistics, recalibration, folding and conversion.

Algorithm 2 turns a trained network into an inference network. Its first half, the population
statistics of every batch normalization, is `population_statistics`; `recalibrate` writes them into
the model. Its second half, y = scale * x + shift with both numbers fixed, is an affine map, and
`fold` merges it into the layer before. `convert` exchanges normalization layers for others.

Every function returns something new and leaves the model it is given as it was, unless its name
ends in `_`. What it works on is a deep copy, so hooks of the model come along and run. Layers are
found where modules find them, among the submodules, not in plain lists.

A batch is a tensor, or a tuple or list whose first entry is one, such as (images, labels); that
tensor is what the model is called with. A model with several inputs needs a module around it that
takes one.
"""

import contextlib
import copy
import functools
import itertools
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm as _TorchBatchNorm
from torch.nn.parameter import is_lazy

from bn_core import layers as _ours
from bn_core.layers import BatchNorm as _OurBatchNorm

Batch = Tensor | Sequence[Any]

# What counts as batch normalization: torch's layers and ours, with their subclasses.
_BatchNorm = _TorchBatchNorm | _OurBatchNorm | _ours.BatchRenorm
# The forwards known to compute, in evaluation mode, one affine map per channel.
_KNOWN_FORWARDS = tuple(kind.forward for kind in (*get_args(_BatchNorm), nn.SyncBatchNorm))
# What it can be folded into.
_Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
_Foldable = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | _Transposed


class PopulationStatistics(NamedTuple):
    """Mean and variance of what enters one normalization layer, over all the data."""

    mean: Tensor
    """The mean, (d,), float64."""
    var: Tensor
    """The variance, (d,), float64; it divides by m."""
    m: int
    """Number of values per channel, which is examples times positions."""


class Folded(NamedTuple):
    """What `fold` did."""

    model: nn.Module
    """The folded copy, in evaluation mode."""
    folded: dict[str, str]
    """For the name of each batch normalization that is gone, that of the layer it went into."""
    kept: dict[str, str]
    """For the name of each that is still there, calls of `F.batch_norm` included, the reason."""


def population_statistics(
    model: nn.Module, batches: Iterable[Batch]
) -> dict[str, PopulationStatistics]:
    """Exact population statistics of every batch normalization, for the network of Algorithm 2.

    What enters a layer depends on what the normalizations before it do. Here they do what they
    will do in the end: they use the population statistics that were found for them. So the layers
    are taken in the order in which they run, with one pass over the data for each, after one that
    finds the order. Everything is in evaluation mode, Dropout included.

    Batches are combined by the law of total variance, in float64: the variance of the whole is the
    mean of the batches' variances plus the variance of their means, each batch weighted by its
    number of values. The result is that of all the data in one batch, however they are cut.

    The data are taken to be the population, so the variance divides by their number m. To take
    them for a sample of something larger, use `bn_core.population_variance(var, m)`.

    Args:
        model: any module with batch normalizations, torch's or ours. Each may run once in a
            forward pass.
        batches: the data, of any batch sizes, on the model's device: a list, a `DataLoader`, or
            anything else that can be gone through several times and gives the same examples each
            time, in any order. A loader that shuffles and drops the last batch does not.

    Returns:
        The statistics by name of layer, in the order in which the layers run. A layer that does
        not run in evaluation mode is not among them.

    Raises:
        TypeError: batches is an iterator such as a generator, which can be gone through once, or a
            tensor; or a batch is neither a tensor nor a sequence that starts with one.
        ValueError: the model has no batch normalization, or has lazy layers or tensors on the meta
            device; there are no examples, a layer runs twice in a forward pass, the order of the
            layers or the number of examples changes, or what enters a layer is not finite.

    Source: Ioffe & Szegedy (2015), Algorithm 2, lines 7 to 10. The paper averages over mini-batches
    of one size, in the network that still normalizes with each batch's own statistics; this is
    the population of the network that line 11 makes.
    """
    return _population("population_statistics", model, batches)[0]


def recalibrate(model: nn.Module, batches: Iterable[Batch]) -> nn.Module:
    """Copy the model, with population statistics for running statistics.

    Args:
        model: as for `population_statistics`; every batch normalization keeps running statistics.
        batches: as for `population_statistics`.

    Returns:
        A copy, each module in the mode it was in. Its `num_batches_tracked` is the number of
        batches, as after `torch.optim.swa_utils.update_bn`. A layer that does not run keeps its
        statistics, and a warning names it.

    Raises:
        TypeError: as `population_statistics`.
        ValueError: as `population_statistics`; or a layer keeps no running statistics, or they do
            not fit into its floating-point type.

    Source: Ioffe & Szegedy (2015), Algorithm 2, lines 7 to 10.
    """
    return _recalibrate("recalibrate", copy.deepcopy(model), batches)


def recalibrate_(model: nn.Module, batches: Iterable[Batch]) -> nn.Module:
    """Replace the model's running statistics by population statistics.

    Nothing is written before everything has been computed: after an error the model is as it was.

    Args:
        model: as for `recalibrate`.
        batches: as for `population_statistics`.

    Returns:
        The model itself.

    Raises:
        TypeError: as `population_statistics`.
        ValueError: as `recalibrate`.
    """
    return _recalibrate("recalibrate_", model, batches)


@torch.no_grad()
def fold(model: nn.Module, example: Batch) -> Folded:
    """Fold each batch normalization into the linear layer or convolution before it.

    In inference batch normalization is y = scale * x + shift per channel. If x = W u + b, then
    y = (scale W) u + (scale b + shift): a layer of the same kind. It takes the place of the first
    one, and an `nn.Identity` that of the normalization, so names, tree and class of the model stay.
    A layer without a bias gets one. The new numbers are computed in float64 and rounded once.

    A normalization is folded if that changes nothing but rounding: it has fixed statistics; what
    enters it is the output of one Linear, Conv1d/2d/3d or ConvTranspose1d/2d/3d, which nothing else
    uses; both run once; its channels are that layer's outputs, not another axis of the same length;
    and the forward pass reads nothing of it that an identity has not, such as its num_features.
    Otherwise it stays, with the reason in `kept`. A layer between the two, even Dropout, prevents
    folding; only `nn.Identity` does not.

    Args:
        model: any module that `torch.fx` can trace. Parts of it that have no batch normalization
            in them need not be traceable. What `torch.compile` made is folded as it was before;
            compile the result.
        example: a batch of one example or more, of the shape that the model is meant for. The
            model is run on it, for the shapes inside.

    Returns:
        The folded copy, and what became of each normalization. The copy is in evaluation mode and
        meant for inference. To train on, use the model that was folded.

    Raises:
        TypeError: example is neither a tensor nor a sequence that starts with one.
        ValueError: `torch.fx` cannot trace the model; the model has lazy layers, tensors on the
            meta device or, in a part made by `torch.jit`, batch normalization; or its forward pass
            reaches a normalization past the module tree, through a plain list, say.

    Source: Ioffe & Szegedy (2015), Algorithm 2, line 11: the two numbers per channel.
    """
    _refuse_without_values("fold", model)
    _refuse_scripted("fold", model)
    x = _input_of("fold", "example", example)
    read: dict[str, str] = {}
    while True:
        result, found = _fold(model, x, read)
        if not found:
            return result
        read |= found


def convert(
    model: nn.Module,
    factory: Callable[[Any], nn.Module | None],
    kinds: type[nn.Module] | tuple[type[nn.Module], ...] | None = None,
) -> nn.Module:
    """Copy the model, with other layers in the place of its normalization layers.

    For example `convert(model, lambda old: nn.GroupNorm(8, old.num_features))`. To exchange
    torch's layers for ours of the same name, or back, with all their state, pass `from_torch` or
    `to_torch`.

    Args:
        model: any module; if it is itself of one of the kinds, the result is its replacement.
        factory: called with each layer, once even if the layer has several places in the model.
            What it returns takes the layer's place; with None the layer stays. It may use the
            layer's parameters and buffers, which are those of the copy.
        kinds: classes whose instances are replaced, subclasses included. Without it, batch
            normalization of every kind, torch's or ours.

    Returns:
        The copy. A new layer has the mode of the old one, its device and its floating-point type,
        or the model's where the old one has no tensors; hooks of the old layer are not carried
        over. With `from_torch` or `to_torch` parameters that were shared still are.

    Raises:
        TypeError: the factory is no function or returns neither a module nor None, or kinds are
            not classes.
        ValueError: the model has no layer of these kinds.
        Exception: what the factory raises, with a note that names the layer.
    """
    if not callable(factory) or isinstance(factory, nn.Module):
        raise TypeError(
            f"convert: factory is {_a(factory)}; it must be a function of the old layer that "
            "returns the new one, such as from_torch or lambda old: nn.Identity()"
        )
    for function in (from_torch, to_torch):
        if factory is function:  # what it makes may have the copy's own parameters
            factory = functools.partial(_twin, function.__name__, share=True)
    searched = get_args(_BatchNorm) if kinds is None else kinds
    holder = nn.Sequential(copy.deepcopy(model))
    new: dict[nn.Module, nn.Module] = {}
    try:
        places = [(name, m) for name, m in holder.named_modules() if isinstance(m, searched)]
    except TypeError:
        raise TypeError(
            f"convert: kinds is {kinds!r}; it must be a class of modules, or a tuple of them"
        ) from None
    if not places:
        what = "batch normalization" if kinds is None else f"layer of kinds {kinds}"
        raise ValueError(
            f"convert: {type(model).__name__} has no {what} among its modules; pass the classes "
            "that are to be replaced as kinds"
        )
    for name, old in places:
        try:
            replacement = factory(old)
        except Exception as error:
            error.add_note(f"convert: the factory was given {_called(_plain(name))}")
            raise
        if replacement is None or replacement is old:
            continue
        if not isinstance(replacement, nn.Module):
            raise TypeError(
                f"convert: factory returned {_a(replacement)} for {_called(_plain(name))}; it must "
                "return a module, or None to leave the layer"
            )
        new[old] = _in_place_of(old, replacement, holder)
    _replace(holder, new)
    return holder[0]


def from_torch(layer: nn.Module) -> nn.Module:
    """Make our layer from torch's of the same name, a factory for `convert`.

    Args:
        layer: a layer of torch.nn of which there is one here under the same name; or a layer of
            ours, which is returned as it is.

    Returns:
        Our layer, with copies of the parameters and buffers, and in the same mode.

    Raises:
        TypeError: there is no counterpart; subclasses have none.
        ValueError: our layer refuses an argument that torch's takes: an eps of 0, or a momentum
            outside [0, 1].
    """
    return _twin("from_torch", layer)


def to_torch(layer: nn.Module) -> nn.Module:
    """Make torch's layer from ours of the same name, a factory for `convert`.

    Args:
        layer: a layer of ours of which torch.nn has one under the same name; or a layer of
            torch's, which is returned as it is.

    Returns:
        torch's layer, with copies of the parameters and buffers, and in the same mode.

    Raises:
        TypeError: there is no counterpart; subclasses have none.
    """
    return _twin("to_torch", layer)


# Population statistics


@torch.no_grad()
def _population(
    function: str, model: nn.Module, batches: Iterable[Batch]
) -> tuple[dict[str, PopulationStatistics], int]:
    """Return the statistics by name of layer, and the number of batches."""
    _refuse_one_shot(function, batches)
    _refuse_without_values(function, model)
    inference = copy.deepcopy(model).eval()
    norms = _batch_norms(inference)
    if not norms:
        raise ValueError(
            f"{function}: {type(model).__name__} has no batch normalization, torch's or ours, "
            "among its modules; there is nothing to find statistics for"
        )
    pattern = _floating(inference)
    if pattern is None:  # none has a type of its own; they compute in that of the data
        first = next((x for _, x in _inputs(function, batches)), torch.empty(0))
        pattern = first if first.is_floating_point() else torch.empty(0)
    for name, norm in norms.items():
        # Anything finite would do; what the layers held may come from a diverged training.
        d = norm.num_features
        start = PopulationStatistics(torch.zeros(d), torch.ones(d), 1)
        _write(function, name, norm, start, pattern)

    order, examples, number = _order_of_execution(function, inference, norms, batches)
    found = {}
    for name in order:
        found[name] = _statistics_of_input(function, inference, name, batches, examples)
        _write(function, name, norms[name], found[name], pattern)
    return found, number


def _order_of_execution(
    function: str, model: nn.Module, norms: dict[str, _BatchNorm], batches: Iterable[Batch]
) -> tuple[list[str], int, int]:
    """Return the names of the layers as they run, and the number of examples and of batches."""
    order: list[str] | None = None
    examples = number = 0
    ran: list[str] = []
    hooks = [
        norm.register_forward_pre_hook(lambda _module, _inputs, name=name: ran.append(name))
        for name, norm in norms.items()
    ]
    for i, x in _inputs(function, batches):
        ran.clear()
        model(x)
        number += 1
        examples += _examples(x)
        for name, runs in Counter(ran).items():
            if runs > 1:
                raise ValueError(
                    f"{function}: {_called(name)} runs {runs} times in one forward pass, so its "
                    "statistics would depend on themselves; give each place a layer of its own"
                )
        if order is not None and ran != order:
            raise ValueError(
                f"{function}: batch {i} ran the layers {ran}, earlier batches ran {order}; the "
                "layers that run and their order must be the same for all batches"
            )
        order = list(ran)
    for hook in hooks:
        hook.remove()
    if order is None:
        raise ValueError(f"{function}: batches has no examples; pass at least one batch of one")
    return order, examples, number


class _Reached(BaseException):  # not an error, and not for `except Exception`
    """The forward pass has come to the layer in question; the rest of it is not needed."""


def _statistics_of_input(
    function: str, model: nn.Module, name: str, batches: Iterable[Batch], examples: int
) -> PopulationStatistics:
    """Go through the data once for the statistics of what enters one layer."""
    seen: list[Tensor] = []

    def stop(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(next(iter((*args, *kwargs.values()))))
        raise _Reached

    total: PopulationStatistics | None = None
    hook = model.get_submodule(name).register_forward_pre_hook(stop, with_kwargs=True)
    again = 0
    for i, x in _inputs(function, batches):
        again += _examples(x)
        with contextlib.suppress(_Reached):
            model(x)
        if not seen:
            raise ValueError(
                f"{function}: batch {i} does not run {_called(name)} any more, now that the layers "
                "before it have population statistics; which layers run must not depend on values"
            )
        part = _statistics(seen.pop())
        if not (part.mean.isfinite().all() and part.var.isfinite().all()):
            raise ValueError(
                f"{function}: what enters {_called(name)} has NaN or infinite values in batch "
                f"{i}; check the data and the weights"
            )
        total = part if total is None else _combine(total, part)
    hook.remove()
    if total is None or again != examples:
        raise ValueError(
            f"{function}: batches gave {examples} examples the first time and {again} the next; it "
            "must give the same ones each time, so pass a list or a loader without random drops"
        )
    return total


def _statistics(x: Tensor) -> PopulationStatistics:
    """Mean and variance per channel, axis 1, in float64."""
    batch = [axis for axis in range(x.dim()) if axis != 1]
    x = x.to(torch.float64)
    mean = x.mean(batch, keepdim=True)
    var = (x - mean).square().mean(batch)
    return PopulationStatistics(mean.flatten(), var, x.numel() // x.shape[1])


def _combine(a: PopulationStatistics, b: PopulationStatistics) -> PopulationStatistics:
    """Law of total variance for two parts: the mean of the variances + the variance of the means.

    With shares 1 - w and w of the values. Chan, Golub & LeVeque (1979) have the same in sums.
    """
    m = a.m + b.m
    w = b.m / m
    apart = b.mean - a.mean
    return PopulationStatistics(
        mean=a.mean + w * apart,
        var=(1 - w) * a.var + w * b.var + w * (1 - w) * apart.square(),
        m=m,
    )


def _recalibrate(function: str, model: nn.Module, batches: Iterable[Batch]) -> nn.Module:
    norms = _batch_norms(model)
    without = [name for name, norm in norms.items() if not _has_running_statistics(norm)]
    if without:
        raise ValueError(
            f"{function}: the layers {without} keep no running statistics "
            "(track_running_stats=False) to replace; `population_statistics` returns theirs"
        )
    found, number = _population(function, model, batches)
    for name, statistics in found.items():
        _write(function, name, norms[name], statistics)
        count = norms[name].num_batches_tracked
        if isinstance(count, Tensor):
            count.fill_(number)
    idle = [name for name in norms if name not in found]
    if idle:
        warnings.warn(
            f"{function}: the layers {idle} do not run in evaluation mode; they keep their "
            "running statistics",
            stacklevel=3,
        )
    return model


@torch.no_grad()
def _write(
    function: str,
    name: str,
    norm: _BatchNorm,
    statistics: PopulationStatistics,
    otherwise: Tensor | None = None,
) -> None:
    """Give a layer running statistics, in its own type, `otherwise` the type of that tensor."""
    mean, var, _ = statistics
    new_values = {"running_mean": mean, _buffer_of_spread(norm): var}
    if isinstance(norm, _ours.BatchRenorm):
        new_values["running_std"] = torch.sqrt(var + norm.eps)
    for buffer, value in new_values.items():
        old = getattr(norm, buffer)
        pattern = next(t for t in (old, *norm.parameters(), otherwise) if t is not None)
        new = value.to(pattern)
        if not new.isfinite().all():
            raise ValueError(
                f"{function}: the population statistics of {_called(name)} do not fit into "
                f"{pattern.dtype}, the type of its {buffer}; use model.float() or model.double()"
            )
        if old is None:
            setattr(norm, buffer, new)
        else:
            old.copy_(new)


# Folding


class _Gone(nn.Identity):
    """In the place of a normalization folded away, as a probe for what a forward reads of it."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norms = [norm]  # in a list it is no submodule
        self.read: list[str] = []

    def __getattr__(self, name: str) -> Any:  # called for what an identity has not
        if hasattr(self.norms[0], name):
            self.read.append(name)
        return super().__getattr__(name)


def _fold(model: nn.Module, x: Tensor, read: Mapping[str, str]) -> tuple[Folded, dict[str, str]]:
    """Fold all but the normalizations in `read`, and say what forwards read of those folded.

    Both are by name of layer. If something was read, the result is of no use.
    """
    # In a Sequential the model itself has a place in the tree too, and is called with x alone.
    holder = nn.Sequential(copy.deepcopy(model)).eval()
    compiled = [module for module in holder.modules() if "_orig_mod" in module._modules]
    _replace(holder, {module: module.get_submodule("_orig_mod") for module in compiled})
    flow = _Dataflow(holder, x)
    folded: dict[str, str] = {}
    kept: dict[str, str] = {}
    gone: dict[nn.Module, _Gone] = {}
    for norm in flow.norms:
        name = flow.name[norm]
        layer: _Foldable | str = flow.layer_before(norm)
        if name in read:
            layer = f"has its {read[name]} read by the forward pass"
        if not isinstance(layer, str):
            layer = _merge(layer, norm) or layer
        if isinstance(layer, str):
            kept[name] = layer
        else:
            folded[name] = flow.name[layer]
            flow.gone.add(norm)
            gone[norm] = _Gone(norm)
    _replace(holder, gone)
    try:
        runs, _ = _run(holder, x, gone)
    except Exception:  # whatever a forward raises when it misses an attribute
        if not any(probe.read for probe in gone.values()):
            raise
        runs = Counter()
    for module, number in runs.items():
        if number:
            raise ValueError(
                f"fold: the forward of {type(model).__name__} calls {_called(flow.name[module])} "
                "through a reference that is not a submodule, such as a plain list, where it "
                "cannot be replaced; call it as self.name or keep it in an nn.ModuleList"
            )
    for node in flow.graph.nodes:
        if node.target in (torch.batch_norm, nn.functional.batch_norm):
            kept[f"{node.name} (function)"] = "is a function call, not a module"
    found = {flow.name[norm]: probe.read[0] for norm, probe in gone.items() if probe.read}
    _replace(holder, {probe: nn.Identity().eval() for probe in gone.values()})
    return Folded(holder[0], folded, kept), found


class _Tracer(fx.Tracer):
    """Traces down to layers: torch's, ours, and all that `fold` looks for, subclasses too.

    With `opaque` also every module without a batch normalization inside is taken as a whole.
    """

    def __init__(self, opaque: bool) -> None:
        super().__init__()
        self.opaque = opaque

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return (
            isinstance(m, _BatchNorm | _Foldable)
            or type(m).__module__ == _ours.__name__
            or super().is_leaf_module(m, module_qualified_name)
            or (self.opaque and not _batch_norms(m))
        )


class _Dataflow:
    """What `fold` has to know of a model: who feeds whom, how often, and in what shape."""

    def __init__(self, holder: nn.Sequential, x: Tensor) -> None:
        self.name = {module: _plain(name) for name, module in holder.named_modules()}
        watched: list[nn.Module] = [m for m in self.name if isinstance(m, _BatchNorm | _Foldable)]
        self.runs, self.shape = _run(holder, x, watched)
        self.graph = _trace(holder)
        self.module: dict[fx.Node, nn.Module] = {}
        self.calls: dict[nn.Module, list[fx.Node]] = {}
        self.users: dict[Tensor, list[str]] = {}
        for module in holder.modules():
            for parameter in module.parameters(recurse=False):
                self.users.setdefault(parameter, []).append(_called(self.name[module]))
        for node in self.graph.nodes:
            if node.op == "call_module":
                self.module[node] = module = holder.get_submodule(node.target)
                self.calls.setdefault(module, []).append(node)
            elif node.op == "get_attr":
                owner, _, attribute = node.target.rpartition(".")
                value = getattr(holder.get_submodule(owner), attribute)
                self.users.setdefault(value, []).append("a forward that reads it")
        # In the order in which they run, then those of which no call was seen.
        modules = dict.fromkeys((*self.calls, *watched))
        self.norms = [module for module in modules if isinstance(module, _BatchNorm)]
        # What has been folded away by now.
        self.gone: set[nn.Module] = set()

    def layer_before(self, norm: _BatchNorm) -> _Foldable | str:
        """The layer that `norm` can be folded into, or the reason why there is none."""
        if not _has_running_statistics(norm):
            return "keeps no running statistics, so it has no fixed map"
        if type(norm).forward not in _KNOWN_FORWARDS:
            return f"is {_a(norm)}, with a forward of its own"
        if reason := self._irregular(norm):
            return reason

        node = self.calls[norm][0]
        source = node.all_input_nodes[0]
        while self._is_identity(source) and list(source.users) == [node]:
            node, source = source, source.all_input_nodes[0]
        layer = self.module.get(source)
        if not isinstance(layer, _Foldable):
            return f"follows {self._describe(source)}, not a Linear or a convolution"
        before = _called(self.name[layer])
        if type(layer) not in get_args(_Foldable):
            return f"follows {before}, {_a(layer)}, which may compute something of its own"
        if reason := self._irregular(layer):
            return f"follows {before}, which {reason}"
        others = [self._describe(user) for user in source.users if user is not node]
        if others:
            return f"follows {before}, whose output also goes to {' and '.join(others)}"
        shape = self.shape[norm]
        if len(shape) != layer.weight.dim():
            return (
                f"follows {before}, but its input has shape {tuple(shape)}, in which axis 1 is not "
                f"the axis of that layer's outputs"
            )
        return layer

    def _irregular(self, module: nn.Module) -> str | None:
        """What speaks against a module of a known class, if anything does."""
        if self.runs[module] == 0:
            return "does not run"
        if self.runs[module] > 1 or len(self.calls.get(module, [])) > 1:
            return "runs more than once"
        if module not in self.calls:
            return "runs inside a module that torch.fx does not look into"
        if _has_hooks(module):
            return "has forward hooks or a forward of its own"
        own = (module.named_parameters(recurse=False), module.named_buffers(recurse=False))
        for name, tensor in itertools.chain(*own):
            # A parameter that folding has made is in no list and has no other user.
            users = self.users.get(tensor, [])
            others = [user for user in users if user != _called(self.name[module])]
            if others:
                return f"shares its {name} with {' and '.join(others)}"
        return None

    def _is_identity(self, node: fx.Node) -> bool:
        module = self.module.get(node)
        return module in self.gone or (type(module) is nn.Identity and not _has_hooks(module))

    def _describe(self, node: fx.Node) -> str:
        if node.op == "call_module":
            module = self.module[node]
            return f"{_called(self.name[module])} ({type(module).__name__})"
        if node.op == "call_function":
            return f"the function {getattr(node.target, '__name__', node.target)}"
        if node.op == "call_method":
            return f"the method {node.target}"
        return {"placeholder": "the model's input", "output": "the model's output"}.get(
            node.op, f"the attribute {node.target}"
        )


def _has_hooks(module: nn.Module) -> bool:
    """Whether a call of the module may do something else than its class says."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _trace(holder: nn.Sequential) -> fx.Graph:
    try:
        return _Tracer(opaque=False).trace(holder)
    except Exception:  # whatever a forward raises when it meets a stand-in for a tensor
        try:
            return _Tracer(opaque=True).trace(holder)
        except Exception as error:
            raise ValueError(
                f"fold: torch.fx cannot trace {type(holder[0]).__name__} "
                f"({type(error).__name__}: {error}). Its forward must not decide by the values or "
                "the shape of its input, nor call what does, such as a function of bn_core. Fold "
                "the parts that do not, as in model.part = fold(model.part, input_of_part).model"
            ) from error


def _run(
    holder: nn.Sequential, x: Tensor, modules: Iterable[nn.Module]
) -> tuple[Counter[nn.Module], dict[nn.Module, torch.Size]]:
    """Run the model, and see how often the modules run and what shape enters them."""
    runs = Counter(dict.fromkeys(modules, 0))
    shape: dict[nn.Module, torch.Size] = {}

    def see(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        runs[module] += 1
        shape[module] = next(iter((*args, *kwargs.values()))).shape

    hooks = [module.register_forward_pre_hook(see, with_kwargs=True) for module in runs]
    holder(x)
    for hook in hooks:
        hook.remove()
    return runs, shape


def _merge(layer: _Foldable, norm: _BatchNorm) -> str | None:
    """Put scale * (W u + b) + shift into the layer, or return the reason not to."""
    scale, shift = _inference_map(norm)
    weight, bias = layer.weight.to(torch.float64), layer.bias
    if isinstance(layer, _Transposed):
        # (in, out / groups, ...): group g of the inputs makes group g of the outputs.
        by_group = weight.unflatten(0, (layer.groups, -1))
        per_output = scale.view(layer.groups, 1, -1, *(1,) * (weight.dim() - 2))
        weight = (per_output * by_group).flatten(0, 1)
    else:
        weight = scale.view(-1, *(1,) * (weight.dim() - 1)) * weight
    shift = shift if bias is None else scale * bias + shift
    new_weight, new_bias = weight.to(layer.weight), shift.to(layer.weight)
    if not (new_weight.isfinite().all() and new_bias.isfinite().all()):
        return f"has a map that is not finite in {layer.weight.dtype}, the type of the layer before"
    learn_bias = layer.weight.requires_grad if bias is None else bias.requires_grad
    layer.weight = nn.Parameter(new_weight, layer.weight.requires_grad)
    layer.bias = nn.Parameter(new_bias, learn_bias)
    return None


def _inference_map(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """The scale and shift per channel of evaluation mode, in float64."""
    norm = copy.deepcopy(norm).double()
    if not isinstance(norm, _TorchBatchNorm):
        return norm.inference_map()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    scale = scale if norm.weight is None else norm.weight * scale
    shift = -scale * norm.running_mean
    return scale, shift if norm.bias is None else shift + norm.bias


# Conversion


def _in_place_of(old: nn.Module, new: nn.Module, model: nn.Module) -> nn.Module:
    """Give a layer the mode, the device and the floating-point type of the one it replaces."""
    pattern = _floating(old, model)
    if pattern is not None:
        new = new.to(pattern.device, pattern.dtype)
    return new.train(old.training)


_TORCHS_AND_OURS: tuple[tuple[type[nn.Module], type[nn.Module]], ...] = (
    (nn.BatchNorm1d, _ours.BatchNorm1d),
    (nn.BatchNorm2d, _ours.BatchNorm2d),
    (nn.BatchNorm3d, _ours.BatchNorm3d),
    (nn.GroupNorm, _ours.GroupNorm),
    (nn.LayerNorm, _ours.LayerNorm),
    (nn.RMSNorm, _ours.RMSNorm),
)
# Their constructors' arguments, under the names that both have for them; the tensors say the rest.
_ARGUMENTS = {
    "GroupNorm": ("num_groups", "num_channels", "eps", "affine"),
    "LayerNorm": ("normalized_shape", "eps", "elementwise_affine"),
    "RMSNorm": ("normalized_shape", "eps", "elementwise_affine"),
}
_ARGUMENTS_OF_BATCH_NORM = ("num_features", "eps", "momentum", "affine", "track_running_stats")


# For each factory, what it makes of what, and where that is found.
_FAMILIES = {
    "from_torch": (dict(_TORCHS_AND_OURS), "bn_core"),
    "to_torch": ({ours: torchs for torchs, ours in _TORCHS_AND_OURS}, "torch.nn"),
}


def _twin(function: str, layer: nn.Module, share: bool = False) -> nn.Module:
    """Make the layer of the other family that has the same arguments and the same state.

    The state is a copy, or with `share` the very parameters and buffers.
    """
    table, home = _FAMILIES[function]
    if type(layer) in table.values():
        return layer
    if type(layer) not in table:
        raise TypeError(
            f"{function}: {_a(layer)} has no counterpart in {home}; there is one for "
            f"{', '.join(kind.__name__ for kind in table)}. Write a factory for the others."
        )
    kind = table[type(layer)]
    arguments = _ARGUMENTS.get(kind.__name__, _ARGUMENTS_OF_BATCH_NORM)
    twin = kind(*(getattr(layer, name) for name in arguments))
    for name, parameter in layer._parameters.items():
        if parameter is not None and not share:
            parameter = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
        twin.register_parameter(name, parameter)
    for name, buffer in layer._buffers.items():
        if buffer is not None and not share:
            buffer = buffer.detach().clone()
        persistent = name not in layer._non_persistent_buffers_set
        twin.register_buffer(name, buffer, persistent=persistent)
    return twin.train(layer.training)


# Models, batches, and words for them


def _batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    return {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm)}


def _floating(*modules: nn.Module) -> Tensor | None:
    """The first tensor of floating point that the modules have."""
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                return tensor
    return None


def _has_running_statistics(norm: _BatchNorm) -> bool:
    """Whether evaluation mode uses them; as in torch, the buffers decide, not the flag."""
    spread = getattr(norm, _buffer_of_spread(norm))
    return norm.running_mean is not None and spread is not None


def _buffer_of_spread(norm: _BatchNorm) -> str:
    return "running_std" if isinstance(norm, _ours.BatchRenorm) else "running_var"


def _replace(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> None:
    """Put new modules into every place of the old ones."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and child in new:
                parent.register_module(name, new[child])


def _inputs(function: str, batches: Iterable[Batch]) -> Iterator[tuple[int, Tensor]]:
    """The model's inputs with their place in batches, without batches of no examples."""
    for i, batch in enumerate(batches):
        x = _input_of(function, f"batch {i}", batch)
        if _examples(x) > 0:
            yield i, x


def _input_of(function: str, what: str, batch: Batch) -> Tensor:
    x: Any = batch
    if isinstance(batch, Sequence) and len(batch) > 0:
        x = batch[0]
    if not isinstance(x, Tensor):
        starts = "" if x is batch else f" that starts with {_a(x)}"
        raise TypeError(
            f"{function}: {what} is {_a(batch)}{starts}; it must be a tensor, or a tuple or list "
            "whose first entry is the tensor that the model takes"
        )
    return x


def _examples(x: Tensor) -> int:
    return x.shape[:1].numel()


def _refuse_one_shot(function: str, batches: Iterable[Batch]) -> None:
    """Every layer takes a pass of its own, so an iterator will not do."""
    if isinstance(batches, Tensor):
        raise TypeError(
            f"{function}: batches is a tensor of shape {tuple(batches.shape)}; it must be an "
            "iterable of batches, so pass [x] to make it one batch"
        )
    if isinstance(batches, Iterator):
        raise TypeError(
            f"{function}: batches is {_a(batches)}, which can be gone through only once, and every "
            "layer needs a pass of its own; pass a list, such as list(batches), or a DataLoader"
        )
    if not isinstance(batches, Iterable):
        raise TypeError(
            f"{function}: batches is {_a(batches)}; it must be an iterable of batches, such as a "
            "list of tensors or a DataLoader"
        )


def _refuse_without_values(function: str, model: nn.Module) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(
                f"{function}: {name} of {type(model).__name__} has no shape yet; run the model on "
                "one batch first"
            )
        if tensor.is_meta:
            raise ValueError(
                f"{function}: {name} of {type(model).__name__} is on the meta device and has no "
                "values; load the model's state with assign=True first"
            )


def _refuse_scripted(function: str, model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule) and "BatchNorm" in module.original_name:
            raise ValueError(
                f"{function}: {_called(name)} is a {module.original_name} made by torch.jit, which "
                "does not let it be replaced; fold the model that was scripted or traced"
            )


def _a(thing: object) -> str:
    """The thing's class with its article."""
    name = type(thing).__name__
    return f"{'an' if name[0] in 'AEIOUaeio' else 'a'} {name}"


def _called(name: str) -> str:
    return f"layer '{name}'" if name else "the model itself"


def _plain(name: str) -> str:
    """A name in the Sequential around the model, as the model has it."""
    return name.removeprefix("0").removeprefix(".")
