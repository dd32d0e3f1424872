"""What a training reads of a project."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from napari_usgseg.core.types import LabelClass
from napari_usgseg.learning.labelled import read_accepted
from napari_usgseg.project.project import Project
from napari_usgseg.project.records import Event, EventKind
from tests.support.dicom import region, write_dicom
from tests.support.labelling import accept_labels, set_classes
from tests.support.plain_models import PlainSegmenter

SIZE = (60, 80)


@pytest.mark.parametrize(("cropped", "size"), [(True, (40, 70)), (False, SIZE)])
def test_a_training_sees_what_models_see_later(tmp_path, cropped, size):
    pixels = np.random.default_rng(0).integers(40, 220, (1, *SIZE)).astype(np.uint8)
    write_dicom(tmp_path / "a.dcm", pixels, SequenceOfUltrasoundRegions=[region((5, 10, 74, 49))])
    labels = np.zeros(SIZE, np.uint8)
    labels[20:40, 30:50] = 1
    with closing(Project(tmp_path)) as project:
        set_classes(project, (LabelClass(1, "cyst", "#ff0000"),))
        accept_labels(project, project.records[0], labels)
        body = {**project.settings(), "crop_to_regions": cropped}
        project.record([Event(project.log.serial + 1, EventKind.SETTINGS, body=body)])
        assert project.root is not None
        folder = project.root / "models" / "training"
    folder.mkdir(parents=True)
    request = {"annotator": "", "cache_bytes": 0, "images": ["a"], "plan": {"seed": 0}}
    (image,), _ = read_accepted(folder, request, PlainSegmenter(), lambda: False)
    assert image.image.shape == (*size, 3)
    assert image.labels.shape == size
    assert image.embedding is not None
    assert image.embedding.size_hw == size
    assert (image.labels == 1).sum() == 20 * 20
    top, left = (10, 5) if cropped else (0, 0)
    assert image.labels[20 - top, 30 - left] == 1
