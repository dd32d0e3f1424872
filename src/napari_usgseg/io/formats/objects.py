"""Objects of label maps as they go out and come in, and files that formats share."""

from __future__ import annotations

import json
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from ...core.errors import DatasetError, FileError, readable
from ...core.geometry import components
from ...core.types import BoolArray, FloatArray, LabelClass
from ..images import card_entry
from ..labels import (
    MAX_INSTANCE,
    MAX_LABEL,
    STEP,
    Labelling,
    class_of,
    default_color,
    instance_of,
    read_classes,
    values_in,
    write_image,
)
from ..masks import fitted, same_shape
from ..names import hidden_or_appledouble
from ..outputs import OutputFolder
from ..search import natural_order
from .records import Entry, ExportAbout, ExportImage, LabelledImage, LabelledObject

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_BYTES = 1 << 30
"""A list of annotations of more bytes is none that is read at once."""
MAX_OBJECTS, MAX_OBJECT_PIXELS = 1000, 1 << 32
"""Objects of an image that are read at once, and the pixels (bytes) of their masks together."""
UTF8_ERRORS = "backslashreplace"
_MALFORMED = (
    ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, SyntaxError, TypeError,
    ValueError, Image.DecompressionBombError, struct.error, zlib.error,
)  # fmt: skip
"""What Python and its libraries raise on content that is not what they expect."""


@contextmanager
def malformed(path: Path, what: str) -> Iterator[None]:
    """Whatever is raised on the content of a file becomes a ``DatasetError`` that says ``what``."""
    try:
        yield
    except _MALFORMED as error:
        raise DatasetError(path, f"{what} ({type(error).__name__}: {error})") from error


def objects_of(item: ExportImage) -> Iterator[tuple[int, BoolArray]]:
    """Class and mask (H, W) of each object, or of each piece where objects are not told apart."""
    labels = item.labels if item.codes is None else item.codes
    for value in values_in(labels):
        if item.codes is not None and instance_of(value, "instance"):
            yield class_of(value, "instance"), labels == value
        else:  # a class, or a region of one, whose objects are not told apart
            for piece in pieces_of(labels == value):
                yield value, piece


def pieces_of(mask: BoolArray) -> Iterator[BoolArray]:
    """The connected pieces of a mask (H, W); the mask itself where it has more than 999.

    So many objects of a class an image has at most; what has more pieces is a region of speckle.
    """
    from scipy import ndimage

    count = ndimage.label(mask, np.ones((3, 3), int))[1]
    return components(mask, min_fraction=0) if count <= MAX_INSTANCE else iter((mask,))


def objects_in(path: Path, labels: NDArray[Any], labelling: Labelling) -> list[LabelledObject]:
    """The objects of a label map (H, W): each code, or all of a class in a semantic one.

    Raises:
        DatasetError: there are too many.
    """
    values = values_in(labels)
    check_count(path, len(values), labels.shape)
    return [LabelledObject(class_of(value, labelling), labels == value) for value in values]


def labelling_of(values: Iterable[int]) -> Labelling:
    """What the values of another program's label maps are, all together: codes or classes."""
    return "instance" if min(values, default=0) >= STEP else "semantic"


