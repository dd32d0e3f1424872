from __future__ import annotations

import images_per_hour
import loops_per_hour
import numpy as np
import pytest
import scripted_annotator
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.core.metrics import dice
from napari_usgseg.jobs.loaded_models import LoadedModels
from napari_usgseg.phantoms.phantom import make_phantom


def test_a_person_takes_the_times_of_the_keystroke_level_model() -> None:
    work = scripted_annotator.Work()
    work.do("M" + scripted_annotator.CLICK)
    work.waited = 0.5
    assert work.human == pytest.approx(1.35 + 1.10 + 0.10 + 0.10)
    assert work.seconds == pytest.approx(work.human + 0.5)


@settings(deadline=None, max_examples=25)
@given(st.integers(8, 40), st.integers(8, 60), st.floats(0.85, 0.97))
def test_an_outline_is_as_good_as_was_asked(rows: int, columns: int, goal: float) -> None:
    y, x = np.mgrid[:100, :160]
    truth = ((x - 80) / columns) ** 2 + ((y - 50) / rows) ** 2 <= 1
    corners, mask = scripted_annotator.simplest_polygon(truth, goal)
    assert dice(truth, mask) >= goal
    assert 3 <= len(corners) < 30


def test_a_better_outline_needs_more_corners() -> None:
    truth = make_phantom(7, kind="fetal-head").labels == 1
    counts = [len(scripted_annotator.simplest_polygon(truth, goal)[0]) for goal in (0.8, 0.9, 0.98)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_every_method_labels_every_phantom_with_the_embedded_models() -> None:
    result = images_per_hour.measure(2, scripted_annotator.Aims())
    rows = result["methods"]
    assert set(rows) == set(images_per_hour.METHODS) - {images_per_hour.PPN}  # too few images
    hand, clicks = rows["polygons by hand"], rows["clicks only"]
    assert hand["objects_outlined"] == 1.0
    assert hand["waiting_seconds"] == hand["clicks_per_image"] == 0.0
    assert clicks["clicks_per_image"] >= 1
    assert all(row["dice"] > 0.85 and row["images_per_hour"] > 0 for row in rows.values())
    lines = images_per_hour.table(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.data
@pytest.mark.slow
def test_a_prompt_predictor_is_trained_on_the_first_images_and_proposes_on_the_others(
    data_folder, tmp_path
) -> None:
    folder = images_per_hour.real(data_folder / "hc18", 6, tmp_path, None, "test")
    assert [path.stem for path in sorted(folder.images.iterdir())] == list(folder.truths)
    learn = images_per_hour.Learn(4, images_per_hour.TrainingPlan(steps=4, views=0))
    works = images_per_hour.run(
        images_per_hour.PPN, LoadedModels(), folder, scripted_annotator.Aims(), learn
    )
    assert len(works) == 6
    assert [work.training > 0 for work in works] == [False] * 4 + [True, False]
    assert all(work.dice > 0.85 for work in works)
    row = images_per_hour.summary(works, 0.9)
    assert row["training_seconds"] == works[4].training


def test_a_loop_takes_less_of_a_persons_time_with_propagation(tmp_path) -> None:
    loop = loops_per_hour.read([], 1, 8, tmp_path)[0]
    models, aims = LoadedModels(), scripted_annotator.Aims()
    hand, loops = (
        loops_per_hour.measure(way, loop, models, aims)
        for way in (
            "frame by frame, rough polygons",
            "Propagate from clicked frames, until every frame has it",
        )
    )
    assert hand.labelled == 8 > loops.labelled
    assert hand.clicks == 0 < loops.clicks
    assert loops.seconds < hand.seconds / 2
    assert min(hand.dices) >= aims.goal
    assert min(loops.dices) >= aims.goal
