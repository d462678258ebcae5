"""Several networks of one architecture, trained at once as one batched computation."""

import copy
import operator
import re
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

Tensors = dict[str, Tensor]
Gradients = Sequence[Tensor | None]
Replay = Callable[..., tuple[Tensor, Gradients]]

RECORD_AFTER = 20  # steps; see _Recordings


class Stack(nn.Module):
    """S networks of one architecture whose parameters and buffers lie in one tensor each.

    Every parameter and buffer has a leading axis, the seed axis, of length S; `forward` maps the
    networks over it. The networks stay independent: the gradient of the sum of their losses is, in
    each slice, the gradient of that slice's loss. So an optimizer that treats every number by
    itself, such as SGD with momentum or Adam, is S independent optimizers. One that looks at a
    whole tensor, such as LBFGS or Adafactor, would mix the networks.

    What the networks have in common is looked for in their modules' attributes: numbers, strings,
    tensors, functions, and tuples, lists and dictionaries of them; of other objects the type is
    compared alone, and hooks are taken from the first. Layers that `torch.vmap` cannot map raise
    its RuntimeError in `forward`.

    Args:
        modules: the S networks; at least one. They are copied and stay as they are.

    Raises:
        ValueError: no network; networks that differ in more than the values of their parameters
            and buffers; a recurrent layer of torch, which `torch.vmap` cannot map; or a layer that
            draws from torch's global generator in training, such as `nn.Dropout`, whose draws could
            not be those of a network trained alone: use `bn_core.lab.dropout.Dropout`.
        TypeError: modules is one network, or holds what is none.

    Attributes:
        network: the architecture, holding the stacked tensors. Call the stack, not it; settings of
            its layers, such as `stack.network.norm1.momentum`, hold for all S networks.
    """

    network: nn.Module

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        super().__init__()
        given: object = modules
        if isinstance(given, nn.Module) and not isinstance(given, nn.ModuleList):
            raise TypeError(
                f"Stack: modules is a {type(given).__name__}, one network; give a list of them"
            )
        modules = list(modules)
        if not modules:
            raise ValueError("Stack: modules is empty; give at least one network")
        for module in modules:
            if not isinstance(module, nn.Module):
                raise TypeError(
                    f"Stack: modules holds a {type(module).__name__}; each must be a network, an "
                    "nn.Module"
                )
        _check_layers(modules[0])
        for module in modules[1:]:
            _check_alike(modules[0], module)
        self._size = len(modules)
        named = [_tensors(module) for module in modules]
        # deepcopy takes from `memo` what it finds there: a copy of the first network in which
        # stacked tensors stand for its own.
        memo: dict[int, Any] = {}
        for name, tensor in named[0].items():
            stacked = torch.stack([tensors[name].detach() for tensors in named])
            memo[id(tensor)] = _like(tensor, stacked)
        self.network = copy.deepcopy(modules[0], memo)
        self._recordings = _Recordings()

    def __len__(self) -> int:
        return self._size

    def forward(self, x: Tensor) -> Tensor:
        """Send to each network its own batch.

        Args:
            x: (S, m, ...), the batch of network s at x[s]. `images.expand(S, *images.shape)` sends
                the same batch to all, without a copy.

        Returns:
            (S, m, classes).

        Raises:
            ValueError: x has not S batches.
        """
        self._check_batches("x", x)
        return _scores(self.network, _tensors(self.network), x)

    def backward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of each network, its gradient put into the parameters' `grad`.

        The same as forward, loss, `zero_grad` and backward, but mostly in a fraction of the time:
        after some 20 steps of one kind, the tensor operations of a step are recorded where they can
        be, and from then on replayed without Python. They cannot with convolutions, hooks, or
        attributes of a module that are neither numbers, strings, functions, tensors nor tuples,
        lists and dictionaries of them. A change of an attribute or a module is noticed; one of
        what `forward` takes from elsewhere, such as a global variable, is not.

        Args:
            x: (S, m, ...).
            labels: (S, m), int64, each in [0, classes): none is left out of the mean.

        Returns:
            The losses, (S,), without gradient.

        Raises:
            ValueError: x or labels has not S batches, or a label is no class.
        """
        self._check_batches("x", x)
        self._check_batches("labels", labels)
        try:
            return self._recordings.step(self.network, x, labels)
        except (IndexError, RuntimeError) as e:
            if not re.search(r"Target -?\d+ is out of bounds", str(e)):
                raise
            raise ValueError(
                f"Stack: labels has values from {labels.min()} to {labels.max()}; each must be a "
                "class, in [0, classes)"
            ) from e

    def unstack(self, s: int) -> nn.Module:
        """Network s by itself, an ordinary module for evaluation and probes.

        Its parameters and buffers are views into the stack: it shows what the stack has learned at
        any time, without being unstacked again, and changing it changes the stack. Take a
        `copy.deepcopy` of it for a network that stays as it is, also before pickling or saving it:
        a view takes all of the stack into the file. A later move of the stack to another device or
        type leaves it behind.

        Args:
            s: index of the network, in [-S, S).

        Raises:
            IndexError: s is out of range.
            TypeError: s is not an integer.
        """
        s = operator.index(s)
        if not -self._size <= s < self._size:
            raise IndexError(
                f"Stack.unstack: s is {s}; with {self._size} networks it must be in "
                f"[{-self._size}, {self._size})"
            )
        tensors = _tensors(self.network).values()
        return copy.deepcopy(
            self.network, {id(tensor): _like(tensor, tensor.detach()[s]) for tensor in tensors}
        )

    def extra_repr(self) -> str:
        """How many networks, for printing."""
        return f"{self._size} networks"

    def _check_batches(self, name: str, tensor: Tensor) -> None:
        if tensor.dim() < 2 or len(tensor) != self._size:
            raise ValueError(
                f"Stack: {name} has shape {tuple(tensor.shape)}; with {self._size} networks it "
                f"must be ({self._size}, m, ...), a batch of m for each. Use "
                f"{name}.expand({self._size}, *{name}.shape) to send one batch to all"
            )


class _Recordings:
    """Forward and backward pass of a stack, recorded once and then replayed.

    At eight networks of a hundred units, Python, autograd and vmap take longer to decide what to
    compute than it takes to compute it, and they decide the same thing in every step. So one step
    is run while `_Tape` writes down the elementary tensor operations that come out at the bottom,
    TorchScript makes a list of them that needs no Python to be executed, and later steps execute
    that list on the tensors of the day. They are the operations that would have run anyway, in the
    same order, so the numbers are the same; that is checked before a recording is used.

    A recording knows nothing of Python: it holds while all that decides the operations stays the
    same. That is the `key`: shapes, types, training or evaluation mode, the kinds and names of the
    modules and everything among their attributes. A key is recorded when it has stayed for some
    steps, about as many as a recording costs, so that a setting which changes in every step costs
    nothing. What cannot be recorded, such as a layer with hooks, runs in the ordinary way.
    """

    def __init__(self) -> None:
        self._key: Any = None
        self._seen = 0
        self._replay: Replay | None = None

    def __reduce__(self) -> Any:
        return _Recordings, ()  # a copy of a stack records for itself

    def step(self, network: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        """Losses (S,); trained parameters get their `grad`, and buffers are updated."""
        modules = _modules(network)
        tensors = _own_tensors(modules)
        key = _recording_key(modules, tensors, x, labels)
        if key is None or key != self._key:
            self._key, self._seen, self._replay = key, 0, None
        self._seen += 1
        if self._seen == RECORD_AFTER and key is not None:
            self._replay = _recorded(network, x, labels)
        if self._replay is None:
            losses, gradients = _losses_and_gradients(network, _tensors(network), x, labels)
        else:
            losses, gradients = self._replay(*tensors, x, labels)
        trained = (tensor for tensor in tensors if tensor.requires_grad)
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient
        return losses


def _recorded(network: nn.Module, x: Tensor, labels: Tensor) -> Replay | None:
    """The step as a function of all tensors in a row, or None where it cannot be recorded."""
    tensors = _tensors(network)
    # Recording runs the step, and so does the check: on copies, lest the buffers be updated twice.
    first, second = ([t.detach().clone() for t in (*tensors.values(), x, labels)] for _ in range(2))
    own = {
        name: copied.requires_grad_(tensor.requires_grad)
        for (name, tensor), copied in zip(tensors.items(), first, strict=False)
    }

    @torch.no_grad()
    def replay(*values: Tensor) -> tuple[Tensor, Gradients]:
        losses, *gradients = listed(*values)
        remaining = iter(gradients)
        return losses, [next(remaining) if used else None for used in is_used]

    try:
        with _Tape(first) as tape:
            losses, gradients = _losses_and_gradients(network, own, *first[-2:])
        is_used = [gradient is not None for gradient in gradients]  # by the loss
        listed = tape.listed([losses, *(g for g in gradients if g is not None)], second)
        losses_again, gradients_again = replay(*second)
    except Exception:  # whatever it is: without a recording, the step itself runs, or fails
        return None
    once = [losses, *gradients, *first]
    again = [losses_again, *gradients_again, *second]
    same = all(_same_bits(one, other) for one, other in zip(once, again, strict=True))
    return replay if same else None


class _Tape(TorchDispatchMode):
    """Writes down the operations on tensors that run inside it, below autograd and vmap."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._inputs = inputs
        self._operations: list[tuple[Any, Any, dict[str, Any], Any]] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _VIEWS and _layout(result) == _layout(args[0]):
            # A view of the whole, of which autograd and vmap make many: the tensor itself will do.
            self._operations.append((_itself, args[:1], {}, result))
        elif list(_tensors_in(result)):
            self._operations.append((func, args, kwargs or {}, result))
        elif list(_tensors_in((args, kwargs))):
            raise NotImplementedError(f"{func} leads from tensors to Python, where it is lost")
        return result

    def listed(self, outputs: Sequence[Tensor], example: Sequence[Tensor]) -> Any:
        """The operations as a function from tensors like the inputs to those like the outputs."""

        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            # A tensor of the recording stands for its present counterpart, found by identity; one
            # that came from elsewhere is a constant.
            now = {id(then): tensor for then, tensor in zip(self._inputs, inputs, strict=True)}

            def present(value: Any) -> Any:
                if isinstance(value, Tensor):
                    return now.get(id(value), value)
                if isinstance(value, (tuple, list)):
                    return type(value)(present(part) for part in value)
                return value

            for func, args, kwargs, then in self._operations:
                result = func(*present(args), **{k: present(v) for k, v in kwargs.items()})
                pairs = zip(_tensors_in(then), _tensors_in(result), strict=True)
                now.update((id(old), new) for old, new in pairs)
            return tuple(now[id(tensor)] for tensor in outputs)

        copies = [tensor.clone() for tensor in example]
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # it is deprecated, and nothing else does this
            return torch.jit.trace(run, tuple(copies), check_trace=False)


