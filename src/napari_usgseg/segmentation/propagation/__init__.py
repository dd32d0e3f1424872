"""Propagation: objects of the labelled frames of a loop on its other frames."""

from __future__ import annotations

from ...models.interfaces import Propagator, Segmenter

__all__ = ["propagator_for"]


def propagator_for(segmenter: Segmenter) -> Propagator:
    """The propagator that goes with a segmenter: its own memory, or optical flow for the rest."""
    from ...models.sam.edgetam import EdgeTamNet
    from ...models.sam.sam import SamSegmenter  # torch waits until something is propagated
    from ...models.sam.sam2 import Sam2Net
    from .flow import FlowPropagator
    from .memory import MemoryPropagator

    if isinstance(segmenter, SamSegmenter) and isinstance(segmenter.net, Sam2Net | EdgeTamNet):
        return MemoryPropagator(segmenter)
    return FlowPropagator()
