"""Batch segmentation of images into label maps; one bad file never stops the others.

    <out>/<id>.png            label map of exactly the image's size
    <out>/<id>/0000.png       of a loop or a volume: one for each frame
    <out>/overlays/<id>.png   the labels drawn over the image, where asked for
    <out>/classes.json        what the label values mean
    <out>/run.json            request, models, versions, and what became of each file

    {"schema": 1, "request": {...}, "versions": {...}, "started": "...", "seconds": 1.2,
     "files": {"a": {"source": "/scans/a.png", "sha256": "...", "status": "done", "objects": 1},
               "b": {"source": "/scans/b.mp4", ..., "objects": 3, "frames": "1 2 - 0"}}}

"frames" has the objects of each frame of a loop, - where a broken one has no label map.
``run.json`` is kept up to date while the work goes on, so the same request goes on where it was
interrupted: the label map of an image that it lists is kept, wherever that image is now, and one of
an image that was replaced since is named (``sha256`` is of the image's file; runs of older versions
have none). What is in the way otherwise is left as it is and reported. Overwriting replaces what
the program wrote, never what a person did (``io.outputs``).
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from ..core.errors import (
    DatasetError,
    ImageReadError,
    LabelWriteError,
    PromptError,
    UsgsegError,
    readable,
)
from ..core.geometry import box_within, mask_to_box
from ..core.notes import listening
from ..core.types import FieldOfView, LabelClass, Prompts, TextPrompt
from ..io.atomic import Write, sha256_of, write_new
from ..io.images import as_shown, image_size
from ..io.labels import (
    CLASSES_FILE,
    default_color,
    read_classes,
    read_labels,
    write_classes,
    write_labels,
    write_png,
)
from ..io.names import numbered_name, safe_file_name, same_name_key
from ..io.outputs import OutputFolder, file_identities
from ..io.reading.files import hidden_name, open_frames, plain_stem
from ..io.reading.frames import Frames, words_of
from ..io.search import natural_order
from ..models.grounding.phrases import listed_phrases, split_phrases, wanted_phrases
from ..models.grounding.selections import names_in
from ..models.interfaces import Detector, Segmenter
from ..models.ppn.card import AutoSegmenter
from .field_of_view import embed_field, embed_fields, field_of, fields_of_view
from .postprocess import PostprocessSettings
from .propose import Proposal, Proposals, compose, propose_auto, propose_prompts, propose_text
from .trace import TracePrompt, trace_mask

Status = Literal["done", "kept", "failed"]
Found = tuple[Sequence[Proposal], Sequence[str]]
"""What was found, and sentences for the person."""
Propose = Callable[[NDArray[np.uint8], Sequence[FieldOfView]], Found]
"""What models propose for an image (H, W, 3) with its fields of view."""


@dataclass(frozen=True, slots=True, eq=False)
class BatchRequest:
    """What to do with every image.

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
        "objects": [_described(given) for given in request.objects],
        "segmenter": segmenter.model_id,
        "grounder": detector.model_id if detector is not None else None,
        "use_priors": True,  # as ``propose_text`` does; runs of earlier versions say it too
        "postprocess": asdict(request.settings),
        **({} if request.crop_to_regions else {"whole_picture": True}),
    }


