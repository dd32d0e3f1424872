"""Images that a training process learns from: the accepted ones of a project.

The label maps are copied when it begins, so that it goes on with them whatever is labelled later.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import Cancelled, CheckpointError, DatasetError
from ...core.types import ImageEmbedding
from ...io.atomic import write_atomically
from ...io.groups import default_group
from ...io.images import content_key
from ...io.labels import labelling_in, semantic
from ...models.embedding_cache import CachePlace, EmbeddingCache
from ...models.grounding.phrases import as_phrase
from ...project.project import Project
from ...project.records import ImageState
from ...project.versions import LABELS_FILE

if TYPE_CHECKING:
    from ...models.interfaces import Segmenter
    from ..labelled import LabelledImage


MOST_IMAGES = 400
"""More are not held in memory; so many are drawn by the seed."""
EMBEDDING_BYTES = 2**30
"""Embeddings beyond this are made again when they are wanted."""
LARGE_EMBEDDING = 8 * 2**20
"""In bytes; an encoder that makes larger ones learns from no more images than fit."""


def read_images(
    folder: Path,
    request: Mapping[str, Any],
    segmenter: Segmenter,
    is_ending: Callable[[], bool],
) -> tuple[list[LabelledImage], str]:
    """The images with their label maps as they were when the training began; the project's name.

    Raises:
        UsgsegError: one is gone, or none is there.
        Cancelled: ``is_ending()`` turned true.
    """
    root = folder.parents[2] if request["annotator"] else folder.parents[1]
    with closing(Project(root, annotator=request["annotator"], write=False)) as store:
        return _read_images(folder, request, store, segmenter, is_ending), store.name


def _read_images(
    folder: Path,
    request: Mapping[str, Any],
    store: Project,
    segmenter: Segmenter,
    is_ending: Callable[[], bool],
) -> list[LabelledImage]:
    """The images with their label maps as they were when the training began."""
    from ..labelled import LabelledImage

    labels = _labels(folder, request, store)
    records = {record.image_id: record for record in store.records}
    cache = EmbeddingCache(
        CachePlace(store.root / "cache" / "embeddings", int(request["cache_bytes"]))
    )
    images: list[LabelledImage] = []
    room, size = EMBEDDING_BYTES, 0
    for image_id, values in labels.items():
        if room < size and size > LARGE_EMBEDDING:
            break  # the encoders of such are slow, and would see the others again and again
        if is_ending():
            raise Cancelled("stopped while images were read")
        if image_id not in records:
            raise DatasetError(store.folder, f"the image of {image_id} is gone; train again")
        record = records[image_id]
        pixels = store.read_image(record)
        key = content_key(pixels)
        embedding = None
        if room > 0:
            embedding = cache.get(key, segmenter.model_id)
            if embedding is None:
                embedding = segmenter.embed(pixels, key)
                if request["cache_bytes"]:
                    cache.put(embedding)
            size = nbytes(embedding)
            room -= size
        group = default_group(record, store.folder)
        images.append(LabelledImage(image_id, group, pixels, values, embedding))
    return images


def nbytes(embedding: ImageEmbedding) -> int:
    """Memory that an embedding takes."""
    return sum(tensor.nbytes for tensor in embedding.features.values())


def _labels(
    folder: Path, request: Mapping[str, Any], store: Project
) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """Image id -> class map (H, W); read from the project once, and from the copy afterwards."""
    path = folder / LABELS_FILE
    if not path.is_file():
        states = store.states()  # an accept may have been taken back since it was asked for
        accepted = (r for r in store.records if states[r.image_id] is ImageState.ACCEPTED)
        known = {record.image_id: record for record in accepted}
        ids = [image_id for image_id in request["images"] if image_id in known]
        drawn = random.Random(int(request["plan"]["seed"]))
        ids = drawn.sample(ids, min(len(ids), MOST_IMAGES))
        labelling = labelling_in(store.settings())
        found = {}
        for image_id in ids:
            labels = store.read_labels(known[image_id], take_in=False)
            if labels is not None:
                found[image_id] = semantic(labels, labelling)
        if not found:
            raise DatasetError(store.folder, "no accepted image here; accept some first")
        data = io.BytesIO()
        maps: dict[str, Any] = {f"m{n}": labels for n, labels in enumerate(found.values())}
        np.savez_compressed(data, names=np.array(list(found)), **maps)
        write_atomically(path, data.getvalue(), overwrite=True)
    try:
        with np.load(path, allow_pickle=False) as kept:
            return {str(name): kept[f"m{n}"] for n, name in enumerate(kept["names"])}
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); train again") from error


def classes_to_learn(
    images: list[LabelledImage], request: Mapping[str, Any], nameless: bool = True
) -> dict[int, str]:
    """The classes that are in enough images, by label value; no two of one name.

    Args:
        images: all of the training.
        request: of the training.
        nameless: also those that ``request`` has no name for.

    Raises:
        DatasetError: none is there.
    """
    from ..cross_validation import LEAST_HELD_OUT, partitions

    learnt = [images[index] for index in partitions(images)[0].train]
    counts: dict[int, int] = {}
    for image in learnt if len(images) >= LEAST_HELD_OUT else images:
        for value in np.unique(image.labels).tolist():
            counts[value] = counts.get(value, 0) + 1
    counts.pop(0, None)
    names = request["classes"]
    if not nameless:
        counts = {v: n for v, n in counts.items() if as_phrase(names.get(str(v), ""))}
    if not counts:
        raise DatasetError("training", "nothing is labelled on the accepted images; label some")
    least = min(int(request["least_images"]), max(counts.values()))
    classes: dict[int, str] = {}
    for value in sorted(value for value, count in counts.items() if count >= least):
        name = str(names.get(str(value), f"class {value}"))
        taken = {_key(other) for other in classes.values()}
        classes[value] = f"{name} ({value})" if _key(name) in taken else name
    return classes


def _key(name: str) -> str:
    return (as_phrase(name) or name).casefold()


def images_of(
    images: list[LabelledImage], classes: Mapping[int, str], request: Mapping[str, Any]
) -> dict[int, int]:
    """Label value -> on how many accepted images a class was when the training was asked for.

    That may be more than it learns from: no more than ``MOST_IMAGES`` are.
    """
    counts = {int(value): int(count) for value, count in request.get("counts", {}).items()}
    for value in classes:
        here = sum(bool((image.labels == value).any()) for image in images)
        counts[value] = max(here, counts.get(value, 0))
    return counts
