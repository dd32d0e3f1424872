"""``run.json``: what a batch was asked for, with which models, and what became of each file.

    {"schema": 1, "request": {...}, "versions": {...}, "started": "...", "seconds": 1.2,
     "files": {"a": {"source": "/scans/a.png", "sha256": "...", "status": "done", "objects": 1}}}

``sha256`` is of the image's file; runs of older versions have none.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from ..core.errors import LabelWriteError
from ..io.names import numbered_name, safe_file_name, same_name_key
from ..io.outputs import OutputFolder
from ..io.search import natural_order

RUN_FILE = "run.json"
SCHEMA = 1
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
    """

    image_id: str
    standing: Standing


def place_of(path: Path) -> str:
    """Where an image is, whatever the way there; a link to one is at its own place."""
    return str(path.parent.resolve() / path.name)


def content_hash(path: Path) -> str | None:
    """The SHA-256 of a file; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
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
    paths = [place_of(source) for source in sources]
    contents = [content_hash(source) if earlier else None for source in sources]
    names = [_keys(_names(source, groups)) for source in sources]
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
        found[index] = ImageId(image_id, standing)
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
            found[index] = ImageId(lent[own[0]], "taken")
    rest = [index for index in range(len(sources)) if index not in found]
    new = unique_ids([sources[index] for index in rest], held, groups)
    found |= {index: ImageId(name, "new") for index, name in zip(rest, new, strict=True)}
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
    wanted = [_names(path, groups or {}) for path in sources]
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


def _names(path: Path, groups: Mapping[Path, str]) -> tuple[str, str, str]:
    """What an image may be called, best first."""
    before = "".join(f"{part}-" for part in groups.get(path, "").split("/") if part)
    stem, name, in_folder = path.stem, path.name, f"{path.parent.name}-{path.stem}"
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
        self._started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._started = time.perf_counter()

    @classmethod
    def open(cls, out: OutputFolder, request: dict[str, Any], *, overwrite: bool) -> RunFile:
        """Start a run, or go on with an earlier one of the same request; nothing is written yet.

        With ``overwrite`` the label maps of another request may be replaced.

        Raises:
            LabelWriteError: the folder holds the label maps of another request, which are not to be
                replaced, or a ``run.json`` that is none of this program.
        """
        path = out.root / RUN_FILE
        earlier = _read(path) if os.path.lexists(path) else {"request": request, "files": {}}
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

    def status(self, image_id: str) -> str | None:
        """What a run of this request says of an image ("done", "writing", ...)."""
        status: str | None = self._files.get(image_id, {}).get("status")
        return status

    def objects(self, image_id: str) -> int:
        """How many objects the earlier run found."""
        return int(self._files[image_id].get("objects", 0))

    def begin(self, image_id: str, source: Path, **details: Any) -> None:
        """Say that this image's label map is about to be written."""
        self.record(image_id, source, "writing", **details)
        self.save()

    def record(self, image_id: str, source: Path, status: str, **details: Any) -> None:
        """Note what became of an image; saved with the next ``begin``, or by ``save``."""
        entry = {"source": place_of(source), "status": status, **details}
        self._files[image_id] = {key: value for key, value in entry.items() if value != ""}

    def found_again(self, image_id: str, source: Path, **details: Any) -> None:
        """Note where an image is now whose label map is kept."""
        now = {"source": place_of(source), **details}
        self._files[image_id] |= {key: value for key, value in now.items() if value != ""}

    def save(self) -> None:
        """Write the file as it stands.

        Raises:
            LabelWriteError: it may not or cannot be written.
        """
        card = {
            "schema": SCHEMA,
            "request": self._request,
            "versions": _versions(),
            "started": self._started_at,
            "seconds": round(time.perf_counter() - self._started, 3),
            "files": self._files,
        }
        data = (json.dumps(card, indent=1) + "\n").encode()
        self._out.write(self._out.root / RUN_FILE, data)


def _read(path: Path) -> dict[str, Any]:
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


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found
