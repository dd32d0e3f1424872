"""Segment many images into label maps on disk; one bad file never stops the others.

    <out>/<id>.png            label map of exactly the image's size
    <out>/overlays/<id>.png   the labels drawn over the image, where asked for
    <out>/classes.json        what the label values mean
    <out>/run.json            request, models, versions, and what became of each file

``run.json`` is kept up to date while the work goes on, so the same request goes on where it was
interrupted: label maps that it lists are kept. Any other file in the way is left as it is and
reported, unless overwriting was asked for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import Cancelled, LabelWriteError, PromptError, UsgsegError
from ..io.atomic import write_cure, write_new, write_over
from ..io.images import frame_count, read_image
from ..io.labels import default_color, write_classes, write_labels
from ..models.base import AutoSegmenter, Detector, Segmenter
from ..models.phrases import split_phrases
from ..types import LabelClass, Prompts, TextPrompt
from .overlay import write_overlay
from .postprocess import PostprocessSettings
from .propose import Proposals, compose, propose_prompts, propose_text
from .propose_auto import propose_auto
from .run_file import RunFile, alone_in

Status = Literal["done", "kept", "failed"]


@dataclass(frozen=True, slots=True, eq=False)
class BatchRequest:
    """What to do with every image.

    Attributes:
        text: phrases to look for; with ``objects`` it only names what they point at.
        objects: a person's prompts, one record for each object; the same for every image.
        settings: cleaning of the masks.
        overlay: also write the labels drawn over the image.
        overwrite: replace files that are already there.
        use_priors: see ``propose_text``.
    """

    text: TextPrompt | None = None
    objects: tuple[Prompts, ...] = ()
    settings: PostprocessSettings = field(default_factory=PostprocessSettings)
    overlay: bool = False
    overwrite: bool = False
    use_priors: bool = True


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
) -> Iterator[FileResult]:
    """Segment ``sources`` into ``out``, yielding what became of each as soon as it is known.

    Where ``auto``, a prompt predictor on ``segmenter``, is given, it is asked and nothing else.

    Raises:
        PromptError: the request has neither a phrase nor an object, or a phrase and no detector.
        LabelWriteError: ``out`` holds the label maps of another request, is being written by
            another process, or cannot be written.
    """
    if request.text is None and not request.objects and auto is None:
        raise PromptError("nothing to look for: give a phrase, a box or a point")
    if request.text is not None and not request.objects and detector is None:
        raise PromptError("a phrase needs a detector: name a grounder")
    classes = request_classes(request) if auto is None else auto_classes(auto)
    label_paths = [out / f"{image_id}.png" for image_id in unique_ids(sources)]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabelWriteError(out, write_cure(error)) from error
    asked = _describe(segmenter, detector, request) | ({"ppn": auto.model_id} if auto else {})
    with alone_in(out):
        run = RunFile.open(out / "run.json", asked, overwrite=request.overwrite)
        write_classes(out / "classes.json", classes, write_over)
        try:
            for source, label_path in zip(sources, label_paths, strict=True):
                result = _one_file(
                    source, label_path, segmenter, detector, auto, request, classes, run
                )
                if result.status == "done" or (
                    result.status == "failed" and not label_path.exists()
                ):
                    run.record(
                        label_path.stem,
                        source,
                        result.status,
                        objects=result.objects,
                        seconds=round(result.seconds, 4),
                        message=result.message,
                    )
                yield result
        finally:
            run.close()


def _one_file(
    source: Path,
    label_path: Path,
    segmenter: Segmenter,
    detector: Detector | None,
    auto: AutoSegmenter | None,
    request: BatchRequest,
    classes: Sequence[LabelClass],
    run: RunFile,
) -> FileResult:
    started = time.perf_counter()
    earlier = run.status(label_path.stem, source)
    overwrite = request.overwrite or earlier == "writing"
    if label_path.exists() and not overwrite:
        if earlier == "done":
            return FileResult(source, label_path, "kept", run.objects(label_path.stem))
        cause = f"{label_path} is there already; overwrite it, or choose another folder"
        return FileResult(source, label_path, "failed", message=cause)
    try:
        image = read_image(source)
        if auto is not None:
            found = propose_auto(auto, segmenter.embed(image), request.settings)
        else:
            found = _propose(segmenter, detector, image, request)
        values = _class_ids(found, classes)
        labels = compose(found.items, values, image.shape[:2])
        run.begin(label_path.stem, source)
        write = write_over if overwrite else write_new
        write_labels(label_path, labels, write)
        if request.overlay:
            picture = label_path.parent / "overlays" / label_path.name
            write_overlay(picture, image, labels, classes, write)
    except Cancelled:
        raise
    except Exception as error:  # whatever a damaged file sets off, the other files are done
        message = _without_path(error, source)
        return FileResult(
            source, label_path, "failed", seconds=time.perf_counter() - started, message=message
        )
    seconds = time.perf_counter() - started
    frames = frame_count(source)
    first = [f"Only the first of its {frames} frames was segmented."] if frames > 1 else []
    notes = (*found.notes, *_hidden(values, labels, classes), *first)
    return FileResult(source, label_path, "done", len(found.items), seconds, " ".join(notes))


def _class_ids(found: Proposals, classes: Sequence[LabelClass]) -> list[int]:
    """The label value of each proposal; one without a known phrase is of the first class."""
    values = {label_class.name.lower(): label_class.class_id for label_class in classes}
    return [values.get(item.phrase.lower(), 1) for item in found.items]


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
        return str(error).removeprefix(f"{source}: ")
    return f"{type(error).__name__}: {error}"


def _propose(
    segmenter: Segmenter, detector: Detector | None, image: NDArray[np.uint8], request: BatchRequest
) -> Proposals:
    if request.objects or detector is None or request.text is None:
        embedding = segmenter.embed(image)
        items = tuple(
            propose_prompts(segmenter, embedding, prompts, request.settings)[0]
            for prompts in request.objects
        )
        return Proposals(tuple(item for item in items if item.mask.any()), (), embedding)
    return propose_text(
        segmenter, detector, image, request.text, request.settings, use_priors=request.use_priors
    )


def request_classes(request: BatchRequest) -> list[LabelClass]:
    """The classes of a request: its phrases in their order, else one class named "object"."""
    names = split_phrases(request.text.text) if request.text is not None else ("object",)
    return [LabelClass(i, name, default_color(i)) for i, name in enumerate(names, start=1)]


def auto_classes(auto: AutoSegmenter) -> list[LabelClass]:
    """The classes of a prompt predictor."""
    classes = auto.card.classes.items()
    return [LabelClass(value, name, default_color(value)) for value, name in classes]


def unique_ids(sources: Sequence[Path]) -> list[str]:
    """A name for each file's label map: its stem, with folder and suffix where stems meet.

    The ids do not depend on the order of ``sources``.

    Raises:
        PromptError: the same file is named twice.
    """
    candidates = (
        lambda path: path.stem,
        lambda path: f"{path.stem}-{path.suffix[1:].lower()}",
        lambda path: f"{path.parent.name}-{path.stem}-{path.suffix[1:].lower()}",
        lambda path: "-".join(path.resolve().with_suffix("").parts[1:]) + f"-{path.suffix[1:]}",
    )
    ids = [""] * len(sources)
    waiting = list(range(len(sources)))
    for name_of in candidates:
        names = [name_of(sources[index]).casefold() for index in waiting]
        taken = {image_id.casefold() for image_id in ids}
        clashing = [
            index
            for index, name in zip(waiting, names, strict=True)
            if names.count(name) > 1 or name in taken
        ]
        for index in set(waiting) - set(clashing):
            ids[index] = name_of(sources[index])
        waiting = clashing
    if waiting:
        raise PromptError(f"{sources[waiting[0]]} is named twice; name every image once")
    return ids


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
