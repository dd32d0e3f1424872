"""Batch segmentation of images into label maps; one bad file never stops the others.

    <out>/<id>.png            label map of exactly the image's size
    <out>/overlays/<id>.png   the labels drawn over the image, where asked for
    <out>/classes.json        what the label values mean
    <out>/run.json            request, models, versions, and what became of each file

``run.json`` is kept up to date while the work goes on, so the same request goes on where it was
interrupted: the label map of an image that it lists is kept, wherever that image is now, and one of
an image that was replaced since is named (``run_file``). What is in the way otherwise is left as
it is and reported. Overwriting replaces what the program wrote, never what a person did
(``io.outputs``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.errors import (
    Cancelled,
    DatasetError,
    LabelWriteError,
    PromptError,
    UsgsegError,
    readable,
)
from ..core.geometry import box_within
from ..core.notes import listening
from ..core.types import LabelClass, Prompts, TextPrompt
from ..io.atomic import Write, write_new
from ..io.images import frame_count, image_size, read_image
from ..io.labels import (
    default_color,
    read_classes,
    read_labels,
    write_classes,
    write_labels,
    write_png,
)
from ..io.outputs import OutputFolder, file_identities
from ..models.grounding.phrases import listed_phrases, split_phrases, wanted_phrases
from ..models.interfaces import Detector, Segmenter
from ..models.ppn.card import AutoSegmenter
from .postprocess import PostprocessSettings
from .propose import Proposals, compose, propose_auto, propose_prompts, propose_text
from .run_file import ImageId, RunFile, alone_in, content_hash, match_ids

Status = Literal["done", "kept", "failed"]
Propose = Callable[[NDArray[np.uint8]], Proposals]
"""What models propose for an image (H, W, 3)."""


@dataclass(frozen=True, slots=True, eq=False)
class BatchRequest:
    """What to do with every image.

    Attributes:
        text: phrases to look for; with ``objects`` they only name what these point at: one phrase
            all of them, several each its own, first to first.
        objects: a person's prompts, one record for each object; the same for every image.
        settings: cleaning of the masks.
        overlay: also write the labels drawn over the image.
        overwrite: replace what the program wrote.

    Raises:
        PromptError: the text has no phrase, or several and not as many as there are objects.
    """

    text: TextPrompt | None = None
    objects: tuple[Prompts, ...] = ()
    settings: PostprocessSettings = field(default_factory=PostprocessSettings)
    overlay: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.text is None:
            return
        wanted_phrases(self.text.text)
        if self.objects and len(self.names) != len(self.objects):
            raise PromptError(
                f"{len(self.names)} phrases for {_counted(self.objects)}: give one phrase for all, "
                "or one for each in the same order"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """What each of ``objects`` is called."""
        if self.text is None:
            return ("object",) * len(self.objects)
        phrases = listed_phrases(self.text.text)
        return phrases[:1] * len(self.objects) if len(set(phrases)) == 1 else phrases


def _counted(objects: Sequence[Prompts]) -> str:
    kind = "box" if all(prompts.box is not None for prompts in objects) else "point"
    if len(objects) == 1:
        return f"1 {kind}"
    return f"{len(objects)} {'boxes' if kind == 'box' else 'points'}"


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one file; ``message`` says why it failed, or what the models had to say."""

    source: Path
    label_path: Path
    status: Status
    objects: int = 0
    seconds: float = 0.0
    message: str = ""