def _described(given: Prompts | TracePrompt) -> dict[str, Any]:
    """An object as ``run.json`` has it."""
    if isinstance(given, TracePrompt):
        trace = [list(point) for point in given.points]
        return {"trace": trace, "width": given.width, **({"dark": True} if given.dark else {})}
    return {
        "box": None if given.box is None else np.asarray(given.box).tolist(),
        "points": np.column_stack([given.point_coords, given.point_labels]).tolist(),
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
        path = self.folder.root / CLASSES_FILE
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
        noted: dict[str, Any] = {
            "sha256": place.sha256 or content_hash(source) or "",
            "group": "" if place.is_hidden else group,
        }
        broken: list[str] = []
        try:
            with open_frames(source) as frames:
                noted["group"] = frames.about.group or noted["group"]
                paths = [label_path]
                if len(frames) > 1:
                    loop = label_path.with_suffix("")
                    paths = [loop / f"{index:04d}.png" for index in range(len(frames))]
                label_path = next(filter(os.path.lexists, paths), paths[0])
                kept = self._is_kept(source, place, label_path)
                if len(frames) > 1 and (counts := self._counts(place, len(frames), kept)):
                    noted["frames"] = counts
                    written, message, broken = self._write_loop(frames, place, paths, noted)
                    objects, kept = counts.total, not written
                elif not kept:
                    objects, message = self._write(frames, 0, place, label_path, noted)
                if kept:
                    self.run.found_again(place, **noted)
                    entry = self.run.entry(place.image_id)
                    objects, message = int(entry.get("objects", 0)), entry.get("message", "")
                    status: Status = "failed" if broken else "kept"
                    return FileResult(source, label_path, status, objects, message=message)
        except Exception as error:  # whatever a damaged file sets off, the other files are done
            message = _without_path(error, source)
            if place.standing != "taken" and not os.path.lexists(label_path):
                noted.pop("frames", None)
                self.run.record(place, "failed", **noted, message=message)
            return FileResult(source, label_path, "failed", message=message)
        seconds = time.perf_counter() - started
        message = " ".join(filter(None, ("; ".join(broken), message)))
        what = {"objects": objects, "seconds": round(seconds, 4), "message": message}
        self.run.record(place, "done", **noted, **what)
        label_path = next(filter(os.path.lexists, paths), label_path)
        status = "failed" if broken else "done"
        return FileResult(source, label_path, status, objects, seconds, message)

    def _counts(self, place: ImageId, length: int, kept: bool) -> FrameCounts | None:
        """Objects of a loop's frames that an earlier run wrote; None where it kept no count."""
        entry = self.run.entry(place.image_id)
        goes_on = kept or (entry.get("status") == "writing" and place.standing == "known")
        if not goes_on or self.request.overwrite:
            return FrameCounts(length)
        if "frames" not in entry and kept:  # of an older version of the program
            return None
        return FrameCounts(length, str(entry.get("frames", "")))

    def _write_loop(
        self, frames: Frames, place: ImageId, paths: Sequence[Path], noted: Mapping[str, Any]
    ) -> tuple[int, str, list[str]]:
        """Write a label map for each frame of a loop that has none yet.

        Args:
            frames: of the loop.
            place: its id.
            paths: of their label maps.
            noted: for ``run.json``; its "frames" are counted on.

        Returns:
            How many were written, what a person should know, and what is wrong with frames that
            have none; a broken frame costs no other.
        """
        counts: FrameCounts = noted["frames"]
        written, notes, broken = 0, dict[str, None](), list[str]()
        for index, path in enumerate(paths):
            if counts.of[index] is not None and os.path.lexists(path):
                continue  # written before the run was interrupted
            counts.of[index] = None
            try:
                counts.of[index], message = self._write(frames, index, place, path, noted)
            except ImageReadError as error:
                broken.append(_without_path(error, frames.path))
                continue
            written += 1
            self.run.save_now_and_then()
            notes |= dict.fromkeys(filter(None, [message]))
        if len(broken) == len(frames):
            raise ImageReadError(frames.path, broken[0])
        return written, " ".join(notes), broken

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
        status = self.run.entry(place.image_id).get("status")
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
        self,
        frames: Frames,
        index: int,
        place: ImageId,
        label_path: Path,
        noted: Mapping[str, Any],
    ) -> tuple[int, str]:
        """Write a frame's label map; how many objects are in it, and what a person should know."""
        root = self.folder.root
        picture = root / "overlays" / label_path.relative_to(root)
        self.folder.check(label_path, *([picture] if self.request.overlay else []))
        image = as_shown(frames.path, frames.stored(index))
        regions = frames.about.regions if self.request.crop_to_regions else ()
        items, said = self.propose(image, fields_of_view(regions, image.shape[:2]))
        values = {item.name.lower(): item.class_id for item in self.classes}
        class_ids = [values[item.phrase.lower()] for item in items]
        labels = compose(items, class_ids, image.shape[:2])
        self.run.begin(place, **noted)
        write_labels(label_path, labels, self.folder.write)
        if self.request.overlay:
            write_overlay(picture, image, labels, self.classes, self.folder.write)
        notes = [
            *said,
            *(
                f"'{item.name}' was found only under what scores better."
                for item in self.classes
                if item.class_id in class_ids and not (labels == item.class_id).any()
            ),
        ]
        return len(items), " ".join(notes)


