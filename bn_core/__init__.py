"""Batch normalization, exactly: the algorithms of Ioffe & Szegedy (2015) and layers made of them.

`import bn_core` needs torch alone. Whitening is in `bn_core.whitening`, operations on trained
networks are in `bn_core.surgery`. What experiments are made of (data, networks, training, figures)
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
from bn_core.layers import (
    BatchNorm,
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    BatchRenorm,
    GhostBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RMSNorm,
)

__version__ = "0.1.0"

__all__ = [
    "BatchNorm",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "BatchRenorm",
    "GhostBatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "RMSNorm",
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