def segment_files(
    sources: Sequence[Path],
    out: Path,
    segmenter: Segmenter,
    detector: Detector | None,
    request: BatchRequest,
    auto: AutoSegmenter | None = None,
    *,
    groups: Mapping[Path, str] | None = None,
    searched: Iterable[Path] = (),
    reads: Iterable[Path] = (),
) -> Iterator[FileResult]:
    """Segment ``sources`` into ``out``, yielding what became of each as soon as it is known.

    Args:
        sources: images, each once.
        out: the folder to write into.
        segmenter: answers boxes and points.
        detector: finds phrases; None where boxes or points are given.
        request: what to do.
        auto: a prompt predictor on ``segmenter``; where it is given, nothing else is asked.
        groups: of an image, its folder below the one that was searched; a part of its id.
        searched: the folders that the images were looked for in.
        reads: other files that are read, such as a model's.

    Raises:
        PromptError: the request has neither a phrase nor an object, or a phrase and no detector.
        LabelWriteError: ``out`` is a folder of the images or a project's, holds the label maps of
            another request, is being written by another process, or cannot be written.
    """
    propose, classes = _prepare(segmenter, detector, request, auto)
    check_place(out, sources, searched, overlay=request.overlay)
    # Whether a label map may be replaced, `_Batch` says of each; the other files always may be.
    folder = OutputFolder(out, reads=[*sources, *reads], overwrite=True)
    asked = _describe(segmenter, detector, request) | ({"ppn": auto.model_id} if auto else {})
    folder.check_writable()
    groups = groups or {}
    with alone_in(out):
        run = RunFile.open(folder, asked, overwrite=request.overwrite)
        batch = _Batch(folder, run, request, classes, propose)
        batch.start()
        ids = match_ids(sources, run.earlier, groups, anew=request.overwrite)
        try:
            for source, image_id in zip(sources, ids, strict=True):
                with listening() as notes:
                    result = batch.segment(source, image_id, groups.get(source, ""))
                said = [_sentence(line, source) for line in notes.lines()]
                yield replace(result, message=" ".join(filter(None, (result.message, *said))))
        finally:
            run.save()


def _prepare(
    segmenter: Segmenter,
    detector: Detector | None,
    request: BatchRequest,
    auto: AutoSegmenter | None,
) -> tuple[Propose, list[LabelClass]]:
    """How the request asks the models, and the classes of what they may propose.

    Raises:
        PromptError: the request has neither a phrase nor an object, or a phrase and no detector.
    """
    settings, text = request.settings, request.text
    if auto is not None:
        numbered = auto.card.classes.items()
        classes = [LabelClass(value, name, default_color(value)) for value, name in numbered]
        return lambda image: propose_auto(auto, segmenter.embed(image), settings), classes
    names = ("object",) if text is None else split_phrases(text.text)
    classes = [LabelClass(i, name, default_color(i)) for i, name in enumerate(names, start=1)]
    if request.objects:
        return lambda image: _propose_objects(segmenter, image, request), classes
    if text is None:
        raise PromptError("nothing to look for: give a phrase, a box or a point")
    if detector is None:
        raise PromptError("a phrase needs a detector: name one")
    return lambda image: propose_text(segmenter, detector, image, text, settings), classes


def _propose_objects(
    segmenter: Segmenter, image: NDArray[np.uint8], request: BatchRequest
) -> Proposals:
    """What a person's prompts point at in an image.

    Raises:
        PromptError: a prompt shows no object of this image.
    """
    for prompts in request.objects:
        _check_prompts(prompts, image.shape[:2])
    embedding = segmenter.embed(image)
    items = (
        replace(propose_prompts(segmenter, embedding, prompts, request.settings), phrase=name)
        for prompts, name in zip(request.objects, request.names, strict=True)
    )
    return Proposals(tuple(item for item in items if item.mask.any()), (), embedding)


def _check_prompts(prompts: Prompts, size_hw: tuple[int, int]) -> None:
    """Refuse a box or a point that shows no object of this image.

    Raises:
        PromptError: it names the box or the point.
    """
    size = f"the image of {size_hw[1]} x {size_hw[0]} pixels"
    if prompts.box is not None:
        x0, y0, x1, y1 = (float(value) for value in prompts.box)
        box = f"box {x0:g},{y0:g},{x1:g},{y1:g}"
        if x1 <= x0 or y1 <= y0:
            raise PromptError(f"{box} has no area: give two opposite corners of the object's box")
        inside = box_within(prompts.box, size_hw)
        if inside is None or inside[2] <= inside[0] or inside[3] <= inside[1]:
            raise PromptError(f"{box} is outside {size}: give one inside it")
    for x, y in np.asarray(prompts.point_coords, float).reshape(-1, 2):
        if not (-0.5 <= x <= size_hw[1] - 0.5 and -0.5 <= y <= size_hw[0] - 0.5):
            raise PromptError(f"point {x:g},{y:g} is outside {size}: give one inside it")