def _names(classes: Iterable[LabelClass]) -> dict[int, str]:
    return {item.class_id: item.name for item in classes}


def _without_path(error: Exception, source: Path) -> str:
    """An error's words without the file's name, which whoever shows the result gives."""
    if isinstance(error, UsgsegError):
        return str(error).removeprefix(f"{readable(source)}: ")
    return words_of(error, source)


def _sentence(note: str, source: Path) -> str:
    """What a reader noticed about a file, without the file's name."""
    text = note.removeprefix(f"{source}: ")
    return f"{text[:1].upper()}{text[1:]}."


RUN_FILE = "run.json"
SCHEMA = 1
SECONDS_BETWEEN = 5.0
"""Seconds between two writings of the file while a loop is segmented."""
PACKAGES = ("napari-usgseg", "sam2", "torch", "transformers", "numpy")
"""Whose versions are noted, beside Python's."""

Standing = Literal["new", "known", "unproved", "replaced", "taken"]


@dataclass(frozen=True, slots=True)
class ImageId:
    """The id of an image, and what is known of it.

    Attributes:
        image_id: for its label map.
        standing: "new": no earlier run has the id. "known": it had it, with this content.
            "unproved": it had it, and the content was not noted then. "replaced": another content
            had it at this path. "taken": an image that had this one's name before, and now has
            another, keeps the id.
        sha256: of its file; None where there was no earlier run to compare with.
        source: where it is, whatever the way there (a link to one is at its own place); a hash of
            that where it repeats who the patient is.
        is_hidden: whether it is such a hash.
    """

    image_id: str
    standing: Standing
    sha256: str | None = field(default=None, compare=False)
    source: str = field(default="", compare=False)
    is_hidden: bool = field(default=False, compare=False)


def content_hash(path: Path) -> str | None:
    """The SHA-256 of a file; None where it cannot be read."""
    try:
        return sha256_of(path)
    except OSError:
        return None


def match_ids(
    sources: Sequence[Path],
    earlier: Mapping[str, Mapping[str, Any]],
    groups: Mapping[Path, str],
    *,
    anew: bool,
) -> list[ImageId]:
    """The id of each image.

    Args:
        sources: each once.
        earlier: id -> "source" and "sha256" of an image, as ``run.json`` has them.
        groups: the folder of an image below the one that was searched, a part of its id.
        anew: all is done again, so that an image may have the id that its name or its path gives,
            which another one had.
    """
    hidden = [hidden_name(source) for source in sources]
    paths = [
        name or str(source.parent.resolve() / source.name)
        for source, name in zip(sources, hidden, strict=True)
    ]
    contents = [content_hash(source) if earlier else None for source in sources]
    wanted = [
        _wanted_ids(source, groups, name) for source, name in zip(sources, hidden, strict=True)
    ]
    names = [_keys(own) for own in wanted]
    here, stems = set(paths), {own[0] for own in names}
    at_path = {str(entry.get("source")): image_id for image_id, entry in earlier.items()}
    free = set(earlier)
    if anew:  # an id that another image has by its name is that image's again
        free -= {
            image_id
            for path, own in zip(paths, names, strict=True)
            if (image_id := at_path.get(path)) and _key(image_id) in stems.difference(own)
        }
    held = tuple(free)
    found: dict[int, ImageId] = {}

    def claim(index: int, image_id: str, standing: Standing) -> None:
        found[index] = ImageId(
            image_id, standing, contents[index], paths[index], hidden[index] is not None
        )
        free.discard(image_id)

    # The image that was at this place, if it is the same, has its id.
    for index, path in enumerate(paths):
        image_id = at_path.get(path)
        if image_id in free:
            noted = earlier[image_id].get("sha256")
            if noted is None:
                claim(index, image_id, "unproved")
            elif noted == contents[index]:
                claim(index, image_id, "known")
    # One that was moved or renamed has the id of its content; of several, that of its file name.
    for index, content in enumerate(contents):
        if index in found or content is None:
            continue
        alike = [
            image_id
            for image_id, entry in earlier.items()
            if entry.get("sha256") == content
            and image_id in free
            and not (anew and entry.get("source") in here)
        ]
        name = sources[index].name
        alike.sort(key=lambda image_id: Path(str(earlier[image_id].get("source"))).name != name)
        if alike:
            claim(index, alike[0], "known")
    # What is left at a known place is another image; an id that went elsewhere is not free for it.
    for index, path in enumerate(paths):
        image_id = at_path.get(path)
        if index not in found and image_id in free:
            claim(index, image_id, "replaced")
    lent = {
        key: place.image_id
        for index, place in found.items()
        if (key := _key(place.image_id)) not in names[index]
    }
    for index, own in enumerate(names):
        if index not in found and own[0] in lent:
            claim(index, lent[own[0]], "taken")
    rest = [index for index in range(len(sources)) if index not in found]
    new = _numbered([sources[index] for index in rest], [wanted[index] for index in rest], held)
    for index, name in zip(rest, new, strict=True):
        claim(index, name, "new")
    return [found[index] for index in range(len(sources))]


