"""The recorder on a network of torch's layers alone: the example of the API reference.

`book.tables` runs it when the site is built and prints this file's functions beside what they draw.
"""

import torch
import torch.nn.functional as F
from torch import nn

from bn_core.lab import data
from bn_core.lab.plots import Drawing, dashboard, timeline
from bn_core.lab.probes import Recorder


def convolutional_network() -> nn.Sequential:
    """Two convolutions and two dense layers: every layer is torch's."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 16, 3, stride=2, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(16 * 6 * 6, 64), nn.Tanh(), nn.Linear(64, 10)),
    )


def train_and_watch(steps: int = 300) -> Recorder:
    """An ordinary training loop, with a recorder around it."""
    model = convolutional_network()
    digits = data.load()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Recorder(model, every=10) as recorder:
        for _ in range(steps):
            batch = torch.randint(len(digits.train_images), (64,))
            scores = model(digits.train_images[batch].unsqueeze(1))
            loss = F.cross_entropy(scores, digits.train_labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return recorder


def draw(recorder: Recorder) -> tuple[Drawing, Drawing]:
    """The two pictures: a few moments, layer by layer; and the whole course."""
    return (
        dashboard(recorder, title="A convolutional network at three moments of training"),
        timeline(recorder, title="The same network over 300 steps"),
    )
