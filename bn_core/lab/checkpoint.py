"""Files in which a training waits to be resumed."""

import os
import re
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FORMAT = 1


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read, or is of another run."""


def write(path: str | os.PathLike[str], run: Mapping[str, str], state: Mapping[str, Any]) -> None:
    """Store a state; whoever reads finds the old file or the new one, never a part of one.

    Args:
        path: the file; folders that are missing are made.
        run: what identifies the run, each as text; `read` compares it.
        state: tensors, numbers, strings and None, in dictionaries, lists and tuples.

    Raises:
        TypeError: the state holds something else, which `read` could not read; the message says
            where. Nothing is written.
    """
    path = Path(path)
    content = {"format": FORMAT, "run": dict(run), "state": dict(state)}
    _check_readable("state", content["state"])
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.part")
    try:
        torch.save(content, beside)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


# The types, not their subclasses, that are read with `weights_only`, which runs no code of a file.
_VALUES = frozenset(
    {
        *(type(None), bool, int, float, complex, str, bytes, bytearray),
        *(torch.Size, torch.dtype, torch.device),
    }
)


def _check_readable(where: str, value: Any) -> None:
    if type(value) in (dict, OrderedDict):
        for key, part in value.items():
            _check_readable(f"a key of {where}", key)
            _check_readable(f"{where}[{key!r}]", part)
    elif type(value) in (list, tuple, set):
        for i, part in enumerate(value):
            _check_readable(f"{where}[{i}]", part)
    elif type(value) not in _VALUES and not isinstance(value, Tensor):
        raise TypeError(
            f"checkpoint: {where} is a {type(value).__name__}; a state may hold tensors, numbers, "
            "strings and None, in dictionaries, lists and tuples"
        )


def read(path: str | os.PathLike[str], run: Mapping[str, str]) -> dict[str, Any]:
    """The state that `write` stored, on the CPU.

    Args:
        path: the file.
        run: what identifies the run that asks for it.

    Raises:
        CheckpointError: the file is damaged or no checkpoint, or of another run; the message says
            in what they differ.
    """
    advice = "delete it to start from the beginning, or choose another file"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        version, then, state = (content[key] for key in ("format", "run", "state"))
        if not isinstance(then, dict) or not isinstance(state, dict):
            raise TypeError("its parts 'run' and 'state' are not dictionaries")
    except OSError:
        raise
    except Exception as e:  # bytes at random make a reader fail in any way
        reason = re.sub(r"\x1b\[[0-9;]*m", "", str(e).split("\n")[0])  # without colours
        raise CheckpointError(
            f"{path} is damaged or no checkpoint ({type(e).__name__}: {reason}); {advice}"
        ) from e
    if version != FORMAT:
        raise CheckpointError(f"{path} has format {version}, not {FORMAT}; {advice}")
    differences = [
        f"{name} was {then.get(name, 'absent')}, is {run.get(name, 'absent')}"
        for name in {**then, **run}
        if then.get(name) != run.get(name)
    ]
    if differences:
        raise CheckpointError(
            f"{path} is of another run: {'; '.join(differences)}. To resume, make everything as it "
            f"was when that run began, the model included; else {advice}"
        )
    loaded: dict[str, Any] = state
    return loaded


def digest(tensors: Iterable[Tensor]) -> str:
    """Eight hexadecimal digits that change when a value does: a checksum, not a proof.

    Raises:
        TypeError: a tensor is not dense, or has no values.
    """
    checksum = 0
    for tensor in tensors:
        if tensor.layout != torch.strided or tensor.is_meta:
            raise TypeError(
                f"digest: a tensor has layout {tensor.layout} and is on {tensor.device}; it must "
                "be dense and have values"
            )
        flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().flatten()
        checksum = zlib.crc32(flat.view(torch.uint8).numpy().data, checksum)
    return f"{checksum:08x}"


def without_addresses(text: str) -> str:
    """What an object prints, without where it lies in memory, which changes from run to run."""
    return re.sub(r" at 0x[0-9a-f]+", "", text)