_VIEWS = frozenset(
    {
        torch.ops.aten.detach.default,
        torch.ops.aten.expand.default,
        torch.ops.aten.permute.default,
        torch.ops.aten.view.default,
        torch.ops.aten._unsafe_view.default,
    }
)


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.storage_offset()


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors_in(part)
    elif isinstance(value, dict):
        yield from _tensors_in(list(value.values()))


def _same_bits(one: Tensor | None, other: Tensor | None) -> bool:
    """Equal, where not a number is equal to itself."""
    if one is None or other is None:
        return one is other
    return bool(((one == other) | ((one != one) & (other != other))).all())


# Attributes that nn.Module keeps for itself.
_INTERNAL = frozenset(vars(nn.Module())) - {"training"}
# What never changes: an attribute has changed only if it is another object that is not equal.
_FIXED = frozenset(
    {
        *(bool, int, float, complex, str, bytes, type(None)),
        *(type, FunctionType, BuiltinFunctionType, torch.dtype, torch.device, torch.memory_format),
    }
)


def _recording_key(
    modules: Sequence[nn.Module], tensors: Sequence[Tensor], x: Tensor, labels: Tensor
) -> Any:
    """All that decides which operations a step consists of; None if it is not to be recorded."""
    if torch.is_autocast_enabled(x.device.type) or any(t._backward_hooks for t in tensors):
        return None
    settings: list[Any] = []
    for module in modules:
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
            return None
        settings += (type(module), *module._modules, *module._parameters, *module._buffers)
        for name, value in vars(module).items():
            if name not in _INTERNAL:
                kind = type(value)
                settings += (name, kind, value if kind in _FIXED else _comparable(value))
    batch = [(tensor.shape, tensor.dtype, tensor.device) for tensor in (x, labels)]
    return settings, batch, [(t.requires_grad, t.shape, t.dtype, t.device) for t in tensors]


