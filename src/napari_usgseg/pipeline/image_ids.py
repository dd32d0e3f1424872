"""Which image a label map in a folder is of: known by the image's content, not by its path.

An id is the name of a label map's file. An image keeps the id that an earlier run gave it, also
where it was renamed or others joined it since. A file that took the place of another is not taken
for it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..io.names import numbered_name, safe_file_name, same_name_key
from ..io.search import natural_order

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

    for index, path in enumerate(paths):
        image_id = at_path.get(path)
        if image_id in free:
            noted = earlier[image_id].get("sha256")
            if noted is None:
                claim(index, image_id, "unproved")
            elif noted == contents[index]:
                claim(index, image_id, "known")
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
