"""Request of a batch: what is asked of the models, and the files that they make of frames.

``Work.answer`` is pure: the same chunk has the same answer on every machine, again and again. What
is written of it, where and whether, is ``batch``'s alone.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from ..core.errors import ImageReadError, ModelError, PromptError, UsgsegError, readable
from ..core.geometry import box_within, mask_to_box
from ..core.notes import listening
from ..core.types import FieldOfView, LabelClass, Prompts, TextPrompt
from ..io.atomic import Write, write_new
from ..io.images import as_shown
from ..io.labels import default_color, write_labels, write_png
from ..io.reading.files import OpenFiles
from ..io.reading.frames import Frames, words_of
from ..models.grounding.phrases import listed_phrases, split_phrases, wanted_phrases
from ..models.grounding.selections import names_in
from ..models.interfaces import Detector, Segmenter
from ..models.ppn.card import AutoSegmenter
from .field_of_view import embed_field, embed_fields, field_of, fields_of_view
from .postprocess import PostprocessSettings
from .propose import Proposal, Proposals, compose, propose_auto, propose_prompts, propose_text
from .trace import TracePrompt, trace_mask

Found = tuple[Sequence[Proposal], Sequence[str]]
"""What was found, and sentences for the person."""
Propose = Callable[[NDArray[np.uint8], Sequence[FieldOfView]], Found]
"""What models propose for an image (H, W, 3) with its fields of view."""


@dataclass(frozen=True, slots=True, eq=False)
class BatchRequest:
    """Request of a batch: what to do with every image.

    Attributes:
        text: phrases to look for; with ``objects`` they only name what these point at: one phrase
            all of them, several each its own, first to first.
        objects: a person's prompts, or traces, one record for each object; the same for every
            image.
        settings: cleaning of the masks.
        overlay: also write the labels drawn over the image.
        overwrite: replace what the program wrote.
        crop_to_regions: models see the regions of tissue alone, where the scanner wrote them.

    Raises:
        PromptError: the text has no phrase, or several and not as many as there are objects.
    """

    text: TextPrompt | None = None
    objects: tuple[Prompts | TracePrompt, ...] = ()
    settings: PostprocessSettings = field(default_factory=PostprocessSettings)
    overlay: bool = False
    overwrite: bool = False
    crop_to_regions: bool = True

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


def _counted(objects: Sequence[Prompts | TracePrompt]) -> str:
    """Such as "2 boxes", or "1 box and 1 trace"."""
    kinds = Counter(
        "trace" if isinstance(each, TracePrompt) else "point" if each.box is None else "box"
        for each in objects
    )
    return " and ".join(
        f"{count} {kind}{'' if count == 1 else 'es' if kind == 'box' else 's'}"
        for kind, count in kinds.items()
    )


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """Models that a request is asked of.

    Attributes:
        segmenter: answers boxes and points.
        detector: finds phrases; None where boxes or points are given.
        auto: a prompt predictor on ``segmenter``; where it is given, nothing else is asked.
    """

    segmenter: Segmenter
    detector: Detector | None = None
    auto: AutoSegmenter | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """Which models they are, by content."""
        return tuple(m.model_id for m in (self.segmenter, self.detector, self.auto) if m)


@dataclass(frozen=True, slots=True)
class ModelNames:
    """Models by what a person calls them; every machine loads its own by them.

    Attributes:
        model: the segmenter.
        detector: None where none is needed.
        adapter: LoRA folder on the detector.
        ppn: folder of a prompt predictor.
        device: "auto", "cpu" or "cuda".
    """

    model: str = "nano"
    detector: str | None = None
    adapter: Path | None = None
    ppn: Path | None = None
    device: str = "auto"

    def placed(self) -> ModelNames:
        """The same with whole paths, for another process."""
        return ModelNames(*(placed(value) for value in astuple(self)))

    def load(self) -> Models:
        """Load them.

        Raises:
            ModelError: one is not there or damaged.
        """
        from ..models.registry import load_detector, load_segmenter

        segmenter = load_segmenter(self.model, device=self.device)
        detector, auto = None, None
        if self.ppn is not None:
            from ..models.ppn.model import load_ppn

            auto = load_ppn(self.ppn, segmenter)
        elif self.detector is not None:
            detector = load_detector(self.detector, adapter=self.adapter, device=self.device)
        return Models(segmenter, detector, auto)


def placed(name: Any) -> Any:
    """The whole path of a model that is named by its place; any other name as it is."""
    if name is None or not Path(name).exists():
        return name
    return type(name)(os.path.abspath(name))


@dataclass(frozen=True, slots=True)
class Chunk:
    """Frames of one file, which are answered together."""

    source: Path
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FrameAnswer:
    """Answer for one frame.

    Attributes:
        labels: PNG file of its label map, of exactly its size.
        overlay: PNG file of the labels over the frame, b"" where it was not asked for.
        objects: how many.
        notes: sentences for the person.
        problem: why there is none, without the file's path; "" where there is one.
        is_whole: whether the problem is the whole file's.
    """

    labels: bytes = b""
    overlay: bytes = b""
    objects: int = 0
    notes: tuple[str, ...] = ()
    problem: str = ""
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class ChunkAnswer:
    """Answers for the frames of a chunk, in their order.

    Attributes:
        frames: up to the first whose problem is the whole file's.
        seconds: that it took.
        noticed: what readers remarked on the file.
    """

    frames: tuple[FrameAnswer, ...]
    seconds: float = 0.0
    noticed: tuple[str, ...] = ()


class Work:
    """A request with its models, ready to answer.

    Args:
        models: what is asked.
        request: what for.

    Attributes:
        classes: of what may be proposed.
        files: what was read from last.

    Raises:
        PromptError: the request has neither a phrase nor an object, or a phrase and no detector.
    """

    def __init__(self, models: Models, request: BatchRequest) -> None:
        self.models, self.request = models, request
        self._propose, self.classes = _prepare(
            models.segmenter, models.detector, request, models.auto
        )
        self.files = OpenFiles()

    def answer(self, chunk: Chunk) -> ChunkAnswer:
        """The label maps of frames; what is wrong with one is in its answer, and raised never."""
        started = time.perf_counter()
        answers: list[FrameAnswer] = []
        with listening() as notes:
            for index in chunk.indices:
                answers.append(self._answer(chunk.source, index))
                if answers[-1].is_whole:
                    break
        return ChunkAnswer(
            tuple(answers), time.perf_counter() - started, tuple(text for _, text in notes)
        )

    def _answer(self, source: Path, index: int) -> FrameAnswer:
        try:
            return self._frame(source, index)
        except ImageReadError as error:  # a broken frame costs no other
            return FrameAnswer(problem=without_path(error, source))
        except Exception as error:  # whatever a damaged file sets off, the other files are done
            return FrameAnswer(problem=without_path(error, source), is_whole=True)

    def _frame(self, source: Path, index: int) -> FrameAnswer:
        def read(frames: Frames) -> tuple[NDArray[np.uint8], Any]:
            return as_shown(frames.path, frames.stored(index)), frames.about.regions

        image, regions = self.files.use(source, read)
        regions = regions if self.request.crop_to_regions else ()
        items, said = self._propose(image, fields_of_view(regions, image.shape[:2]))
        values = {item.name.lower(): item.class_id for item in self.classes}
        class_ids = [values[item.phrase.lower()] for item in items]
        labels = compose(items, class_ids, image.shape[:2])
        files: dict[str, bytes] = {}
        write_labels("labels.png", labels, lambda path, data: files.update({path.stem: data}))
        if self.request.overlay:
            write_overlay(
                Path("overlay.png"), image, labels, self.classes,
                lambda path, data: files.update({path.stem: data}),
            )  # fmt: skip
        notes = (
            *said,
            *(
                f"'{item.name}' was found only under what scores better."
                for item in self.classes
                if item.class_id in class_ids and not (labels == item.class_id).any()
            ),
        )
        return FrameAnswer(files["labels"], files.get("overlay", b""), len(items), notes)


@dataclass(frozen=True, slots=True, eq=False)
class WorkElsewhere:
    """``Work.answer`` for another process, which loads the models itself, once.

    Attributes:
        names: of the models.
        ids: which models they must be (``Models.ids``).
        request: what for.
    """

    names: ModelNames
    ids: tuple[str, ...]
    request: BatchRequest

    def __call__(self, chunk: Chunk) -> ChunkAnswer:
        """As ``Work.answer``.

        Raises:
            ModelError: a model is not there, or is another one of this name.
        """
        with _LOADING:
            models = _loaded(self.names)
        check_same(models.ids, self.ids)
        work = Work(models, self.request)
        try:
            return work.answer(chunk)
        finally:
            work.files.close()


def check_same(found: Sequence[str], expected: Sequence[str]) -> None:
    """Refuse other models than those that are expected.

    Raises:
        ModelError: they are others.
    """
    if tuple(found) != tuple(expected):
        raise ModelError(
            f"here the models are {', '.join(found)}, not {', '.join(expected)}; put the same "
            "files on each machine"
        )


_LOADING = threading.Lock()


@lru_cache(maxsize=1)
def _loaded(names: ModelNames) -> Models:
    return names.load()


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
        return lambda image, fields: _found(
            propose_auto(auto, embed_fields(segmenter, image, fields), settings)
        ), classes
    names: tuple[str, ...] = ("object",)
    if text is not None:
        found = text.text, getattr(detector, "names", ())
        names = split_phrases(text.text) if request.objects else names_in(*found)
    classes = [LabelClass(i, name, default_color(i)) for i, name in enumerate(names, start=1)]
    if request.objects:
        return lambda image, fields: _propose_objects(segmenter, image, fields, request), classes
    if text is None:
        raise PromptError("nothing to look for: give a phrase, a box, a point or a trace")
    if detector is None:
        raise PromptError("a phrase needs a detector: name one")
    return lambda image, fields: _found(
        propose_text(
            segmenter, detector, image, text, settings, embed_fields(segmenter, image, fields)
        )
    ), classes


def _found(proposals: Proposals) -> Found:
    return proposals.items, proposals.notes


def _propose_objects(
    segmenter: Segmenter,
    image: NDArray[np.uint8],
    fields: Sequence[FieldOfView],
    request: BatchRequest,
) -> Found:
    """What a person's prompts point at in an image.

    Raises:
        PromptError: a prompt shows no object of this image.
    """
    size_hw = image.shape[:2]
    for given in request.objects:
        if isinstance(given, TracePrompt):
            _check_points(given.points, size_hw)
        else:
            _check_prompts(given, size_hw)
    embed = cache(partial(embed_field, segmenter, image))
    items = []
    for given, name in zip(request.objects, request.names, strict=True):
        if isinstance(given, TracePrompt):
            mask = trace_mask(image, given.points, given.width, given.dark)
            items.append(Proposal(mask, np.asarray(mask_to_box(mask), np.float32), 1.0, name, 1.0))
            continue
        embedding = embed(field_of(fields, given))
        found = propose_prompts(segmenter, embedding, given, request.settings)
        items.append(replace(found, phrase=name))
    return tuple(item for item in items if item.mask.any()), ()


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
    _check_points(prompts.point_coords, size_hw)


def _check_points(points: ArrayLike, size_hw: tuple[int, int]) -> None:
    """Refuse points (N, 2) of which one is outside of the image.

    Raises:
        PromptError: it names the point.
    """
    size = f"the image of {size_hw[1]} x {size_hw[0]} pixels"
    for x, y in np.asarray(points, float).reshape(-1, 2):
        if not (-0.5 <= x <= size_hw[1] - 0.5 and -0.5 <= y <= size_hw[0] - 0.5):
            raise PromptError(f"point {x:g},{y:g} is outside {size}: give one inside it")


def without_path(error: Exception, source: Path) -> str:
    """An error's words without the file's name, which whoever shows the result gives."""
    if isinstance(error, UsgsegError):
        return str(error).removeprefix(f"{readable(source)}: ")
    return words_of(error, source)


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
