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
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock, Timeout

from ..core.errors import DatasetError, LabelWriteError, UsgsegError, readable
from ..core.notes import listening
from ..core.types import LabelClass, Prompts
from ..io.atomic import sha256_of
from ..io.images import image_size
from ..io.labels import CLASSES_FILE, read_classes, read_labels, write_classes
from ..io.names import numbered_name, safe_file_name, same_name_key
from ..io.outputs import OutputFolder, file_identities
from ..io.reading.files import OpenFiles, hidden_name, plain_stem
from ..io.search import natural_order
from ..models.interfaces import Detector, Segmenter
from ..models.ppn.card import AutoSegmenter
from .request import (
    BatchRequest,
    Chunk,
    ChunkAnswer,
    FrameAnswer,
    Models,
    Work,
    without_path,
)
from .trace import TracePrompt

Status = Literal["done", "kept", "failed"]
Run = Callable[
    [Callable[[Chunk], ChunkAnswer], Iterable[Chunk]], Iterator[ChunkAnswer | UsgsegError]
]
"""Does a function on chunks, in their order, as ``map`` does; or says why a chunk had no answer."""


@dataclass(frozen=True, slots=True)
class FileResult:
    """Result of one file; ``message`` says why it failed, or what the models had to say."""

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
    run: Run = map,
    answer: Callable[[Chunk], ChunkAnswer] | None = None,
    at_once: int = 1,
) -> Iterator[FileResult]:
    """Segment ``sources`` into ``out``, yielding what became of each as soon as it is known.

    Wherever frames are answered, this process alone writes, each file once and whole.

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
        run: has chunks of frames answered, here or on other machines (``jobs.cluster``).
        answer: for ``run``; None takes the models of this process.
        at_once: frames in a chunk at most; what is interrupted is done again by chunks.

    Raises:
        PromptError: the request has neither a phrase nor an object, or a phrase and no detector.
        LabelWriteError: ``out`` is a folder of the images or a project's, holds the label maps of
            another request, is being written by another process, or cannot be written.
    """
    work = Work(Models(segmenter, detector, auto), request)
    check_place(out, sources, searched, overlay=request.overlay)
    # Whether a label map may be replaced, `_Batch` says of each; the other files always may be.
    folder = OutputFolder(out, reads=[*sources, *reads], overwrite=True)
    asked = _describe(segmenter, detector, request) | ({"ppn": auto.model_id} if auto else {})
    folder.check_writable()
    groups = groups or {}
    with alone_in(out):
        run_file = RunFile.open(folder, asked, overwrite=request.overwrite)
        batch = _Batch(folder, run_file, request, work.classes, work.files)
        batch.start()
        ids = match_ids(sources, run_file.earlier, groups, anew=request.overwrite)
        waiting: deque[_FileWork] = deque()

        def chunks() -> Iterator[Chunk]:
            for source, place in zip(sources, ids, strict=True):
                file = batch.plan(source, place, groups.get(source, ""))
                waiting.append(file)
                # One chunk at least, be it empty: answers come by chunk, and a file that has
                # nothing to do must be told in its turn.
                yield file.next_chunk(at_once)
                while file.indices:
                    yield file.next_chunk(at_once)

        try:
            for found in run(answer or work.answer, chunks()):
                batch.take(waiting, found)
                if waiting[0].is_done:
                    yield batch.finish(waiting.popleft())
        finally:
            work.files.close()
            run_file.save()


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
        # The folder of a link and that of what it leads to.
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


