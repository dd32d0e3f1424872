"""Segment many images into label maps on disk; one bad file never stops the others.

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
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
from ..io.notes import listening
from ..io.outputs import OutputFolder
from ..models.grounding.phrases import listed_phrases, split_phrases, wanted_phrases
from ..models.interfaces import Detector, Segmenter
from ..models.ppn.card import AutoSegmenter
from .postprocess import PostprocessSettings
from .propose import Proposals, compose, propose_auto, propose_prompts, propose_text
from .run_file import ImageId, RunFile, alone_in, content_hash, match_ids

Status = Literal["done", "kept", "failed"]


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
    if request.text is None and not request.objects and auto is None:
        raise PromptError("nothing to look for: give a phrase, a box or a point")
    if request.text is not None and not request.objects and detector is None:
        raise PromptError("a phrase needs a detector: name a grounder")
    groups = groups or {}
    classes = request_classes(request) if auto is None else auto_classes(auto)
    check_place(out, sources, searched, overlay=request.overlay)
    folder = OutputFolder(out, reads=[*sources, *reads], overwrite=request.overwrite)
    asked = _describe(segmenter, detector, request) | ({"ppn": auto.model_id} if auto else {})
    folder.check_writable()
    with alone_in(out):
        run = RunFile.open(folder, asked)
        _start(folder, run, classes)
        ids = match_ids(sources, run.earlier, groups, anew=request.overwrite)
        try:
            for source, image_id in zip(sources, ids, strict=True):
                work = _Work(folder, run, segmenter, detector, auto, request, classes)
                with listening() as notes:
                    result = work.one_file(source, image_id, groups.get(source, ""))
                said = [_sentence(line, source) for line in notes.lines()]
                yield replace(result, message=" ".join(filter(None, (result.message, *said))))
        finally:
            run.close()


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
    theirs: set[object] = set()
    for folder in {*searched, *(place for path in sources for place in _folders_of(path))}:
        theirs |= _identities(folder)
    for target in (out, out / "overlays") if overlay else (out,):
        if _identities(target) & theirs:
            raise LabelWriteError(
                target,
                "is the folder of the images: label maps there would be taken for images next "
                f"time; choose another, such as {readable(out / 'labels')}",
            )


def _folders_of(image: Path) -> tuple[Path, Path]:
    return image.parent, Path(os.path.realpath(image)).parent


def _identities(folder: Path) -> set[object]:
    found: set[object] = {os.path.realpath(folder)}
    if folder.is_dir():
        status = folder.stat()
        found.add((status.st_dev, status.st_ino))
    return found


def _start(folder: OutputFolder, run: RunFile, classes: Sequence[LabelClass]) -> None:
    """Write ``classes.json`` and ``run.json``; a list of the same classes stays as it is.

    Raises:
        LabelWriteError: one of them is a person's, or cannot be written.
    """
    path = folder.root / "classes.json"
    if os.path.lexists(path) and not folder.is_own(path):
        try:
            same = {c.class_id: c.name for c in read_classes(path)} == {
                c.class_id: c.name for c in classes
            }
        except DatasetError:
            same = False
        if not same:
            folder.check(path)
        run.start()
    else:
        run.start()
        write_classes(path, classes, partial(folder.write, overwrite=True))


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """All that one file needs."""

    folder: OutputFolder
    run: RunFile
    segmenter: Segmenter
    detector: Detector | None
    auto: AutoSegmenter | None
    request: BatchRequest
    classes: Sequence[LabelClass]

    def one_file(self, source: Path, place: ImageId, group: str) -> FileResult:
        """Segment one image, or keep its label map; whatever goes wrong is in the result."""
        started = time.perf_counter()
        label_path = self.folder.root / f"{place.image_id}.png"
        noted = {"sha256": content_hash(source) or "", "group": group}
        try:
            if self._is_kept(source, place, label_path):
                self.run.found_again(place.image_id, source, **noted)
                objects = self.run.objects(place.image_id)
                return FileResult(source, label_path, "kept", objects)
            found, notes = self._segment(source, place.image_id, label_path, noted)
        except Cancelled:
            raise
        except Exception as error:  # whatever a damaged file sets off, the other files are done
            result = FileResult(source, label_path, "failed", message=_without_path(error, source))
            if place.standing != "taken" and not os.path.lexists(label_path):
                details = {**noted, "message": result.message}
                self.run.record(place.image_id, source, "failed", **details)
            return result
        seconds = time.perf_counter() - started
        result = FileResult(source, label_path, "done", found, seconds, " ".join(notes))
        self.run.record(
            place.image_id,
            source,
            "done",
            **noted,
            objects=found,
            seconds=round(seconds, 4),
            message=result.message,
        )
        return result

    def _is_kept(self, source: Path, place: ImageId, label_path: Path) -> bool:
        """Whether the label map that is there is this image's.

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
            height, width = image_size(source)
            replaced = read_labels(label_path).shape != (height, width)
        if status is not None and replaced:
            raise LabelWriteError(
                label_path, f"is the label map of an image that was replaced since; {cure}"
            )
        if status == "done":
            return True
        if own and status != "writing":
            raise LabelWriteError(label_path, f"is there already, from an earlier run; {cure}")
        return False

    def _segment(
        self, source: Path, image_id: str, label_path: Path, noted: Mapping[str, str]
    ) -> tuple[int, list[str]]:
        """Write an image's label map; how many objects are in it, and what a person should know."""
        overwrite = self.request.overwrite or self.run.status(image_id) == "writing"
        picture = label_path.parent / "overlays" / label_path.name
        self.folder.check(label_path, overwrite=overwrite)
        if self.request.overlay:
            self.folder.check(picture, overwrite=True)
        image = read_image(source)
        if self.auto is not None:
            found = propose_auto(self.auto, self.segmenter.embed(image), self.request.settings)
        else:
            found = _propose(self.segmenter, self.detector, image, self.request)
        values = _class_ids(found, self.classes)
        labels = compose(found.items, values, image.shape[:2])
        self.run.begin(image_id, source, **noted)
        write_labels(label_path, labels, partial(self.folder.write, overwrite=overwrite))
        if self.request.overlay:
            write = partial(self.folder.write, overwrite=True)
            write_overlay(picture, image, labels, self.classes, write)
        frames = frame_count(source)
        first = [f"Only the first of its {frames} frames was segmented."] if frames > 1 else []
        return len(found.items), [*found.notes, *_hidden(values, labels, self.classes), *first]