def check_count(path: Path, count: int, size_hw: Sequence[int]) -> None:
    """Refuse more objects in an image (H, W) than can be read, before any of their masks is made.

    Raises:
        DatasetError: there are more.
    """
    most = min(MAX_OBJECTS, MAX_OBJECT_PIXELS // max(1, size_hw[0] * size_hw[1]))
    if count > most:
        raise DatasetError(
            path,
            f"{count} objects in an image of {size_hw[1]}x{size_hw[0]} pixels; {most} are read at "
            "most: leave out the small ones, or join them",
        )


def box_of(corners: ArrayLike) -> FloatArray:
    """A box (4,) XYXY of numbers as a file has them.

    Raises:
        ValueError: one of them is none, or too large.
    """
    with np.errstate(over="ignore"):
        box = np.asarray(corners, np.float32)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise ValueError("a box of numbers that are none")
    return box


def image_entry(item: ExportImage) -> Entry:
    """What several formats say of an image: its files' name, size, group, side and pixel size."""
    height, width = item.labels.shape
    entry: Entry = {
        "file": item.file_name,
        "id": item.image_id,
        "width": width,
        "height": height,
        "group": item.group,
        "side": item.side,
    }
    if (spacing := card_entry(item.spacing_mm)) is not None:
        entry["pixel_size_mm"] = spacing
    return entry


def write_picture(folder: OutputFolder, place: str, item: ExportImage) -> str:
    """Write an image as ``<place>/<file name>.png``; gives the file's name."""
    file = f"{item.file_name}.png"
    write_image(folder.root / place / file, item.image, folder.write)
    return file


def write_text(folder: OutputFolder, place: str, text: str) -> None:
    """Write text as UTF-8; names that are none become escapes."""
    folder.write(folder.root / place, text.encode("utf-8", UTF8_ERRORS))


def write_json(folder: OutputFolder, place: str, content: Any, indent: int | None = None) -> None:
    """Write JSON as UTF-8."""
    write_text(folder, place, json.dumps(content, ensure_ascii=False, indent=indent) + "\n")


def numbered(about: ExportAbout) -> dict[int, int]:
    """Class number -> its place from 0, for formats that count classes without gaps."""
    return {value: index for index, value in enumerate(sorted(about.labels))}


def names_of(about: ExportAbout, *reserved: str) -> dict[int, str]:
    """Class number -> name, for formats that know classes by their names only.

    A name that two classes have, or that means something else there, has the number behind it.
    """
    counts = Counter(name.strip().casefold() for name in about.labels.values())
    taken = {*reserved, "", *(name for name, count in counts.items() if count > 1)}
    named = {}
    for value, name in sorted(about.labels.items()):
        while name.strip().casefold() in taken:
            name = f"{name.strip()} ({value})".strip()
        taken.add(name.strip().casefold())
        named[value] = name
    return named


def colors_of(about: ExportAbout) -> dict[int, str]:
    """Class number -> its colour "#rrggbb"."""
    known = {item.class_id: item.color for item in about.classes}
    return {value: known.get(value, default_color(value)) for value in sorted(about.labels)}


def classes_named(names: Mapping[int, str]) -> tuple[LabelClass, ...]:
    """Classes of number -> name."""
    return tuple(
        LabelClass(number, class_name(name, number), default_color(number))
        for number, name in names.items()
    )


def class_name(name: object, number: int) -> str:
    """A class's name as a file has it, on one line."""
    return readable(name).strip() or f"label {number}"


def own_classes(path: Path, found: Sequence[LabelClass]) -> tuple[LabelClass, ...]:
    """Classes as ``classes.json`` has them where it names the same ones, else as they are."""
    try:
        known = {item.name.casefold(): item for item in read_classes(path)}
    except DatasetError:
        return tuple(found)
    return tuple(
        LabelClass(item.class_id, item.name, known[item.name.casefold()].color)
        if item.name.casefold() in known
        else item
        for item in found
    )


def read_bytes(path: Path) -> bytes:
    """The bytes of a list of annotations.

    Raises:
        DatasetError: it cannot be read, or is too large.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DatasetError(path, f"has {size} bytes; expected {MAX_BYTES} at most: part it")
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(path, f"cannot be read ({error.strerror or error})") from error


def read_json(path: Path) -> Any:
    """The JSON in a file.

    Raises:
        DatasetError: it cannot be read, or is none.
    """
    try:
        return json.loads(read_bytes(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DatasetError(path, f"is no JSON ({error}); write it anew") from error


def folder_of(path: Path, card: str) -> Path:
    """The folder of a data set, which is named itself or by its card."""
    return path.parent if path.name == card else path


def holds(path: Path, *words: bytes, part: int = 1 << 20) -> bool:
    """Whether all of the words are at the beginning or the end of a file."""
    try:
        with path.open("rb") as file:
            data = file.read(part)
            file.seek(max(len(data), path.stat().st_size - part))
            data += file.read(part)
    except OSError:
        return False
    return all(word in data for word in words)


def files_below(folder: Path, *suffixes: str) -> list[Path]:
    """The files below a folder with one of the suffixes, hidden ones left out, in natural order."""
    found = [
        path
        for path in folder.rglob("*")
        if path.name.lower().endswith(suffixes)
        and not any(map(hidden_or_appledouble, path.relative_to(folder).parts))
        and path.is_file()
    ]
    return sorted(found, key=lambda path: natural_order(path.relative_to(folder).as_posix()))


def unreadable(path: Path, error: FileError) -> LabelledImage:
    """An image whose file is broken: it is said when it is its turn, and the others come in."""

    def read(size_hw: tuple[int, int]) -> list[LabelledObject]:
        raise error

    return LabelledImage(path, (path.name, path.name.partition(".")[0]), read)


def checked_size(path: Path, own: Sequence[int], size_hw: tuple[int, int]) -> tuple[int, int]:
    """The (H, W) that a file states, if it is the image's or the same at another scale.

    Raises:
        DatasetError: it is of another shape, or absurd.
    """
    height, width = (int(side) for side in own)
    least = min(height, width)
    if (height, width) == tuple(size_hw):
        return height, width
    absurd = least < 1 or height * width > 64 * size_hw[0] * size_hw[1]
    if absurd or not same_shape((height, width), size_hw):
        raise DatasetError(
            path,
            f"is of an image of {width}x{height} pixels, this one has {size_hw[1]}x{size_hw[0]}; "
            "they must be the same, or one shape at two scales: put back the image that it was "
            "made on",
        )
    return height, width


def at_size(path: Path, mask: BoolArray, size_hw: tuple[int, int]) -> BoolArray:
    """A mask at its image's (H, W), said where its scale is another (``io.masks.fitted``)."""
    return mask if mask.shape == size_hw else fitted(path, mask, size_hw).astype(bool)


def checked_number(path: Path, value: object) -> int:
    """A class's number.

    Raises:
        DatasetError: it is none.
    """
    try:
        number = int(str(value))
    except ValueError:
        number = -1
    if not 0 <= number <= MAX_LABEL:
        raise DatasetError(path, f"a class number {value!r}; expected 0 to {MAX_LABEL}")
    return number


def read_xml(path: Path) -> Element:
    """The root of an XML file.

    Raises:
        DatasetError: it cannot be read, is none, or declares a document type or entities, which
            could fill the memory or read other files.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        root: Element = fromstring(read_bytes(path), forbid_dtd=True)
    except DefusedXmlException as error:
        raise DatasetError(
            path, "declares a document type, which is not read; write it without"
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        raise DatasetError(path, f"is no XML ({error}); write it anew") from error
    return root


def xml_root(path: Path) -> str:
    """The name of an XML file's root, from its first bytes; "" where it is none."""
    from defusedxml.ElementTree import ParseError, iterparse

    if path.suffix.lower() == ".xml":
        with suppress(OSError, ParseError, ValueError, LookupError), path.open("rb") as file:
            for _, element in iterparse(file, events=("start",), forbid_dtd=True):
                return str(element.tag)
    return ""


def xml_text(value: object) -> str:
    """Text without the signs that XML cannot hold."""
    return "".join(sign if sign.isprintable() else "?" for sign in str(value))


def pack(labels: NDArray[Any]) -> bytes:
    """A label map that waits for the card, small: all classes are known with the last image."""
    return zlib.compress(labels.astype(np.uint16).tobytes(), 1)


def unpacked(entry: Entry) -> NDArray[np.uint16]:
    """The label map (H, W) that ``pack`` put into an entry's "labels"."""
    labels = np.frombuffer(zlib.decompress(entry["labels"]), np.uint16)
    return labels.reshape(entry["height"], entry["width"])
