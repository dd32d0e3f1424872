"""A folder that was labelled with the first version, taken over into the history.

    <root>/labels/<image_id>.png   label maps
    <root>/classes.json            the classes
    <root>/state.json              what was skipped, settings, the last image

Nothing of it is removed: the label maps stay where they are, and so does ``state.json``.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from ..errors import DatasetError
from ..io.labels import read_classes
from .journal import Journal
from .records import ClassTable, EventKind, ImageState

STATE = "state.json"
CLASSES = "classes.json"


def take_over(journal: Journal, root: Path, labelled: Collection[str]) -> list[str]:
    """Take classes, settings and skipped images into the history, within a transaction.

    Args:
        journal: of the first annotator.
        root: where the first version kept its files.
        labelled: ids of images with a label map, which are committed whatever the state file says.

    Returns:
        Sentences about files that cannot be used.
    """
    problems: list[str] = []
    if labelled:
        journal.take(EventKind.SETTINGS, body={"labelling": "semantic"})
    path = root / CLASSES
    if path.is_file():
        try:
            classes = tuple(read_classes(path))
            if classes:
                table = ClassTable(classes, classes[0].class_id)
                journal.take(EventKind.IMPORT, table=table)
        except DatasetError as error:
            problems.append(str(error))
    path = root / STATE
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            skipped = [str(image_id) for image_id in found["skipped"]]
            settings = dict(found["settings"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            problems.append(
                f"{path}: not readable ({type(error).__name__}); settings start afresh, "
                "labels are not affected"
            )
        else:
            if settings:
                journal.take(EventKind.SETTINGS, body=settings)
            for image_id in skipped:
                if image_id not in labelled:
                    states = (ImageState.UNTOUCHED, ImageState.SKIPPED)
                    journal.take(EventKind.IMPORT, image_id, state=states)
    return problems
