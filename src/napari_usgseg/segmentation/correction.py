"""Correction of a mask that was nearly right: a click changes what it points at and nothing else.

A network answers a click with a whole new mask: the place under the click gets better, others get
worse. FocalClick's progressive merge (arXiv 2204.02574, section 3.3) keeps only the changed region
that the click touches. Here, too, the answer may change the mask only in the click's own sense, and
only as far as the click tells: whoever clicks into the middle of a wrong part stands about as far
from the old border as the true border is behind the click, so that a change much deeper than that,
or far away along the border, was not asked for. Where the network does not follow the click at all,
a disc from the click to the old border does. Where the answer has little in common with the old
mask, that one was wrong by far, and the part of the change that the click touches is taken as deep
as it goes. The constants were chosen on the validation side of ``benchmarks/splits.json`` and on
phantoms (``benchmarks/corrections.py``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core.geometry import covered_cells, mask_window
from ..core.metrics import iou
from ..core.types import BoolArray, FloatArray, Prompts
from .postprocess import pointed_pixels

LEAST_AGREEMENT = 0.7
"""IoU of old and new mask below which the old one was wrong by far."""
DEPTH = 2.0
"""A change reaches so many times the click's depth from the old border, at most."""
REACH = 8.0
"""A change lies within so many times the click's depth of the click."""
LARGEST_DISC = 0.5
"""Radius of the disc round a click that the network ignored: at most this times the object's."""
UNDONE_LOGIT = 4.0
"""What is fed back where the merged mask is not the network's; of 1, 4 and 8 the best."""
GRID = 512
"""Distances in larger images are measured on a coarser grid: a click waits for them."""


def merge_correction(previous: BoolArray, answer: BoolArray, prompts: Prompts) -> BoolArray:
    """The mask after a correction; a new array.

    A prompt corrects where the previous mask contradicts it: positive points and scribbles outside
    it, negative ones inside. Without such a prompt there is nothing to correct.

    Args:
        previous: (H, W) the mask that the person saw.
        answer: (H, W) the segmenter's answer to all prompts, cleaned in the same way.
        prompts: XY pixels.
    """
    if not previous.any():
        return answer.copy()
    wrong = {
        1: pointed_pixels(prompts, 1, previous.shape) & ~previous,
        0: pointed_pixels(prompts, 0, previous.shape) & previous,
    }
    merged = previous.copy()
    if not any(pixels.any() for pixels in wrong.values()):
        return merged
    by_far = iou(previous, answer) < LEAST_AGREEMENT
    largest = LARGEST_DISC * float(np.sqrt(previous.sum() / np.pi))
    window = mask_window(previous | answer | wrong[0] | wrong[1], int(largest) + 2)
    old, new = previous[window], answer[window]
    for label, everywhere in wrong.items():
        pixels = everywhere[window]
        if pixels.any():
            # How deep a place lies on the wrong side of the old border. Inside the mask the image's
            # edge is a border as well (edge=True).
            depth = _distance_to(old) if label else _distance_to(~old, edge=True)
            changed = (new & ~old) if label else (old & ~new)
            merged[window][_near(changed, pixels, depth, by_far)] = bool(label)
            # The network did not follow the click: a disc does, as deep as the click is, so that no
            # click is without effect.
            ignored = pixels & (merged[window] != bool(label))
            if ignored.any():
                radius = min(float(depth[ignored].max()), largest)
                merged[window][_distance_to(ignored) <= radius] = bool(label)
    return merged


def merged_logits(
    logits: FloatArray, mask: BoolArray, covered: tuple[float, float] = (1.0, 1.0)
) -> FloatArray:
    """Low-resolution logits (h, w) of an answer, made to say what the merged mask (H, W) says.

    The next click then starts from the mask that the person sees. ``covered`` is the share of the
    logits' grid that the image covers (``ImageEmbedding.covered``).
    """
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    rows, columns = covered_cells(covered, (logits.shape[0], logits.shape[1]))
    inside = np.zeros(logits.shape, bool)
    inside[:rows, :columns] = (
        np.asarray(picture.resize((columns, rows), Image.Resampling.BOX)) > 127
    )
    stated = np.where(inside, UNDONE_LOGIT, -UNDONE_LOGIT)
    return np.where(inside == (logits > 0), logits, stated).astype(np.float32)


def _near(
    changed: BoolArray, pixels: BoolArray, depth: NDArray[np.float32], by_far: bool
) -> BoolArray:
    """The parts of a change that belong to a correction at ``pixels``; all of a part ``by_far``."""
    from skimage.measure import label

    deepest = float(depth[pixels].max())
    distance = _distance_to(pixels)
    kept = changed
    if not by_far:
        kept = changed & (depth <= DEPTH * deepest) & (distance <= REACH * deepest)
    numbered = label(kept, connectivity=1)
    touched = np.zeros(int(numbered.max()) + 1, bool)
    touched[numbered[kept & (distance <= deepest)]] = True
    return touched[numbered] & kept


def _distance_to(target: BoolArray, edge: bool = False) -> NDArray[np.float32]:
    """(H, W) Euclidean distance to the nearest target pixel, in pixels.

    Measured on a grid of at most ``GRID`` cells a side, a cell being a target if any pixel of it
    is. With ``edge``, what lies around the array is a target, too.
    """
    from scipy.ndimage import distance_transform_edt

    height, width = target.shape
    # Ceiling division: the least step with which the grid has at most GRID cells.
    step = -(-max(height, width) // GRID)
    padding = ((0, -height % step), (0, -width % step))
    whole = np.pad(target, padding)
    blocks = whole.reshape(whole.shape[0] // step, step, -1, step)
    cells: BoolArray = np.asarray(blocks.any(axis=(1, 3)))
    if edge:
        cells = np.pad(cells, 1, constant_values=True)
    found = step * distance_transform_edt(~cells).astype(np.float32)
    found = found[1:-1, 1:-1] if edge else found
    if step > 1:  # between the cells' middles, so that a border along it has no steps
        size = (found.shape[1] * step, found.shape[0] * step)
        found = np.asarray(Image.fromarray(found).resize(size, Image.Resampling.BILINEAR))
    return found[:height, :width]