def _comparable(value: Any) -> Any:
    """What is equal to itself later if the value has not changed; else to nothing."""
    if isinstance(value, Tensor) and not value.is_inference():
        return _Same(value), value._version
    if type(value) in _FIXED or isinstance(value, (type, Enum, np.generic)):
        return value
    if isinstance(value, partial):
        value = _contents(value)
    if isinstance(value, (tuple, list)):
        return [(type(part), _comparable(part)) for part in value]
    if type(value) is dict:
        return [(key, type(part), _comparable(part)) for key, part in value.items()]
    return object()  # may change without being seen to: no two keys are equal


class _Same:
    """Equal to another of the same object, which it holds: nothing else gets that identity."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._value is other._value

    __hash__ = None  # type: ignore[assignment]


# By default it is -100, and such an example would count for nothing but in the number of them.
_IGNORED = torch.iinfo(torch.int64).min


def _losses_and_gradients(
    network: nn.Module, tensors: Tensors, x: Tensor, labels: Tensor
) -> tuple[Tensor, Gradients]:
    trained = [tensor for tensor in tensors.values() if tensor.requires_grad]
    with torch.enable_grad():
        scores = _scores(network, tensors, x)
        losses = F.cross_entropy(
            scores.flatten(0, 1),
            labels.flatten(),
            reduction="none",
            ignore_index=_IGNORED,
        )
        losses = losses.view(labels.shape).mean(1)
        gradients = torch.autograd.grad(losses.sum(), trained, allow_unused=True)
    return losses.detach(), gradients


def _scores(network: nn.Module, tensors: Tensors, x: Tensor) -> Tensor:
    def one(tensors: Tensors, x: Tensor) -> Tensor:
        scores: Tensor = torch.func.functional_call(network, tensors, (x,))
        return scores

    with _LinearLayers():
        scores: Tensor = torch.vmap(one)(tensors, x)
    return scores


class _LinearLayers(TorchFunctionMode):
    """In it, linear layers are computed by `_Linear`."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.linear:
            return _linear(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    y: Tensor
    if input.dim() == 2:
        y = _Linear.apply(input, weight, bias)  # type: ignore[no-untyped-call]
        return y
    return _linear(input.flatten(0, -2), weight, bias).view(*input.shape[:-1], -1)


class _Linear(torch.autograd.Function):
    """What `F.linear` does, with the gradient of the weight laid out in memory as the weight.

    The batched product that vmap makes of `F.linear` has a transposed gradient, and to add that to
    the weight takes the optimizer several times as long as it should.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if x.dim() == 2:
            return F.linear(x, weight, bias)
        if bias is None:
            return torch.bmm(x, weight.mT)
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor | None, ...], output: Tensor) -> None:
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        product = torch.mm if x.dim() == 2 else torch.bmm
        return (
            product(dy, weight) if ctx.needs_input_grad[0] else None,
            product(dy.mT, x) if ctx.needs_input_grad[1] else None,
            dy.sum(-2) if ctx.needs_input_grad[2] else None,
        )

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
    ) -> tuple[Tensor, int]:
        """The seed axis in front of all three."""
        stacked = [
            tensor if tensor is None else _in_front(tensor, axis, info.batch_size)
            for tensor, axis in zip((x, weight, bias), in_dims, strict=True)
        ]
        y: Tensor = _Linear.apply(*stacked)  # type: ignore[no-untyped-call]
        return y, 0


def _in_front(tensor: Tensor, axis: int | None, size: int) -> Tensor:
    if axis is None:
        return tensor.expand(size, *tensor.shape)
    return tensor if axis == 0 else tensor.movedim(axis, 0)


def _tensors(module: nn.Module) -> Tensors:
    """Parameters and buffers by name, tied ones once, in the order of `parameters()`."""
    found: Tensors = {}
    seen: set[int] = set()
    for prefix, part in module.named_modules():
        for name, tensor in (*part._parameters.items(), *part._buffers.items()):
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                found[f"{prefix}.{name}" if prefix else name] = tensor
    return found


def _modules(network: nn.Module) -> list[nn.Module]:
    """What `network.modules()` yields, in a fraction of the time: it is asked for in every step."""
    found: dict[nn.Module, None] = {}
    waiting: list[nn.Module | None] = [network]
    while waiting:
        module = waiting.pop()
        if module is not None and module not in found:
            found[module] = None
            waiting += reversed(module._modules.values())
    return list(found)


def _own_tensors(modules: Sequence[nn.Module]) -> list[Tensor]:
    """The values of `_tensors`, in its order."""
    found: dict[int, Tensor] = {}
    for module in modules:
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None:
                found.setdefault(id(tensor), tensor)
    return list(found.values())


def _like(tensor: Tensor, values: Tensor) -> Tensor:
    """Values as a parameter if the tensor is one, else as they are."""
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(values, requires_grad=tensor.requires_grad)
    return values


def _check_alike(first: nn.Module, other: nn.Module) -> None:
    if type(first) is not type(other) or str(first) != str(other):
        raise ValueError(
            "Stack: the networks must be of one architecture, but one is\n"
            f"{first}\nand another is\n{other}"
        )
    shapes, other_shapes = (
        {name: (tuple(t.shape), t.dtype, t.device) for name, t in _tensors(module).items()}
        for module in (first, other)
    )
    for name in {**shapes, **other_shapes}:
        if shapes.get(name) != other_shapes.get(name):
            raise ValueError(
                f"Stack: the networks must be of one architecture, but {name!r} is "
                f"{shapes.get(name)} in one and {other_shapes.get(name)} in another"
            )
    if [m.training for m in first.modules()] != [m.training for m in other.modules()]:
        raise ValueError(
            "Stack: one network is in training mode where another is in evaluation mode; call "
            ".train() or .eval() on all"
        )
    parts, others = dict(first.named_modules()), dict(other.named_modules())
    for name in {**parts, **others}:
        one, two = parts.get(name), others.get(name)
        kinds = [None if m is None else type_before_parametrizations(m) for m in (one, two)]
        if one is None or two is None or kinds[0] is not kinds[1]:
            raise _unlike(name, "type", *kinds)
        for attribute in {**vars(one), **vars(two)}:
            values = [vars(module).get(attribute, "absent") for module in (one, two)]
            is_own = attribute not in _INTERNAL and not attribute.startswith("_torchdynamo")
            if is_own and not _same(*values):
                raise _unlike(name, attribute, *values)
    theirs = _tensors(other)
    for name, tensor in _tensors(first).items():
        if tensor.requires_grad != theirs[name].requires_grad:
            wanted = (tensor.requires_grad, theirs[name].requires_grad)
            raise _unlike(name, "requires_grad", *wanted)


def _unlike(name: str, attribute: str, one: Any, other: Any) -> ValueError:
    where = f"{attribute} of {name!r}" if name else attribute
    first, second = (textwrap.shorten(repr(value), 200) for value in (one, other))
    return ValueError(
        f"Stack: the networks must be of one architecture, but {where} is {first} in one and "
        f"{second} in another"
    )


def _same(one: Any, other: Any) -> bool:
    """Of one type and equal; of objects that are no values, the type alone is compared."""
    if one is other:
        return True
    if type(one) is not type(other) or getattr(one, "shape", 0) != getattr(other, "shape", 0):
        return False
    if isinstance(one, Tensor):
        kinds = [(t.dtype, t.device, t.layout, t.requires_grad) for t in (one, other)]
        return kinds[0] == kinds[1] and _same_bits(one, other)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (FunctionType, MethodType, partial)):
        return _same(_contents(one), _contents(other))
    equality: Any = type(one).__eq__
    if equality is object.__eq__:  # each is equal to itself alone, or it is no value
        return type(one) not in _FIXED and not isinstance(one, (type, Enum))
    try:
        return bool(np.all((one == other) | ((one != one) & (other != other))))
    except Exception:  # it has no equality after all
        return True


def _contents(function: Any) -> list[Any]:
    """What decides on a function's values: each network may have made it for itself."""
    if isinstance(function, partial):
        return [function.func, function.args, function.keywords]
    if isinstance(function, MethodType):
        return [function.__func__.__code__]
    captured = [cell.cell_contents for cell in function.__closure__ or ()]
    values = [*captured, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]
    # a function among them may hold this one
    codes = [value.__code__ if isinstance(value, FunctionType) else value for value in values]
    return [function.__code__, *codes]


def _check_layers(module: nn.Module) -> None:
    for name, layer in module.named_modules():
        if isinstance(layer, nn.RNNBase):
            raise ValueError(f"Stack: layer {name!r} is {layer}, which torch.vmap cannot map")
        is_dropout = isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0
        if is_dropout or isinstance(layer, nn.RReLU):
            raise ValueError(
                f"Stack: layer {name!r} is {layer}, which draws from one generator for all "
                "networks; use bn_core.lab.dropout.Dropout, which has a seed of its own"
            )
