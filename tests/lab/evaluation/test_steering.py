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


@pytest.fixture(scope="module")
def phantoms(nano_segmenter):
    """(embedding, objects) of phantoms with several objects."""
    found = []
    for seed in range(900, 912):
        phantom = make_phantom(seed, kind="cysts-and-vessels")
        objects = [phantom.instances == n for n in np.unique(phantom.instances) if n > 0]
        objects = [o for o in objects if o.sum() > 200]
        if len(objects) > 1:
            found.append((nano_segmenter.embed(phantom.image), objects))
    return found


@pytest.fixture(scope="module")
def real(nano_segmenter, data_folder):
    """(embedding, objects) of the first test images of a data set; each is embedded once."""
    known: dict[str, list] = {}

    def of(name: str, limit: int) -> list:
        dataset = read_dataset(data_folder / name).only(read_splits(SPLITS)[name].test)
        images = known.setdefault(name, [])
        for item in dataset.items[len(images) : limit]:
            labels = read_labels(item.mask_path)
            values = [v for v in np.unique(labels) if v > 0]
            objects = [part for v in values for part in components(labels == v)]
            images.append((nano_segmenter.embed(read_image(item.image_path)), objects))
        return images[:limit]

    return of


@pytest.mark.parametrize("kind", ["box", "click"])
def test_a_prompt_on_one_object_of_a_phantom_gives_that_object(nano_segmenter, phantoms, kind):
    margins = [
        aim.own - aim.other
        for embedding, objects in phantoms
        for aim in aims(nano_segmenter, embedding, objects, kind)
    ]
    assert len(margins) >= 20
    assert np.mean(margins) >= 0.3


@pytest.mark.data
@pytest.mark.parametrize(("kind", "least"), [("box", 0.9), ("click", 0.75)])
def test_a_prompt_on_a_nerve_or_a_vessel_gives_that_one(nano_segmenter, real, kind, least):
    margins = [
        aim.own - aim.other
        for embedding, objects in real("usgra", 27)
        if len(objects) > 1
        for aim in aims(nano_segmenter, embedding, objects, kind)
    ]
    assert len(margins) >= 30
    assert np.mean(np.array(margins) >= 0.3) >= least


@pytest.mark.data
@pytest.mark.parametrize("kind", ["click", "box"])
def test_a_corrective_click_raises_dice_in_most_cases(nano_segmenter, real, kind):
    made = [
        correction_gain(nano_segmenter, embedding, thing, kind, PostprocessSettings())
        for name in ("busi", "usgra", "ddti_crops")
        for embedding, objects in real(name, 20)
        for thing in objects
    ]
    gains = [gain for gain in made if gain is not None]
    assert len(gains) >= 60
    assert np.mean(np.array(gains) > 0) >= 0.85
