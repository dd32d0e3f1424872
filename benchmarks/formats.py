"""Formats there and back on real masks: pixels that differ, and seconds an image.

python benchmarks/formats.py shared/data/abdomen shared/data/usgra --images 25
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from napari_usgseg.core.types import ImageRecord, LabelClass
from napari_usgseg.io.datasets import read_dataset, read_pair
from napari_usgseg.io.export import export_images
from napari_usgseg.io.formats import FORMATS, read_labels_of
from napari_usgseg.io.labels import default_color


def measure(folder: Path, count: int, format: str, scratch: Path) -> str:
    """Export images of a data set and read them back; gives a line of a table."""
    dataset = read_dataset(folder)
    items = dataset.items[:count]
    pairs = {item.item_id: read_pair(item) for item in items}
    sizes = {item_id: labels.shape for item_id, (_, labels) in pairs.items()}
    records = [ImageRecord(item.item_id, item.image_path, None, sizes[item.item_id])
               for item in items]  # fmt: skip
    classes = [LabelClass(v, name, default_color(v)) for v, name in dataset.labels.items()]
    started = time.perf_counter()
    out = export_images(
        records, lambda record: pairs[record.image_id], scratch / dataset.name / format,
        name=dataset.name, organ=dataset.organ, target=dataset.target, classes=classes,
        groups={item.item_id: item.group for item in items}, format=format,
    ).whole()  # fmt: skip
    written = time.perf_counter() - started
    started = time.perf_counter()
    _, found = read_labels_of(out)
    numbers = {name.casefold(): value for value, name in dataset.labels.items()}
    values = {item.class_id: numbers[item.name.casefold()] for item in found.classes}
    differing = total = 0
    for image in found.images:
        name = next(Path(each).name.removesuffix(".png") for each in image.names)
        drawn = np.zeros(sizes[name], int)
        for each in image.read(sizes[name]):
            if each.mask is not None:
                drawn[each.mask] = values[each.class_id]
        differing += int(np.count_nonzero(drawn != pairs[name][1]))
        total += drawn.size
    read = time.perf_counter() - started
    return (
        f"| {dataset.name} | {format} | {len(items)} | {differing} of {total} "
        f"| {written / len(items):.3f} | {read / len(items):.3f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=25)
    given = parser.parse_args()
    print("| data set | format | images | pixels that differ | s to write | s to read |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for folder in given.datasets:
            for format in FORMATS:
                print(measure(folder, given.images, format, Path(scratch)), flush=True)


if __name__ == "__main__":
    main()
