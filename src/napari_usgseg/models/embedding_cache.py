"""Embeddings kept on disk, so that an image is encoded once and not once a day.

    <folder>/<model_id>/<key>.safetensors

``key`` names the pixels (``io.images.content_key``), ``model_id`` the weights, so a file can only
be right or damaged, never out of date. Features are kept in half precision. Files are replaced
atomically and carry a checksum; one that is torn, damaged or of somebody else is removed and made
anew. Where the folder grows over its limit, what was not used for longest goes; a file's time of
change says when it was used last, so several processes can share a folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
import time
import traceback
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import LabelWriteError
from ..core.types import ImageEmbedding
from ..io.atomic import write_atomically

FORMAT = "usgseg-embedding-1"
SUFFIX = ".safetensors"
DEFAULT_LIMIT_BYTES = 4 * 2**30
ROOM_AFTER_EVICTION = 0.9
"""Share of the limit that is left in use, so that not every new file means another look round."""
LOOK_EVERY_BYTES = 256 * 2**20
"""After so many bytes of its own a process looks what others have written meanwhile."""
ABANDONED_SECONDS = 3600.0
"""A temporary file older than this belongs to a process that was killed."""
WRITES_WAITING = 8
"""Embeddings that may wait for a slow disk; further ones are not kept."""


@dataclass(frozen=True, slots=True)
class CachePlace:
    """A folder for embeddings, and how large it may grow."""

    folder: Path
    limit_bytes: int = DEFAULT_LIMIT_BYTES


class EmbeddingCache:
    """The embeddings in a folder; safe from several threads and several processes.

    Nothing here raises for a fault of the disk: a cache that cannot be used only costs time.
    """

    def __init__(self, place: CachePlace) -> None:
        self.place = place
        self._guard = threading.Lock()
        self._unseen = LOOK_EVERY_BYTES  # so the first new file means a look round
        self._total = 0

    def path(self, key: str, model_id: str) -> Path:
        """Where the embedding of an image by a model is, or would be."""
        return self.place.folder / _safe(model_id) / f"{_safe(key)}{SUFFIX}"

    def get(self, key: str, model_id: str) -> ImageEmbedding | None:
        """The embedding with float32 features on the CPU, or None where it is not kept."""
        path = self.path(key, model_id)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        embedding = decode(data, key, model_id)
        with contextlib.suppress(OSError):
            if embedding is None:
                path.unlink()
            else:
                # Its time of change is the time of its last use: times of access are switched off
                # on many systems.
                os.utime(path)
        return embedding

    def put(self, embedding: ImageEmbedding) -> bool:
        """Keep an embedding; False where it cannot be (no room, not finite in half precision)."""
        data = encode(embedding)
        if data is None or len(data) > self.place.limit_bytes:
            return False
        try:
            path = self.path(embedding.image_id, embedding.model_id)
            write_atomically(path, data, overwrite=True)
        except LabelWriteError:
            return False
        self._make_room(len(data))
        return True

    def size_bytes(self) -> int:
        """What the folder holds now."""
        return sum(size for _, size, _ in self._files())

    def _make_room(self, added: int) -> None:
        """Remove the files used least recently where the limit is passed."""
        limit = self.place.limit_bytes
        with self._guard:
            self._total += added
            self._unseen += added
            # Own bytes are counted; the folder is walked only now and then, for that is slow with
            # thousands of files.
            if self._unseen < LOOK_EVERY_BYTES and self._total <= limit:
                return
            files = sorted(self._files())
            self._unseen, self._total = 0, sum(size for _, size, _ in files)
            if self._total <= limit:
                return
            for _, size, path in files:
                if self._total <= ROOM_AFTER_EVICTION * limit:
                    return
                with contextlib.suppress(OSError):
                    path.unlink()
                    self._total -= size

    def _files(self) -> list[tuple[int, int, Path]]:
        """(time of last use in ns, bytes, path) of every embedding; abandoned scraps go."""
        found = []
        too_old = time.time() - ABANDONED_SECONDS
        folders = (f for f in _inside(self.place.folder) if not f.is_symlink())
        for path in (path for folder in folders for path in _inside(folder)):
            with contextlib.suppress(OSError):
                status = path.lstat()
                if path.suffix == SUFFIX:
                    found.append((status.st_mtime_ns, status.st_size, path))
                elif path.suffix == ".tmp" and status.st_mtime < too_old:
                    path.unlink()
        return found


class CacheWriter:
    """Puts embeddings on the disk behind the back of whoever waits for a mask."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "usgseg-cache")
        self._room = threading.Semaphore(WRITES_WAITING)

    def put(self, cache: EmbeddingCache, embedding: ImageEmbedding) -> None:
        """Have an embedding kept; a disk that cannot follow keeps fewer."""
        # Never wait: whoever calls this has a mask to answer with.
        if self._room.acquire(blocking=False):
            self._thread.submit(self._write, cache, embedding)

    def finish(self) -> None:
        """Wait until all that was put is on the disk."""
        self._thread.submit(int).result()

    def _write(self, cache: EmbeddingCache, embedding: ImageEmbedding) -> None:
        try:
            cache.put(embedding)
        except Exception:
            traceback.print_exc(file=sys.stderr)  # an embedding that is not kept costs time only
        finally:
            self._room.release()


def encode(embedding: ImageEmbedding) -> bytes | None:
    """An embedding as a safetensors file; None where it is empty or beyond half precision."""
    if not embedding.features:
        return None
    import torch
    from safetensors.torch import save

    with torch.inference_mode():
        tensors = {
            name: tensor.detach().to("cpu", torch.float16).contiguous()
            for name, tensor in embedding.features.items()
        }
        # float16 ends at 65504; an embedding with infinities would be kept as a broken one for
        # good.
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            return None
        header = {
            "format": FORMAT,
            "key": embedding.image_id,
            "model_id": embedding.model_id,
            "size_hw": json.dumps([int(side) for side in embedding.size_hw]),
            "covered": json.dumps([float(share) for share in embedding.covered]),
            "checksum": _checksum(tensors),
        }
        return save(tensors, metadata=header)


def decode(data: bytes, key: str, model_id: str) -> ImageEmbedding | None:
    """What ``encode`` wrote; None where it is torn, damaged, or of another image or model."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        # The head of a safetensors file: its length in 8 bytes, then JSON. safetensors' own load
        # gives no metadata of bytes in memory.
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])["__metadata__"]
        tensors = load(data)
        height, width = json.loads(header["size_hw"])
        rows, columns = json.loads(header.get("covered", "[1.0, 1.0]"))
        expected = (header["format"], header["key"], header["model_id"], header["checksum"])
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if expected != (FORMAT, key, model_id, _checksum(tensors)):
        return None
    features = {name: tensor.to(torch.float32) for name, tensor in tensors.items()}
    size_hw, covered = (int(height), int(width)), (float(rows), float(columns))
    return ImageEmbedding(key, model_id, size_hw, features, covered)


def _inside(folder: Path) -> list[Path]:
    """What is in a folder; nothing where it is none, or cannot be read."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _checksum(tensors: dict[str, Any]) -> str:
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(name.encode(), value)
        value = zlib.crc32(tensors[name].numpy(), value)
    return f"{value:08x}"


def _safe(name: str) -> str:
    """A name that every file system takes; the file's header holds the whole one."""
    return re.sub(r"[^A-Za-z0-9_.@+-]", "_", name)[:120].strip(".") or "_"
