"""Codec of proposals, patches and classes: JSON bodies, with arrays as blobs named by content.

``docs/format.md`` describes the blobs and documents byte by byte.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from ..core.errors import DatasetError
from ..core.types import LabelClass, Prompts
from ..segmentation.propose import Proposal
from .records import ClassTable, ImageProposal, LabelPatch, ProposedObject


def _keys(*same: str, **other: str) -> dict[str, str]:
    """Name in the code -> key on disk, for fields that are called the same and for others."""
    return {name: name for name in same} | other


TAGS: dict[str, tuple[type[Any], dict[str, str]]] = {
    "Draft": (ImageProposal, _keys("objects", "active", "pending", "model_id", "notes")),
    "DraftObject": (
        ProposedObject,
        _keys(
            "class_id", "prompts", "proposal", "by_hand", "number", "ppn", "drawn", is_asked="asked"
        ),
    ),
    "Prompts": (
        Prompts,
        _keys("point_coords", "point_labels", "box", "scribbles", "mask_input"),
    ),
    "Proposal": (
        Proposal,
        _keys("mask", "box", "score", "phrase", "iou_prediction", "low_res_logits"),
    ),
}
"""Tag on disk -> the record, and its fields: name in the code -> key on disk.

Tags and keys stay for good, whatever the classes and the fields are called in the code. A field
that is new here needs a default, for the documents of earlier versions lack it.
"""
_TAG_OF = {record: tag for tag, (record, _) in TAGS.items()}
SMALL = 8
"""Floats of two dimensions are a blob where both are at least this; fewer are written out."""
LEVEL = 4
"""Of zlib: 6 to 9 cost more time than they save space on masks and logits."""
KEPT_NAMES = 24
GREATEST = 6e4
"""Logits beyond it are cut, for float16 ends at 65504."""


def packed(code: str, shape: tuple[int, ...], raw: bytes) -> tuple[str, bytes]:
    """A blob's name and its bytes."""
    head = code.encode() + struct.pack(f"<B{len(shape)}I", len(shape), *shape)
    return hashlib.sha256(head + raw).hexdigest(), head + zlib.compress(raw, LEVEL)


def pack_array(values: NDArray[Any]) -> tuple[str, bytes]:
    """A mask, logits or label values as a blob: its name and its bytes."""
    if values.dtype == np.bool_:
        return packed("b", values.shape, np.packbits(values, axis=-1).tobytes())
    if values.dtype.kind == "f":
        half = np.clip(values, -GREATEST, GREATEST).astype("<f2")
        # All low bytes first, then all high ones: sign and exponent hardly change from cell to
        # cell, and zlib finds that only where they stand side by side.
        return packed("e", values.shape, half.reshape(-1).view(np.uint8).reshape(-1, 2).T.tobytes())
    if values.dtype == np.uint8:
        return packed("B", values.shape, values.tobytes())
    return packed("H", values.shape, values.astype("<u2").tobytes())


