"""Label maps and proposals to keep, of the size of ``SIZE_HW``."""

from __future__ import annotations

import numpy as np

from napari_usgseg.core.types import Prompts
from napari_usgseg.project.records import ImageProposal, ProposedObject
from napari_usgseg.segmentation.propose import Proposal

SIZE_HW = (20, 30)


def some_labels(value: int = 1) -> np.ndarray:
    labels = np.zeros(SIZE_HW, np.uint8)
    labels[5:9, 3:20] = value
    return labels


def some_proposal(x: float = 4.0) -> ImageProposal:
    """One object with a mask that was clicked at (x, 5)."""
    mask = np.zeros(SIZE_HW, bool)
    mask[3:8, 2:9] = True
    logits = np.where(mask, 4.0, -4.0).astype(np.float32)
    box = np.array([2, 3, 8, 7], np.float32)
    proposal = Proposal(mask, box, 0.75, "cyst", 0.5, logits)
    prompts = Prompts(np.array([[x, 5]], np.float32), np.array([1], np.int32))
    return ImageProposal((ProposedObject(1, prompts, proposal),), 0, False, "nano", ("a note",))
