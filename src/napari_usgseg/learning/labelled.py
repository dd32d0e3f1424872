"""Labelled images to learn from: drawn from a data set, or the accepted ones of a project."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import Cancelled, CheckpointError, DatasetError, FileError
from ..core.types import ImageEmbedding
from ..io.atomic import write_atomically
from ..io.datasets import Dataset, DatasetItem, read_mask, read_pair
from ..io.groups import default_groups
from ..io.images import content_key
from ..io.labels import labelling_in, semantic
from ..models.embedding_cache import CachePlace, EmbeddingCache
from ..models.interfaces import Segmenter
from ..project.project import Project
from ..project.records import ImageState
from ..project.versions import LABELS_FILE
from ..segmentation.field_of_view import crop, field_key, fields_of_view

MOST_IMAGES = 400
"""More of a project are not held in memory; so many are drawn by the seed."""
EMBEDDING_BYTES = 2**30
"""Embeddings beyond this are made again when they are wanted."""
LARGE_EMBEDDING = 8 * 2**20
"""In bytes; an encoder that makes larger ones learns from no more images than fit."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """An image with its label map.

    Attributes:
        image_id: its name in the checkpoint's card.
        group: patient, video or case.
        image: (H, W, 3) RGB uint8.
        labels: (H, W) label values, 0 background.
        embedding: of ``image`` by the segmenter, where it is in hand.
    """

    image_id: str
    group: str
    image: NDArray[np.uint8]
    labels: NDArray[np.integer]
    embedding: ImageEmbedding | None = None


# -- of a data set ---------------------------------------------------------------------------------


def choose_items(
    dataset: Dataset, count: int | None, held_out: int, seed: int
) -> tuple[list[DatasetItem], list[DatasetItem]]:
    """Draw images to learn from, and others, of no common group, to measure on.

    The draw is repeated, at most twenty times, until every label of the data set is in it.

    Args:
        dataset: to draw from.
        count: images to learn from; None takes all that are not held out.
        held_out: images to measure on, at most.
        seed: of the draw.

    Raises:
        DatasetError: there are fewer than ``count`` images.
    """
    if count is not None and count > len(dataset.items):
        raise DatasetError(dataset.name, f"has {len(dataset.items)} images, {count} were asked for")
    items = sorted(dataset.items, key=lambda item: item.item_id)
    rng = random.Random(seed)
    if count is None:
        groups = sorted({item.group for item in items})
        rng.shuffle(groups)
        kept: list[DatasetItem] = []
        for group in groups:
            members = [item for item in items if item.group == group]
            if len(kept) + len(members) <= held_out:
                kept += members
        return [item for item in items if item not in kept], kept
    chosen = _draw(dataset, items, count, rng)
    groups_in = {item.group for item in chosen}
    others = [item for item in items if item.group not in groups_in]
    rng.shuffle(others)
    return chosen, others[:held_out]


def _draw(
    dataset: Dataset, items: Sequence[DatasetItem], count: int, rng: random.Random
) -> list[DatasetItem]:
    best: list[DatasetItem] = []
    most = -1
    for _ in range(20):
        drawn = rng.sample(list(items), count)
        there = {int(v) for item in drawn for v in np.unique(read_mask(item)) if v}
        found = len(there & set(dataset.labels))
        if found > most:
            best, most = drawn, found
        if most == len(dataset.labels):
            break
    return best


def load_chosen(
    dataset: Dataset, count: int | None, held_out: int, seed: int
) -> tuple[list[LabelledImage], list[LabelledImage], list[FileError]]:
    """``choose_items`` among the images that can be read, read; and why others could not.

    A draw with a damaged file in it is drawn anew without that image.

    Raises:
        DatasetError: too few of them are left.
    """
    files = {path: item for item in dataset.items for path in (item.image_path, item.mask_path)}
    failures: list[FileError] = [
        DatasetError(path, "listed in the data set but missing; put it there, or take it out")
        for path in files
        if not path.is_file()
    ]
    bad = {files[error.path].item_id for error in failures}
    while True:
        left = dataset.only(item.item_id for item in dataset.items if item.item_id not in bad)
        if failures and not left.items:
            cause = f"none of its {len(dataset.items)} images can be used; first {failures[0]}"
            raise DatasetError(dataset.name, cause)
        try:
            chosen, rest = choose_items(left, count, held_out, seed)
            return load_items(chosen), load_items(rest), failures
        except FileError as error:
            if error.path in files:
                bad.add(files[error.path].item_id)
                failures.append(error)
                continue
            if not failures:
                raise
            cause = f"{error.cause}; {len(failures)} cannot be used, first {failures[0]}"
            raise DatasetError(error.path, cause) from error


def load_items(items: Sequence[DatasetItem]) -> list[LabelledImage]:
    """Read images and label maps.

    Raises:
        FileError: one of them cannot be read.
    """
    return [LabelledImage(item.item_id, item.group, *read_pair(item)) for item in items]


def classes_in(dataset: Dataset, images: Sequence[LabelledImage]) -> dict[int, str]:
    """The classes that are in the images: label value -> its class's name.

    Raises:
        DatasetError: there is none.
    """
    classes = {
        label: name
        for label, name in sorted(dataset.class_names().items())
        if any((image.labels == label).any() for image in images)
    }
    if not classes:
        names = ", ".join(f"{value} ({name})" for value, name in dataset.labels.items())
        raise DatasetError(
            dataset.name, f"none of the {len(images)} images holds a label, {names}; choose others"
        )
    return classes


# -- of a project ----------------------------------------------------------------------------------


def read_accepted(
    folder: Path,
    request: Mapping[str, Any],
    segmenter: Segmenter,
    is_ending: Callable[[], bool],
) -> tuple[list[LabelledImage], str]:
    """The accepted images of the project that a training's ``folder`` is in, and its name.

    Their label maps are those of when the training began, whatever is labelled later.

    Raises:
        UsgsegError: one is gone, or none is there.
        Cancelled: ``is_ending()`` turned true.
    """
    root = folder.parents[2] if request["annotator"] else folder.parents[1]
    images: list[LabelledImage] = []
    with closing(Project(root, annotator=request["annotator"], write=False)) as store:
        labels = label_maps(folder, request, store)
        records = {record.image_id: record for record in store.records}
        groups = default_groups(store.records, store.folder)
        place = CachePlace(store.root / "cache" / "embeddings", int(request["cache_bytes"]))
        cache = EmbeddingCache(place)
        crops = bool(store.settings().get("crop_to_regions", True))
        room, size = EMBEDDING_BYTES, 0
        for image_id, values in labels.items():
            if room < size and size > LARGE_EMBEDDING:
                break  # the encoders of such are slow, and would see the others again and again
            if is_ending():
                raise Cancelled("stopped while images were read")
            if image_id not in records:
                raise DatasetError(store.folder, f"the image of {image_id} is gone; train again")
            record, about = records[image_id], None
            pixels = store.read_image(record)
            key = content_key(pixels)
            if crops and (about := store.about(record)) is not None:
                fields = fields_of_view(about.regions, values.shape)
                if len(fields) == 1:  # as models see it later; of several each may show anything
                    key = field_key(key, fields[0])
                    pixels, values = crop(fields[0], pixels), crop(fields[0], values)
            embedding = None
            if room > 0:
                embedding = cache.get(key, segmenter.model_id)
                if embedding is None:
                    embedding = segmenter.embed(pixels, key)
                    if request["cache_bytes"]:
                        cache.put(embedding)
                size = nbytes(embedding)
                room -= size
            group = groups[image_id]
            images.append(LabelledImage(image_id, group, pixels, values, embedding))
        return images, store.name


def nbytes(embedding: ImageEmbedding) -> int:
    """Memory that an embedding takes."""
    return sum(tensor.nbytes for tensor in embedding.features.values())


def label_maps(folder: Path, request: Mapping[str, Any], store: Project) -> dict[str, NDArray[Any]]:
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
