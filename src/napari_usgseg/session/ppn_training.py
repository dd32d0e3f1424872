"""The training of a prompt predictor in a process of its own.

``python -m napari_usgseg.session.ppn_training FOLDER`` does what ``FOLDER/request.json`` asks
(``store.shelf``), or goes on with it. It reads the project and writes into ``FOLDER`` only, and
says how far it is (`session.background`):

=============  ==================================================================================
kind           what it says
=============  ==================================================================================
``phase``      ``text``: what is done now; ``images``: how many are learnt from
``curve``      ``losses``, ``held_out``: [[step, value], ...] of what was done in an earlier run
``step``       ``step`` of ``steps``; ``loss`` and ``held_out_dice`` where the curve has a point
``done``       the result is there, ``version.json`` too
``failed``     ``text``: why it cannot be done, and the cure; ``keep`` where it may go on later
``stopped``    it was told to end; what it has learnt is kept
=============  ==================================================================================

The label maps are copied when it begins, so that it goes on with them whatever is labelled later.
"""

from __future__ import annotations

import io
import json
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import Cancelled, CheckpointError, DatasetError, UsgsegError
from ..io.atomic import write_atomically
from ..io.images import content_key
from ..io.instances import labelling_in, semantic
from ..models.embedding_cache import CachePlace, EmbeddingCache
from ..store.project import ProjectStore
from ..store.shelf import LABELS_FILE, VERSION_FILE, read_request, write_version
from ..store.versions import ModelVersion
from ..types import ImageEmbedding
from .background import Channel, give_way

if TYPE_CHECKING:
    from ..models.base import Segmenter
    from ..training.ppn_train import PpnSettings
    from ..training.ppn_views import LabelledImage

CURVE_FILE = "curve.jsonl"
MOST_IMAGES = 400
"""More are not held in memory; so many are drawn by the seed."""
EMBEDDING_BYTES = 2**30
"""Embeddings beyond this are made again when they are wanted."""
LARGE_EMBEDDING = 8 * 2**20
"""In bytes; an encoder that makes larger ones learns from no more images than fit."""
SECONDS_BETWEEN = 0.25
LOCK_SECONDS = 60.0
NO_MEMORY = "Not enough memory to train: close other programs, or choose a smaller model."

Say = Callable[..., None]


def main() -> None:
    """Train, and say how that went."""
    give_way()
    channel = Channel()
    try:
        from filelock import FileLock, Timeout

        folder = Path(sys.argv[1])
        try:  # one that is ending may still be at its last checkpoint
            with FileLock(folder.parent / "training.lock", timeout=LOCK_SECONDS):
                train(folder, channel.send, channel.is_ending)
        except Timeout:
            text = f"{folder}: another training is at work there; close the other window."
            channel.send("failed", text=text, keep=True)
        else:
            channel.send("done")
    except Cancelled:
        channel.send("stopped")
    except UsgsegError as error:
        channel.send("failed", text=str(error))
    except MemoryError:
        channel.send("failed", text=NO_MEMORY, keep=True)
    except OSError as error:
        text = f"{error}; check the disk and what may be written there."
        channel.send("failed", text=text, keep=True)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        channel.send("failed", text=f"{type(error).__name__}: {error} (details on the terminal)")
    os._exit(0)


def train(folder: Path, say: Say, is_ending: Callable[[], bool]) -> None:
    """Do what the request in ``folder`` asks, from where it was left.

    Raises:
        UsgsegError: it cannot be done.
        Cancelled: ``is_ending()`` turned true.
    """
    if (folder / VERSION_FILE).is_file():
        return
    request = read_request(folder)
    say("phase", text="starting", images=len(request["images"]))
    import torch

    from ..models.registry import load_segmenter
    from ..training.ppn_promotion import train_and_measure

    torch.set_num_threads(1)
    segmenter = load_segmenter(request["segmenter"])
    say("phase", text="reading images", images=len(request["images"]))
    root = folder.parents[2] if request["annotator"] else folder.parents[1]
    with closing(ProjectStore(root, annotator=request["annotator"], write=False)) as store:
        source = store.name
        images = _read_images(folder, request, store, segmenter, is_ending)
    classes = _classes(images, request)
    settings = _settings(images, request["plan"])
    say("phase", text="training", images=len(images))
    model = train_and_measure(
        images,
        classes,
        segmenter,
        folder,
        settings,
        source=source,
        progress=_Curve(folder / CURVE_FILE, say),
        cancelled=is_ending,
    )
    say("phase", text="measuring", images=len(images))
    from .ppn_measuring import compare

    scores = model.card.scores
    verdict = compare(scores["per_image"], images, classes, segmenter, request, folder, is_ending)
    version = ModelVersion(
        kind="ppn",
        number=0,
        folder=folder,
        classes=classes,
        images=len(images),
        per_class={
            value: sum(bool((image.labels == value).any()) for image in images) for value in classes
        },
        base=segmenter.model_id,
        held_out_dice=float(scores["held_out_dice"]),
        measured=f"{verdict.sentence}{_how(scores)}",
        promoted=verdict.promoted,
        created=time.time(),
    )
    write_version(folder, version)