def check_place(
    out: Path, sources: Iterable[Path], searched: Iterable[Path] = (), *, overlay: bool = False
) -> None:
    """Refuse to write label maps among images.

    Args:
        out: the folder to be written into.
        sources: the images.
        searched: the folders that they were looked for in.
        overlay: pictures are written into its folder ``overlays`` as well.

    Raises:
        LabelWriteError: it is a folder of the images.
    """
    folders = set(searched)
    for path in sources:
        folders |= {path.parent, Path(os.path.realpath(path)).parent}
    theirs = {identity for folder in folders for identity in file_identities(folder)}
    for target in (out, out / "overlays") if overlay else (out,):
        if file_identities(target) & theirs:
            raise LabelWriteError(
                target,
                "is the folder of the images: label maps there would be taken for images next "
                f"time; choose another, such as {readable(out / 'labels')}",
            )


def _describe(
    segmenter: Segmenter, detector: Detector | None, request: BatchRequest
) -> dict[str, Any]:
    """The part of ``run.json`` that two runs must share for one to go on with the other's work."""
    text = request.text
    return {
        "text": text.text if text else None,
        "box_threshold": text.box_threshold if text else None,
        "text_threshold": text.text_threshold if text else None,
        "objects": [
            {
                "box": None if prompts.box is None else np.asarray(prompts.box).tolist(),
                "points": np.column_stack([prompts.point_coords, prompts.point_labels]).tolist(),
            }
            for prompts in request.objects
        ],
        "segmenter": segmenter.model_id,
        "grounder": detector.model_id if detector is not None else None,
        "use_priors": True,  # as ``propose_text`` does; runs of earlier versions say it too
        "postprocess": asdict(request.settings),
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """One request at work in one folder."""

    folder: OutputFolder
    run: RunFile
    request: BatchRequest
    classes: Sequence[LabelClass]
    propose: Propose

    def start(self) -> None:
        """Write ``classes.json`` and ``run.json``; a list of the same classes stays as it is.

        Raises:
            LabelWriteError: one of them is a person's, or cannot be written.
        """
        path = self.folder.root / "classes.json"
        try:
            same = _names(read_classes(path)) == _names(self.classes)
        except DatasetError:  # none, or something else
            same = False
        if not same:
            self.folder.check(path)
        self.run.start()
        if not same:
            write_classes(path, self.classes, self.folder.write)

    def segment(self, source: Path, place: ImageId, group: str) -> FileResult:
        """Segment one image, or keep its label map; whatever goes wrong is in the result."""
        started = time.perf_counter()
        label_path = self.folder.root / f"{place.image_id}.png"
        noted = {"sha256": content_hash(source) or "", "group": group}
        try:
            if self._is_kept(source, place, label_path):
                self.run.found_again(place.image_id, source, **noted)
                objects = self.run.objects(place.image_id)
                return FileResult(source, label_path, "kept", objects)
            objects, message = self._write(source, place.image_id, label_path, noted)
        except Cancelled:
            raise
        except Exception as error:  # whatever a damaged file sets off, the other files are done
            message = _without_path(error, source)
            if place.standing != "taken" and not os.path.lexists(label_path):
                self.run.record(place.image_id, source, "failed", **noted, message=message)
            return FileResult(source, label_path, "failed", message=message)
        seconds = time.perf_counter() - started
        what = {"objects": objects, "seconds": round(seconds, 4), "message": message}
        self.run.record(place.image_id, source, "done", **noted, **what)
        return FileResult(source, label_path, "done", objects, seconds, message)

    def _is_kept(self, source: Path, place: ImageId, label_path: Path) -> bool:
        """Whether the label map that is there is this image's; False where it may be written.

        Raises:
            LabelWriteError: it is another image's, or nobody knows whose.
        """
        if place.standing == "taken":
            raise LabelWriteError(
                label_path,
                "is the label map of another image, which had this name before; choose another "
                "folder",
            )
        if not os.path.lexists(label_path) or self.request.overwrite:
            return False
        own = self.folder.is_own(label_path)
        cure = "--overwrite makes it anew" if own else "choose another folder"
        status = self.run.status(place.image_id)
        replaced = place.standing == "replaced"
        if status == "done" and place.standing == "unproved":
            replaced = read_labels(label_path).shape != image_size(source)
        if status is not None and replaced:
            raise LabelWriteError(
                label_path, f"is the label map of an image that was replaced since; {cure}"
            )
        if status == "done":
            return True
        if own and status != "writing":
            raise LabelWriteError(label_path, f"is there already, from an earlier run; {cure}")
        return False

    def _write(
        self, source: Path, image_id: str, label_path: Path, noted: Mapping[str, str]
    ) -> tuple[int, str]:
        """Write an image's label map; how many objects are in it, and what a person should know."""
        picture = label_path.parent / "overlays" / label_path.name
        self.folder.check(label_path, *([picture] if self.request.overlay else []))
        image = read_image(source)
        found = self.propose(image)
        values = {item.name.lower(): item.class_id for item in self.classes}
        class_ids = [values[item.phrase.lower()] for item in found.items]
        labels = compose(found.items, class_ids, image.shape[:2])
        self.run.begin(image_id, source, **noted)
        write_labels(label_path, labels, self.folder.write)
        if self.request.overlay:
            write_overlay(picture, image, labels, self.classes, self.folder.write)
        notes = [
            *found.notes,
            *(
                f"'{item.name}' was found only under what scores better."
                for item in self.classes
                if item.class_id in class_ids and not (labels == item.class_id).any()
            ),
        ]
        if (frames := frame_count(source)) > 1:
            notes.append(f"Only the first of its {frames} frames was segmented.")
        return len(found.items), " ".join(notes)


def _names(classes: Iterable[LabelClass]) -> dict[int, str]:
    return {item.class_id: item.name for item in classes}


def _without_path(error: Exception, source: Path) -> str:
    """An error's words without the file's name, which whoever shows the result gives."""
    if isinstance(error, UsgsegError):
        return str(error).removeprefix(f"{readable(source)}: ")
    return f"{type(error).__name__}: {error}"


def _sentence(note: str, source: Path) -> str:
    """What a reader noticed about a file, without the file's name."""
    text = note.removeprefix(f"{source}: ")
    return f"{text[:1].upper()}{text[1:]}."


FILL = 0.25
"""Opacity of a label's area; its outline is opaque."""


def draw_overlay(
    image: NDArray[np.uint8], labels: NDArray[np.integer], classes: Sequence[LabelClass]
) -> NDArray[np.uint8]:
    """Draw every class of a label map over its image.

    Args:
        image: (H, W, 3) RGB uint8.
        labels: (H, W), 0 background.
        classes: give the colours; a value without a class is not drawn.

    Returns:
        (H, W, 3) RGB uint8, a new array.
    """
    drawn = image.astype(np.float32)
    for label_class in classes:
        mask = labels == label_class.class_id
        if not mask.any():
            continue
        color = np.array([int(label_class.color[i : i + 2], 16) for i in (1, 3, 5)], np.float32)
        drawn[mask] = (1 - FILL) * drawn[mask] + FILL * color
        drawn[mask & ~ndimage.binary_erosion(mask)] = color
    return drawn.round().astype(np.uint8)


def write_overlay(
    path: Path,
    image: NDArray[np.uint8],
    labels: NDArray[np.integer],
    classes: Sequence[LabelClass],
    write: Write = write_new,
) -> None:
    """Write ``draw_overlay`` as a PNG.

    Raises:
        LabelWriteError: the file is there already, or the folder cannot be written.
    """
    write_png(path, draw_overlay(image, labels, classes), write)