def unpack(blob: bytes) -> Any:
    """What a blob holds: an array (logits as float32), or a document's JSON values."""
    code, dimensions = blob[:1], blob[1]
    begin = 2 + 4 * dimensions
    shape = struct.unpack(f"<{dimensions}I", blob[2:begin])
    raw = zlib.decompress(blob[begin:])
    if code == b"j":
        return json.loads(raw)
    if code == b"b":
        packed_shape = (*shape[:-1], (shape[-1] + 7) // 8)
        bits = np.frombuffer(raw, np.uint8).reshape(packed_shape)
        return np.unpackbits(bits, axis=-1, count=shape[-1]).astype(np.bool_)
    if code == b"e":
        pairs = np.ascontiguousarray(np.frombuffer(raw, np.uint8).reshape(2, -1).T)
        return pairs.view("<f2").reshape(shape).astype(np.float32)
    if code == b"B":
        # frombuffer's array is read-only; label maps are painted on.
        return np.frombuffer(raw, np.uint8).reshape(shape).copy()
    return np.frombuffer(raw, "<u2").reshape(shape).astype(np.uint16)


class Encoder:
    """Encoder of records to JSON values; ``keep`` is given the name and bytes of every blob.

    The names of arrays that were encoded lately are remembered, because a proposal shares nearly
    all of its masks with the one before.
    """

    def __init__(self, keep: Callable[[str, bytes], object]) -> None:
        self._keep = keep
        # By id and not by content: hashing and compressing each mask again at each click is what
        # this saves. Arrays are never changed once they are in a record.
        self._names: LRUCache[int, tuple[NDArray[Any], str]] = LRUCache(KEPT_NAMES)

    def array(self, values: NDArray[Any]) -> str:
        """The name of an array's blob."""
        known = self._names.get(id(values))
        if known is not None:  # the array is kept with its name, so its id is no other's
            return known[1]
        name, blob = pack_array(values)
        self._keep(name, blob)
        self._names[id(values)] = values, name
        return name

    def document(self, values: Any) -> str:
        """The name of a document's blob."""
        text = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
        name, blob = packed("j", (), text)
        self._keep(name, blob)
        return name

    def proposal(self, proposal: ImageProposal) -> str | None:
        """The name of the document of what is proposed; None for nothing."""
        if not proposal.objects and not proposal.notes:
            return None
        return self.document(self._values(proposal))

    def patch(self, patch: LabelPatch) -> dict[str, Any]:
        """A patch as a body."""
        return {
            "size": list(patch.size_hw),
            "row": patch.row,
            "column": patch.column,
            "before": self.array(patch.before),
            "after": self.array(patch.after),
        }

    def _values(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return self._array_values(value)
        if isinstance(value, tuple | list):
            return [self._values(item) for item in value]
        if type(value) in _TAG_OF:
            tag = _TAG_OF[type(value)]
            keys = TAGS[tag][1]
            named = {key: self._values(getattr(value, name)) for name, key in keys.items()}
            return {"kind": tag, **named}
        return value.item() if isinstance(value, np.generic) else value

    def _array_values(self, value: NDArray[Any]) -> dict[str, Any]:
        if value.dtype.kind in "bu" or (value.ndim == 2 and min(value.shape) >= SMALL):
            return {"blob": self.array(value)}
        flat = value.reshape(-1).tolist()
        return {"dtype": str(value.dtype), "shape": list(value.shape), "values": flat}


class Decoder:
    """Decoder of JSON values to records; ``read`` gives the bytes of a blob by its name."""

    def __init__(self, read: Callable[[str], bytes]) -> None:
        self._read = read

    def proposal(self, name: str | None) -> ImageProposal:
        """What is proposed in a document; None is nothing.

        Raises:
            DatasetError: it holds a record or a field that this version does not know.
        """
        return ImageProposal() if name is None else self._value(unpack(self._read(name)))

    def patch(self, body: dict[str, Any]) -> LabelPatch:
        """The patch of a body."""
        before, after = unpack(self._read(body["before"])), unpack(self._read(body["after"]))
        return LabelPatch(body["row"], body["column"], before, after, tuple(body["size"]))

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(self._value(item) for item in value)
        if not isinstance(value, dict):
            return value
        if "blob" in value:
            return unpack(self._read(value["blob"]))
        if "dtype" in value:
            return np.array(value["values"], value["dtype"]).reshape(value["shape"])
        return self._record(**value)

    def _record(self, kind: str, **values: Any) -> Any:
        if kind not in TAGS:
            raise _unknown(f"a record {kind!r}")
        record, keys = TAGS[kind]
        names = {key: name for name, key in keys.items()}
        strange = sorted(values.keys() - names.keys())
        if strange:  # to drop it would lose what a newer version wrote
            raise _unknown(f"a {kind!r} with {', '.join(strange)}")
        named = {names[key]: self._value(item) for key, item in values.items()}
        return _proposal(**named) if record is ImageProposal else record(**named)


def _proposal(pending: bool = False, **values: Any) -> ImageProposal:
    """What is proposed; earlier versions did not say of which object an answer is awaited."""
    proposal = ImageProposal(**values)
    if pending and not proposal.pending and (current := proposal.current) is not None:
        return proposal.putting(current, replace(current, is_asked=True))
    return proposal


def _unknown(what: str) -> DatasetError:
    return DatasetError(
        "project", f"its history holds {what}, which this version does not know; update it"
    )


def table_to_json(table: ClassTable) -> dict[str, Any]:
    """Classes as a body."""
    rows = [[item.class_id, item.name, item.color] for item in table.classes]
    gone = {"last": table.last} if table.last else {}
    return {"active": table.active, "classes": rows, **gone}


def table_from_json(body: dict[str, Any]) -> ClassTable:
    """Classes from a body."""
    classes = (LabelClass(int(row[0]), str(row[1]), str(row[2])) for row in body["classes"])
    return ClassTable(tuple(classes), int(body["active"]), int(body.get("last", 0)))