def _how(scores: Mapping[str, Any]) -> str:
    method = str(scores["method"])
    if "cross-validation" not in method:
        return ""
    return f" Measured by {method}, in trainings with fewer images and as many fewer steps."


def _settings(images: list[LabelledImage], plan: Mapping[str, Any]) -> PpnSettings:
    """Those that suit so many images, with no more views than are kept in memory."""
    from ..training.ppn_train import PpnSettings
    from ..training.ppn_views import CACHE_BYTES

    settings = PpnSettings.for_images(len(images), seed=int(plan["seed"]))
    sizes = [_nbytes(image.embedding) for image in images if image.embedding is not None]
    if sizes:  # views are kept in half precision; the image itself is one of them
        room = CACHE_BYTES // (len(images) * max(sizes) // 2) - 1
        views = max(0, min(settings.task.views, room))
        settings = replace(settings, task=replace(settings.task, views=views))
    if plan["steps"] is not None:
        settings = replace(settings, steps=int(plan["steps"]))
    if plan["views"] is not None:
        settings = replace(settings, task=replace(settings.task, views=int(plan["views"])))
    return settings


def _read_images(
    folder: Path,
    request: Mapping[str, Any],
    store: ProjectStore,
    segmenter: Segmenter,
    is_ending: Callable[[], bool],
) -> list[LabelledImage]:
    """The images with their label maps as they were when the training began."""
    from ..training.ppn_views import LabelledImage

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
            size = _nbytes(embedding)
            room -= size
        group = image_id if record.frame is None else record.path.stem
        images.append(LabelledImage(image_id, group, pixels, values, embedding))
    return images


def _nbytes(embedding: ImageEmbedding) -> int:
    return sum(tensor.nbytes for tensor in embedding.features.values())


def _labels(
    folder: Path, request: Mapping[str, Any], store: ProjectStore
) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """Image id -> class map (H, W); read from the project once, and from the copy afterwards."""
    path = folder / LABELS_FILE
    if not path.is_file():
        known = {record.image_id: record for record in store.records}
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


def _classes(images: list[LabelledImage], request: Mapping[str, Any]) -> dict[int, str]:
    """The classes that are in enough images, by label value; no two of one name."""
    from ..training.ppn_promotion import LEAST_HELD_OUT, folds

    learnt = [images[index] for index in folds(images)[0].train]
    counts: dict[int, int] = {}
    for image in learnt if len(images) >= LEAST_HELD_OUT else images:
        for value in np.unique(image.labels).tolist():
            counts[value] = counts.get(value, 0) + 1
    counts.pop(0, None)
    if not counts:
        raise DatasetError("training", "nothing is labelled on the accepted images; label some")
    least = min(int(request["least_images"]), max(counts.values()))
    classes: dict[int, str] = {}
    for value in sorted(value for value, count in counts.items() if count >= least):
        name = str(request["classes"].get(str(value), f"class {value}"))
        taken = {other.casefold() for other in classes.values()}
        classes[value] = f"{name} ({value})" if name.casefold() in taken else name
    return classes


class _Curve:
    """Tells of every step, keeps the curve on disk, and repeats what an earlier run kept."""

    def __init__(self, path: Path, say: Say) -> None:
        self._path, self._say = path, say
        self._said = 0.0
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        kept: dict[str, dict[int, float]] = {"loss": {}, "held_out_dice": {}}
        for line in lines:
            try:
                step, name, value = json.loads(line)
                kept[name][step] = value
            except (ValueError, KeyError, TypeError):
                continue  # the last line of a run that was killed
        if lines:
            curves = [sorted(values.items()) for values in kept.values()]
            say("curve", losses=curves[0], held_out=curves[1])

    def __call__(self, step: int, steps: int, figures: dict[str, float]) -> None:
        """One step is done."""
        now = time.monotonic()
        points = {}
        if step % 10 == 0 or "held_out_dice" in figures or step == steps:
            names = [name for name in ("loss", "held_out_dice") if name in figures]
            points = {name: round(figures[name], 5) for name in names}
            with self._path.open("a", encoding="utf-8") as file:
                for name, value in points.items():
                    file.write(json.dumps([step, name, value]) + "\n")
        elif now - self._said < SECONDS_BETWEEN:
            return
        self._said = now
        self._say("step", step=step, steps=steps, **points)


if __name__ == "__main__":
    main()
