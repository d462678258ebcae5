"""Chapter 14's five lines, taken from its notebook, work on networks the book has never seen."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

CHAPTER = Path(__file__).parents[2] / "chapters" / "14_inside_a_network.ipynb"
TAG = "five-lines"


@pytest.fixture(scope="module")
def five_lines():
    cells = nbformat.read(CHAPTER, as_version=4).cells
    [found] = [cell.source for cell in cells if TAG in cell.metadata.get("tags", [])]
    return found


def test_they_are_five(five_lines):
    assert len([line for line in five_lines.splitlines() if line]) == 5


class ConvNet(nn.Module):
    """Its nonlinearities are functions, but for one."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, padding=1, groups=2), nn.BatchNorm2d(6)
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(6, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x[:, None]))), 2)
        return self.head(self.drop(F.relu(x + self.bn2(self.conv2(x))).mean((2, 3))))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 12, num_layers=2, batch_first=True, bidirectional=True)
        self.norm, self.head = nn.LayerNorm(24), nn.Linear(24, 3)

    def forward(self, x):
        return self.head(self.norm(self.lstm(x)[0][:, -1]))


class Encoder(nn.Module):
    """Torch's own transformer layers, with a padding mask, from and to dictionaries."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, activation=nn.GELU(), batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.pool, self.head = nn.Tanh(), nn.Linear(8, 3)

    def forward(self, batch):
        mask = torch.zeros(batch["rows"].shape[:2], dtype=torch.bool)
        x = self.body(batch["rows"], src_key_padding_mask=mask)
        return {"scores": self.head(self.pool(x[:, 0]))}


class Residual(nn.Module):
    """One ReLU for all blocks."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(64, 16)
        self.blocks = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))
        self.norms = nn.ModuleList(nn.RMSNorm(16) for _ in range(4))
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(16, 3)

    def forward(self, x):
        x = self.first(x.flatten(1))
        for block, norm in zip(self.blocks, self.norms, strict=True):
            x = x + self.relu(block(norm(x)))
        return self.head(x)


class Embedded(nn.Module):
    """Words in, by their numbers; two losses' worth of output as a tuple."""

    def __init__(self):
        super().__init__()
        self.words, self.mix = nn.Embedding(10, 8), nn.Conv1d(8, 8, 3, padding=1)
        self.act, self.head = nn.PReLU(), nn.Linear(8, 3)

    def forward(self, words, *, scale=1.0):
        x = self.act(self.mix(self.words(words).mT)).mean(2)
        return self.head(scale * x), x


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.SiLU(), nn.Linear(16, 3))


def compiled():
    torch._dynamo.reset()
    return torch.compile(mlp(), backend="eager")


def as_it_is(model, x):
    return model(x)


CASES = {
    "convolutions and functions": (ConvNet, as_it_is),
    "an LSTM": (Recurrent, as_it_is),
    "a transformer, of dictionaries": (Encoder, lambda model, x: model({"rows": x})["scores"]),
    "a residual network": (Residual, as_it_is),
    "embedded words and a tuple": (
        Embedded,
        lambda model, x: model((x[:, 0] > 0).long() + 2, scale=0.5)[0],
    ),
    "a compiled network": (compiled, as_it_is),
    "double precision": (lambda: mlp().double(), lambda model, x: model(x.double())),
    "bfloat16": (lambda: mlp().bfloat16(), lambda model, x: model(x.bfloat16())),
}


@pytest.mark.parametrize("case", CASES)
def test_they_work_on_a_network_the_book_has_never_seen(five_lines, case):
    make, scores = CASES[case]
    torch.manual_seed(0)
    x, labels = torch.randn(40, 8, 8), torch.arange(40) % 3

    def train(model, steps=25):
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(scores(model, x), labels).backward()
            optimizer.step()
        model.eval()  # as loops do, to validate
        with torch.no_grad():
            scores(model, x)
        model.train()

    names = {"model": make(), "train": train}
    exec(five_lines, names)

    recorder = names["recorder"]
    assert recorder.steps == [0, 10, 20]
    for name in recorder.layers:
        layer = recorder.layer(name)
        for end in (layer.input, layer.output):
            assert np.isfinite(end.mean).all()
            assert (end.std > 0).all()
            np.testing.assert_allclose(end.shares.sum(1), 1, rtol=1e-5)
        assert (layer.gradient_top > 0).all()
    assert all(np.isfinite(recorder.parameter(name).norm).all() for name in recorder.parameters)
    for drawing in (names["inside_of"], names["course_of"]):
        assert drawing.png().startswith(b"\x89PNG")
        assert "from step 0 to step 20" in drawing.description
        assert not {"nan", "unknown"} & set(drawing.description.replace(",", " ").split())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in names["model"].modules())