@dataclass(slots=True, eq=False)
class _FileWork:
    """One file at work.

    Attributes:
        source: the file.
        place: its id.
        paths: of its label maps, one for each frame.
        noted: for ``run.json``; the "frames" of a loop are counted on.
        indices: of the frames that are to be asked for yet.
        asked: of those that were, by chunk, until their answers come.
        counts: objects by frame; None where all is kept.
        is_kept: an earlier run was done with it.
        written: label maps.
        said: what a person should know of its objects.
        noticed: what readers remarked.
        broken: what is wrong with frames that have no label map.
        failure: why it failed as a whole.
        seconds: of work, wherever it was done.
    """

    source: Path
    place: ImageId
    paths: list[Path]
    noted: dict[str, Any] = field(default_factory=dict)
    indices: deque[int] = field(default_factory=deque)
    asked: deque[tuple[int, ...]] = field(default_factory=deque)
    counts: FrameCounts | None = None
    is_kept: bool = False
    written: int = 0
    said: dict[str, None] = field(default_factory=dict)
    noticed: dict[str, None] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    failure: str | None = None
    seconds: float = 0.0

    @property
    def at(self) -> Path:
        """The file's whole path, for whoever works on it."""
        return Path(os.path.abspath(self.source))

    @property
    def label_path(self) -> Path:
        """The first of its label maps that is there, or may be."""
        return next(filter(os.path.lexists, self.paths), self.paths[0])

    @property
    def is_done(self) -> bool:
        """Whether every frame was asked for and answered."""
        return not self.indices and not self.asked

    def next_chunk(self, at_once: int) -> Chunk:
        """Frames to ask for; none where nothing is to be done."""
        count = min(at_once, len(self.indices))
        chunk = Chunk(self.at, tuple(self.indices.popleft() for _ in range(count)))
        self.asked.append(chunk.indices)
        return chunk


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """One request at work in one folder."""

    folder: OutputFolder
    run: RunFile
    request: BatchRequest
    classes: Sequence[LabelClass]
    files: OpenFiles

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

    def plan(self, source: Path, place: ImageId, group: str) -> _FileWork:
        """What is to be done for an image; whatever is wrong with it is in the result."""
        started = time.perf_counter()
        file = _FileWork(source, place, [self.folder.root / f"{place.image_id}.png"])
        file.noted = {
            "sha256": place.sha256 or content_hash(source) or "",
            "group": "" if place.is_hidden else group,
        }
        with listening() as notes:
            try:
                self._plan(file)
            except Exception as error:  # whatever a damaged file sets off, the others are done
                self._fail(file, without_path(error, file.at))
        file.noticed |= dict.fromkeys(text for _, text in notes)
        file.seconds += time.perf_counter() - started
        return file

    def _plan(self, file: _FileWork) -> None:
        length, about = self.files.use(file.at, lambda frames: (len(frames), frames.about))
        file.noted["group"] = about.group or file.noted["group"]
        if length > 1:
            loop = file.paths[0].with_suffix("")
            file.paths = [loop / f"{index:04d}.png" for index in range(length)]
        file.is_kept = self._is_kept(file.source, file.place, file.label_path)
        if length > 1:
            file.counts = self._counts(file.place, length, file.is_kept)
        elif not file.is_kept:
            file.counts = FrameCounts(1)
        if file.counts is None:
            return
        if length > 1:
            file.noted["frames"] = file.counts
        for index, path in enumerate(file.paths):
            if file.counts.of[index] is not None and os.path.lexists(path):
                continue  # written before the run was interrupted
            file.counts.of[index] = None
            self.folder.check(path, *([self._picture(path)] if self.request.overlay else []))
            file.indices.append(index)

    def take(self, waiting: Sequence[_FileWork], found: ChunkAnswer | UsgsegError) -> None:
        """Write the label maps of a chunk's frames; a broken frame costs no other.

        Args:
            waiting: files at work; the chunk is the first one's.
            found: its answer.
        """
        file = waiting[0]
        started = time.perf_counter()
        indices = file.asked.popleft()
        if file.failure is not None or not indices:
            return
        if isinstance(found, UsgsegError):
            found = ChunkAnswer((FrameAnswer(problem=str(found)),) * len(indices))
        file.noticed |= dict.fromkeys(found.noticed)
        answered = list(zip(indices, found.frames, strict=False))
        file.broken += [f.problem for _, f in answered if f.problem and not f.is_whole]
        try:
            whole = [(index, frame) for index, frame in answered if not frame.problem]
            if whole:
                # ``run.json`` says that the file is being written before it appears, so that a run
                # that was killed knows it for its own.
                self.run.begin(file, *(f for f in waiting if not (f.is_kept or f.failure)))
                self._write(file, whole)
        except Exception as error:  # as in `plan`
            self._fail(file, without_path(error, file.at))
            return
        file.seconds += found.seconds + time.perf_counter() - started
        if answered and answered[-1][1].is_whole:
            self._fail(file, answered[-1][1].problem)

    def _write(self, file: _FileWork, frames: Sequence[tuple[int, FrameAnswer]]) -> None:
        assert file.counts is not None
        files = []
        for index, frame in frames:
            files.append((file.paths[index], frame.labels))
            if frame.overlay:
                files.append((self._picture(file.paths[index]), frame.overlay))
        self.folder.write_all(files)
        for index, frame in frames:
            file.counts.of[index] = frame.objects
            file.said |= dict.fromkeys(frame.notes)
        file.written += len(frames)
        if len(file.paths) > 1:
            self.run.save_now_and_then()

    def _picture(self, label_path: Path) -> Path:
        root = self.folder.root
        return root / "overlays" / label_path.relative_to(root)

    def finish(self, file: _FileWork) -> FileResult:
        """Note in ``run.json`` what became of an image."""
        if len(file.broken) == len(file.paths):
            self._fail(file, file.broken[0])
        noticed = [f"{text[:1].upper()}{text[1:]}." for text in file.noticed]
        if file.failure is not None:
            message = " ".join([file.failure, *noticed])
            return FileResult(file.source, file.label_path, "failed", message=message)
        status: Status = "failed" if file.broken else "done"
        if file.is_kept and not file.written:
            self.run.found_again(file.place, **file.noted)
            entry = self.run.entry(file.place.image_id)
            status = "failed" if file.broken else "kept"
            message = " ".join([*filter(None, [entry.get("message", "")]), *noticed])
            objects = int(entry.get("objects", 0))
            return FileResult(file.source, file.label_path, status, objects, message=message)
        message = " ".join(filter(None, ["; ".join(file.broken), *file.said]))
        objects = file.counts.total if file.counts is not None else 0
        what = {"objects": objects, "seconds": round(file.seconds, 4), "message": message}
        self.run.record(file.place, "done", **file.noted, **what)
        message = " ".join(filter(None, [message, *noticed]))
        return FileResult(file.source, file.label_path, status, objects, file.seconds, message)

    def _fail(self, file: _FileWork, message: str) -> None:
        file.failure = message
        file.indices.clear()
        # Of a label map that is there, an earlier entry is worth more than this failure.
        if file.place.standing != "taken" and not os.path.lexists(file.label_path):
            file.noted.pop("frames", None)
            self.run.record(file.place, "failed", **file.noted, message=message)

    def _counts(self, place: ImageId, length: int, kept: bool) -> FrameCounts | None:
        """Objects of a loop's frames that an earlier run wrote; None where it kept no count."""
        entry = self.run.entry(place.image_id)
        goes_on = kept or (entry.get("status") == "writing" and place.standing == "known")
        if not goes_on or self.request.overwrite:
            return FrameCounts(length)
        if "frames" not in entry and kept:  # of an older version of the program
            return None
        return FrameCounts(length, str(entry.get("frames", "")))

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


def _names(classes: Iterable[LabelClass]) -> dict[int, str]:
    return {item.class_id: item.name for item in classes}


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

    def begin(self, file: _FileWork, *next_ones: _FileWork) -> None:
        """Say once that this image's label maps are about to be written, and soon the next ones'.

        The whole file is written for it, which for many images must not be for each.
        """
        is_said = self.entry(file.place.image_id).get("status") == "writing"
        self.record(file.place, "writing", **file.noted)
        if not is_said:
            for other in next_ones:
                self.record(other.place, "writing", **other.noted)
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
