"""A loop counts as one group: in data sets and splits, in folds, and where versions are judged."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from napari_usgseg.api import export
from napari_usgseg.core.types import LabelClass
from napari_usgseg.io.datasets import leave_one_out, read_dataset, split_by_group
from napari_usgseg.io.groups import default_groups
from napari_usgseg.learning.cross_validation import out_of_fold_scores, partitions
from napari_usgseg.learning.labelled import LabelledImage, choose_items
from napari_usgseg.project.project import Project
from tests.support.cine import lesion, write_loop
from tests.support.labelling import accept_labels, set_classes

LOOPS, FRAMES = ("a", "b", "c", "d"), 5


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A flat folder of four loops, all of whose frames are accepted."""
    folder = tmp_path_factory.mktemp("loops")
    loops = {name: write_loop(folder, f"{name}.tif", FRAMES, (96, 128)) for name in LOOPS}
    with closing(Project(folder)) as store:
        set_classes(store, (LabelClass(1, "tumor", "#e69f00"),))
        for record in store.records:
            mask = lesion(loops[record.path.stem], record.frame)
            accept_labels(store, record, mask.astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def accepted(project):
    """The accepted frames as a training reads them; pictures differ, so that none is a twin."""
    rng = np.random.default_rng(0)
    with closing(Project(project, write=False)) as store:
        groups = default_groups(store.records, store.folder)
        return [
            LabelledImage(
                record.image_id,
                groups[record.image_id],
                rng.integers(0, 255, (96, 128, 3), np.uint8),
                store.read_labels(record),
            )
            for record in store.records
        ]


def loop_of(image_id: str) -> str:
    return image_id.partition("_")[0]


def test_an_exported_data_set_has_a_group_a_loop_and_no_side_tears_one_apart(project, tmp_path):
    export(project, tmp_path / "out").whole()
    dataset = read_dataset(tmp_path / "out")
    assert len(dataset.items) == len(LOOPS) * FRAMES
    assert {(item.group, loop_of(item.item_id)) for item in dataset.items} == set(
        zip(LOOPS, LOOPS, strict=True)
    )
    for split in (split_by_group(dataset), *leave_one_out(dataset).values()):
        sides = [{loop_of(i) for i in side} for side in (split.train, split.val, split.test)]
        assert sum(map(len, sides)) == len(set.union(*sides))
    learnt, held_out = choose_items(dataset, 3, 20, seed=1)
    assert not {loop_of(i.item_id) for i in learnt} & {loop_of(i.item_id) for i in held_out}


def test_no_fold_learns_from_a_loop_that_it_is_measured_on(accepted):
    for part in partitions(accepted):
        sides = part.train, part.test
        train, test = ({loop_of(accepted[i].image_id) for i in side} for side in sides)
        assert test
        assert not train & test


def test_a_version_is_not_judged_on_a_frame_of_a_loop_that_it_learnt_from(accepted):
    scores = out_of_fold_scores(["a_0000"], {}, lambda image: {1: 0.9}, accepted, [1])
    assert {loop_of(image_id) for image_id in scores} == {"b", "c", "d"}
