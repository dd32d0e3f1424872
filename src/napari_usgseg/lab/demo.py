"""The main job on phantoms: a phrase, a correction by a simulated person's click, a PNG data set.

    <out>/phantoms/<id>.png      the images
    <out>/labels/<id>.png        what was accepted
    <out>/overlays/<id>-*.png    after the phrase, and after the click
    <out>/dataset/               the export, in the protocol's layout

The models are the ones given; the truth of the phantoms only scores them and places the click.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import components
from ..core.metrics import dice, next_click
from ..core.types import BoolArray, ImageRecord, LabelClass, Prompts, TextPrompt
from ..io.atomic import Write
from ..io.export import export_images
from ..io.labels import LabelMap, default_color, write_labels, write_png
from ..io.outputs import OutputFolder
from ..models.interfaces import Detector, Segmenter
from ..phantoms.phantom import Phantom, make_phantom
from ..segmentation.postprocess import PostprocessSettings
from ..segmentation.propose import Proposal, Proposals, compose, propose_prompts, propose_text
from ..segmentation.request import write_overlay
from .evaluation.annotator import add_click

SETTINGS = PostprocessSettings()


@dataclass(frozen=True, slots=True)
class DemoStep:
    """One phantom: Dice of the phrase's target after the phrase, and after one click more.

    ``click`` is (x, y, label), or None where the phrase left nothing to correct.
    """

    image_id: str
    phrase: str
    found: int
    dice_text: float
    dice_click: float
    click: tuple[int, int, int] | None

    @property
    def click_text(self) -> str:
        """The click as a person reads it: "+ (x, y)"."""
        if self.click is None:
            return "not needed"
        x, y, label = self.click
        return f"{'+' if label else '-'} ({x}, {y})"


def run_demo(
    segmenter: Segmenter,
    detector: Detector,
    folder: OutputFolder,
    *,
    count: int,
    seed: int,
) -> list[DemoStep]:
    """Do the job on ``count`` phantoms and write everything into ``folder``.

    Raises:
        LabelWriteError: a file may not or cannot be written.
    """
    out = folder.root
    phantoms = [make_phantom(seed + index) for index in range(count)]
    names = list(dict.fromkeys(phantom.phrase for phantom in phantoms))
    classes = [LabelClass(i, name, default_color(i)) for i, name in enumerate(names, start=1)]
    steps, records = [], []
    pairs: dict[str, tuple[NDArray[np.uint8], LabelMap]] = {}
    for index, phantom in enumerate(phantoms, start=1):
        path = out / "phantoms" / f"phantom-{index:02d}.png"
        write_png(path, phantom.image, folder.write)
        record = ImageRecord(path.stem, path, None, phantom.labels.shape)
        label_class = classes[names.index(phantom.phrase)]
        step, labels = _one_phantom(
            segmenter, detector, phantom, record, label_class, out / "overlays", folder.write
        )
        write_labels(out / "labels" / f"{record.image_id}.png", labels, folder.write)
        records.append(record)
        pairs[record.image_id] = phantom.image, labels
        steps.append(step)
    report = export_images(
        records,
        lambda record: pairs[record.image_id],
        out / "dataset",
        name="usgseg-demo",
        organ="phantom",
        target=names[0],
        classes=classes,
        overwrite=folder.overwrite,
    )
    report.whole()
    folder.remove_others(report.folder)
    return steps


def _one_phantom(
    segmenter: Segmenter,
    detector: Detector,
    phantom: Phantom,
    record: ImageRecord,
    label_class: LabelClass,
    overlays: Path,
    write: Write,
) -> tuple[DemoStep, LabelMap]:
    truth = phantom.labels == 1
    prompt = TextPrompt(phantom.phrase)
    found = propose_text(segmenter, detector, phantom.image, prompt, SETTINGS)
    items, click = correct(segmenter, found, truth)
    maps = [
        compose(proposals, [label_class.class_id] * len(proposals), record.size_hw)
        for proposals in (found.items, items)
    ]
    for labels, stage in zip(maps, ("1-phrase", "2-click"), strict=True):
        path = overlays / f"{record.image_id}-{stage}.png"
        write_overlay(path, phantom.image, labels, [label_class], write)
    scores = [dice(truth, labels > 0) for labels in maps]
    step = DemoStep(record.image_id, phantom.phrase, len(found.items), scores[0], scores[1], click)
    return step, maps[1]


def correct(
    segmenter: Segmenter, found: Proposals, truth: BoolArray
) -> tuple[tuple[Proposal, ...], tuple[int, int, int] | None]:
    """Let the simulated person mend the object that needs it most by one click.

    The click goes on with the mask of the proposal that it belongs to; where the phrase missed the
    object, it starts a new one.

    Returns:
        The proposals afterwards, and the click (x, y, label), or None where all is right.
    """
    drawn = np.any([item.mask for item in found.items], axis=0) if found.items else truth & False
    click = next_click(truth, drawn)
    if click is None:
        return found.items, None
    (x, y), label = click
    meant = next((thing for thing in components(truth) if thing[y, x]), None)
    mended = _proposal_at(found.items, x, y, meant)
    asked = Prompts(box=mended.box if mended else None)
    prompts = add_click(asked, click, mended.low_res_logits if mended else None)
    previous = mended.mask if mended else None
    proposal = propose_prompts(segmenter, found.embedding, prompts, SETTINGS, previous)
    rest = tuple(item for item in found.items if item is not mended)
    return (*rest, proposal), (x, y, label)


def _proposal_at(
    items: tuple[Proposal, ...], x: int, y: int, meant: BoolArray | None
) -> Proposal | None:
    """The proposal under the click, or the one that overlaps the object meant by it."""
    for item in items:
        if item.mask[y, x] or (meant is not None and (item.mask & meant).any()):
            return item
    return None