def unique_ids(
    sources: Sequence[Path], taken: Iterable[str] = (), groups: Mapping[Path, str] | None = None
) -> list[str]:
    """A safe file name for each image: its stem, with more of its path where stems meet.

    No two differ by case or the form of umlauts only. The order of ``sources`` does not matter.

    Args:
        sources: each once.
        taken: ids that others have.
        groups: of an image, folders that are a part of its id: "patient 2/b" gives "patient 2-b-".
    """
    wanted = [_wanted_ids(path, groups or {}, hidden_name(path)) for path in sources]
    return _numbered(sources, wanted, taken)


def _numbered(
    sources: Sequence[Path], wanted: Sequence[tuple[str, str, str]], taken: Iterable[str]
) -> list[str]:
    """Of what each may be called the first that no other is, numbered where there is none."""
    used = set(_keys(taken))
    ids: dict[int, str] = {}
    for way in range(3):
        waiting = [index for index in range(len(sources)) if index not in ids]
        keys = _keys(wanted[index][way] for index in waiting)
        counts = Counter(keys)
        for index, key in zip(waiting, keys, strict=True):
            if counts[key] == 1 and key not in used:
                ids[index] = wanted[index][way]
        used |= set(_keys(ids.values()))
    for index in sorted(range(len(sources)), key=lambda index: natural_order(str(sources[index]))):
        if index not in ids:
            ids[index] = numbered_name(wanted[index][1], used)
    return [ids[index] for index in range(len(sources))]


def _wanted_ids(path: Path, groups: Mapping[Path, str], hidden: str | None) -> tuple[str, str, str]:
    """What an image may be called, best first."""
    if hidden is not None:
        return hidden, hidden, hidden
    before = "".join(f"{part}-" for part in groups.get(path, "").split("/") if part)
    stem, name = plain_stem(path), path.name
    in_folder = f"{path.parent.name}-{stem}"
    return (
        safe_file_name(before + stem),
        safe_file_name(before + name),
        safe_file_name(before + in_folder),
    )


def _key(image_id: str) -> str:
    return same_name_key(image_id, ignore_case=True)