def _class_ids(found: Proposals, classes: Sequence[LabelClass]) -> list[int]:
    """The label value of each proposal."""
    values = {label_class.name.lower(): label_class.class_id for label_class in classes}
    return [values[item.phrase.lower()] for item in found.items]


def _hidden(
    values: Sequence[int], labels: NDArray[np.integer], classes: Sequence[LabelClass]
) -> list[str]:
    """A sentence for each class that was found and has no pixel left."""
    return [
        f"'{item.name}' was found only under what scores better."
        for item in classes
        if item.class_id in values and not (labels == item.class_id).any()
    ]


def _without_path(error: Exception, source: Path) -> str:
    """An error's words without the file's name, which whoever shows the result gives."""
    if isinstance(error, UsgsegError):
        return str(error).removeprefix(f"{readable(source)}: ")
    return f"{type(error).__name__}: {error}"


def _sentence(note: str, source: Path) -> str:
    """What a reader noticed about a file, without the file's name."""
    text = note.removeprefix(f"{source}: ")
    return f"{text[:1].upper()}{text[1:]}."


def _propose(
    segmenter: Segmenter, detector: Detector | None, image: NDArray[np.uint8], request: BatchRequest
) -> Proposals:
    if request.objects or detector is None or request.text is None:
        for prompts in request.objects:
            check_prompts(prompts, image.shape[:2])
        embedding = segmenter.embed(image)
        items = (
            replace(
                propose_prompts(segmenter, embedding, prompts, request.settings)[0], phrase=name
            )
            for prompts, name in zip(request.objects, request.names, strict=True)
        )
        return Proposals(tuple(item for item in items if item.mask.any()), (), embedding)
    return propose_text(
        segmenter, detector, image, request.text, request.settings, use_priors=request.use_priors
    )


def auto_classes(auto: AutoSegmenter) -> list[LabelClass]:
    """The classes of a prompt predictor."""
    classes = auto.card.classes.items()
    return [LabelClass(value, name, default_color(value)) for value, name in classes]


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
        "use_priors": request.use_priors,
        "postprocess": asdict(request.settings),
    }


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
        use_priors: see ``propose_text``.

    Raises:
        PromptError: the text has no phrase, or several and not as many as there are objects.
    """

    text: TextPrompt | None = None
    objects: tuple[Prompts, ...] = ()
    settings: PostprocessSettings = field(default_factory=PostprocessSettings)
    overlay: bool = False
    overwrite: bool = False
    use_priors: bool = True

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


def request_classes(request: BatchRequest) -> list[LabelClass]:
    """The classes of a request: its phrases in their order, else one class named "object"."""
    names = split_phrases(request.text.text) if request.text is not None else ("object",)
    return [LabelClass(i, name, default_color(i)) for i, name in enumerate(names, start=1)]


def check_prompts(prompts: Prompts, size_hw: tuple[int, int]) -> None:
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


def _counted(objects: Sequence[Prompts]) -> str:
    kind = "box" if all(prompts.box is not None for prompts in objects) else "point"
    if len(objects) == 1:
        return f"1 {kind}"
    return f"{len(objects)} {'boxes' if kind == 'box' else 'points'}"


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
