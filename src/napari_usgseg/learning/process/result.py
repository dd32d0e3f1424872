"""What a training process leaves when it is done: the version, and what was measured."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...project.versions import ModelKind, ModelVersion, write_version
from .images import images_of

if TYPE_CHECKING:
    from ..ppn.views import LabelledImage
    from ..promotion import Verdict


def write_result(
    kind: ModelKind,
    folder: Path,
    request: Mapping[str, Any],
    *,
    base: str,
    images: list[LabelledImage],
    classes: dict[int, str],
    scores: Mapping[str, Any],
    verdict: Verdict,
) -> None:
    """Write ``version.json``; its number is given by ``store.shelf``.

    Args:
        kind: of the version.
        folder: of the training.
        request: what was asked for.
        base: the model that it belongs to, as its card names it.
        images: all of the training.
        classes: label value -> name.
        scores: of the card (``training.promotion.teach_and_measure``).
        verdict: of the comparison.

    Raises:
        LabelWriteError: the file cannot be written.
    """
    from ..promotion import how_measured

    write_version(
        folder,
        ModelVersion(
            kind=kind,
            number=0,
            folder=folder,
            classes=classes,
            images=len(images),
            per_class=images_of(images, classes, request),
            base=base,
            held_out_dice=float(scores["held_out_dice"]),
            measured=f"{verdict.sentence}{how_measured(scores)}",
            promoted=verdict.promoted,
            created=time.time(),
        ),
    )