def _keys(image_ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(_key, image_ids))


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from writing label maps into ``folder`` meanwhile.

    Raises:
        LabelWriteError: another one does already, or a person's file has the lock's name.
    """
    path = folder / ".lock"
    if path.is_symlink() or (path.exists() and (path.is_dir() or path.stat().st_size > 0)):
        raise LabelWriteError(path, "is no lock of this program; choose another folder")
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise LabelWriteError(
            folder, "another usgseg writes label maps here now; wait for it, or choose another"
        ) from error
    except (OSError, NotImplementedError):  # no locks here; a read-only folder is told of elsewhere
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            Path(lock.lock_file).unlink()
        lock.release()


class FrameCounts:
    """Objects of each frame of a loop, as ``run.json`` has them: "1 2 - 0".

    Args:
        length: frames of the loop.
        text: of an earlier run; that of a loop of another length says nothing.

    Attributes:
        of: by frame; None where there is no label map.
    """

    def __init__(self, length: int, text: str = "") -> None:
        known = [int(word) if word.isdecimal() else None for word in text.split()]
        self.of: list[int | None] = known if len(known) == length else [None] * length

    @property
    def total(self) -> int:
        """Of all frames."""
        return sum(count or 0 for count in self.of)

    def __str__(self) -> str:
        return " ".join("-" if count is None else str(count) for count in self.of)


class RunFile:
    """The ``run.json`` of one output folder, saved by atomic replacement while files are done.

    Attributes:
        earlier: id -> what an earlier run noted of the image, whatever it was asked for.
    """

    def __init__(
        self,
        out: OutputFolder,
        request: dict[str, Any],
        files: dict[str, Any],
        earlier: dict[str, Any],
    ) -> None:
        self.earlier = earlier
        self._out = out
        self._request = request
        self._files = files
        self._versions = versions()
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._started = self._saved = time.perf_counter()

    @classmethod
    def open(cls, out: OutputFolder, request: dict[str, Any], *, overwrite: bool) -> RunFile:
        """Start a run, or go on with an earlier one of the same request; nothing is written yet.

        With ``overwrite`` the label maps of another request may be replaced.

        Raises:
            LabelWriteError: the folder holds the label maps of another request, which are not to be
                replaced, or a ``run.json`` that is none of this program.
        """
        path = out.root / RUN_FILE
        earlier = _read_run(path) if os.path.lexists(path) else {"request": request, "files": {}}
        if earlier["request"] == request:
            return cls(out, request, dict(earlier["files"]), earlier["files"])
        if not overwrite and _holds_labels(earlier):
            raise LabelWriteError(
                path,
                "this folder holds the label maps of another request "
                f"({_summary(earlier)}); choose another folder, or replace them (--overwrite)",
            )
        return cls(out, request, {}, earlier["files"])

    def start(self) -> None:
        """Write the file; one of an older version of the program is known as its own from now on.

        Raises:
            LabelWriteError: it may not or cannot be written.
        """
        self._out.adopt(self._out.root / RUN_FILE)
        self.save()

    def entry(self, image_id: str) -> Mapping[str, Any]:
        """What a run of this request says of an image; empty where it says nothing."""
        found: Mapping[str, Any] = self._files.get(image_id, {})
        return found

    def begin(self, place: ImageId, **details: Any) -> None:
        """Say once that this image's label maps are about to be written."""
        is_said = self.entry(place.image_id).get("status") == "writing"
        self.record(place, "writing", **details)
        if not is_said:
            self.save()

    def record(self, place: ImageId, status: str, **details: Any) -> None:
        """Note what became of an image; saved with the next ``begin``, or by ``save``."""
        entry = {"source": place.source, "status": status, **details}
        self._files[place.image_id] = {key: value for key, value in entry.items() if value != ""}

    def found_again(self, place: ImageId, **details: Any) -> None:
        """Note where an image is now whose label map is kept."""
        now = {"source": place.source, **details}
        self._files[place.image_id] |= {key: value for key, value in now.items() if value != ""}

    def save_now_and_then(self) -> None:
        """Write the file where that was some time ago; what is not in it is done again."""
        if time.perf_counter() - self._saved > SECONDS_BETWEEN:
            self.save()

    def save(self) -> None:
        """Write the file as it stands.

        Raises:
            LabelWriteError: it may not or cannot be written.
        """
        card = {
            "schema": SCHEMA,
            "request": self._request,
            "versions": self._versions,
            "started": self._started_at,
            "seconds": round(time.perf_counter() - self._started, 3),
            "files": self._files,
        }
        data = (json.dumps(card, indent=1, default=str) + "\n").encode()
        self._out.write(self._out.root / RUN_FILE, data)
        self._saved = time.perf_counter()


def _read_run(path: Path) -> dict[str, Any]:
    """A run file.

    Raises:
        LabelWriteError: it is none of this program, or of a newer version.
    """
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        ours = card["schema"] == SCHEMA and isinstance(card["request"], dict)
        ours = ours and all(isinstance(entry, dict) for entry in card["files"].values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        ours = False
    if not ours or path.is_symlink():
        raise LabelWriteError(
            path, "is no run file of this program and is left as it is; choose another folder"
        )
    return dict(card)


def _holds_labels(card: dict[str, Any]) -> bool:
    return any(entry.get("status") != "failed" for entry in card["files"].values())


def _summary(card: dict[str, Any]) -> str:
    text = card["request"].get("text")
    return f"'{text}'" if text else "boxes and points"


def versions() -> dict[str, str]:
    """The versions of what a run depends on; "absent" where it is not installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


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
