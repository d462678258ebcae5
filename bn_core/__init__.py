"""Batch normalization, exactly: the algorithms of Ioffe & Szegedy (2015) and layers made of them.

`import bn_core` needs torch alone. What experiments are made of (data, networks, training, figures)
is in `bn_core.lab`; the experiments of the book are in `bn_core.experiments`.
"""

from bn_core.algorithms import (
    batch_norm,
    batch_norm_backward,
    batch_norm_forward,
    batch_norm_inference,
    batch_norm_with_statistics,
    batch_statistics,
    normalize,
    normalize_rms,
    population_variance,
)
from bn_core.layers import BatchNorm1d

__version__ = "0.1.0"

__all__ = [
    "BatchNorm1d",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_norm_inference",
    "batch_norm_with_statistics",
    "batch_statistics",
    "normalize",
    "normalize_rms",
    "population_variance",
]
