"""The embedded model does what the prompt says, not what is most salient."""

from pathlib import Path

import numpy as np
import pytest

from napari_usgseg.core.geometry import components
from napari_usgseg.io.datasets import read_dataset, read_splits
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_labels
from napari_usgseg.lab.evaluation.annotator import aims, correction_gain
from napari_usgseg.phantoms.phantom import make_phantom
from napari_usgseg.segmentation.postprocess import PostprocessSettings

SPLITS = Path(__file__).resolve().parents[3] / "benchmarks" / "splits.json"


@pytest.mark.parametrize("kind", ["box", "click"])
def test_a_prompt_on_one_object_of_a_phantom_gives_that_object(nano_segmenter, kind):
    margins = []
    for seed in range(900, 912):
        phantom = make_phantom(seed, kind="cysts-and-vessels")
        objects = [phantom.instances == n for n in np.unique(phantom.instances) if n > 0]
        objects = [o for o in objects if o.sum() > 200]
        if len(objects) > 1:
            embedding = nano_segmenter.embed(phantom.image)
            margins += [a.own - a.other for a in aims(nano_segmenter, embedding, objects, kind)]
    assert len(margins) >= 20
    assert np.mean(margins) >= 0.3


def real_objects(data_folder: Path, name: str, limit: int):
    dataset = read_dataset(data_folder / name).only(read_splits(SPLITS)[name].test)
    for item in dataset.items[:limit]:
        labels = read_labels(item.mask_path)
        values = [v for v in np.unique(labels) if v > 0]
        yield read_image(item.image_path), [p for v in values for p in components(labels == v)]


@pytest.mark.data
@pytest.mark.parametrize(("kind", "least"), [("box", 0.9), ("click", 0.75)])
def test_a_prompt_on_a_nerve_or_a_vessel_gives_that_one(nano_segmenter, data_folder, kind, least):
    margins = []
    for image, objects in real_objects(data_folder, "usgra", 27):
        if len(objects) > 1:
            embedding = nano_segmenter.embed(image)
            margins += [a.own - a.other for a in aims(nano_segmenter, embedding, objects, kind)]
    assert len(margins) >= 30
    assert np.mean(np.array(margins) >= 0.3) >= least


@pytest.mark.data
@pytest.mark.parametrize("kind", ["click", "box"])
def test_a_corrective_click_raises_dice_in_most_cases(nano_segmenter, data_folder, kind):
    gains = []
    for name in ("busi", "usgra", "ddti_crops"):
        for image, objects in real_objects(data_folder, name, 20):
            embedding = nano_segmenter.embed(image)
            made = [
                correction_gain(nano_segmenter, embedding, o, kind, PostprocessSettings())
                for o in objects
            ]
            gains += [gain for gain in made if gain is not None]
    assert len(gains) >= 60
    assert np.mean(np.array(gains) > 0) >= 0.85
