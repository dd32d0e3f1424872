"""Models behind two interfaces: a `Segmenter` turns prompts to masks, a `Detector` text to boxes.

Every model with a name is loaded by `load_segmenter` or `load_detector`, which import torch when
they are called; importing this package stays light.
"""

from .interfaces import Detector, Segmenter
from .registry import (
    DETECTORS,
    SEGMENTERS,
    Model,
    download_model,
    list_models,
    load_detector,
    load_segmenter,
    verify_models,
)

__all__ = [
    "DETECTORS",
    "SEGMENTERS",
    "Detector",
    "Model",
    "Segmenter",
    "download_model",
    "list_models",
    "load_detector",
    "load_segmenter",
    "verify_models",
]
