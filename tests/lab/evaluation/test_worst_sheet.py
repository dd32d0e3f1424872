from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from napari_usgseg.io.atomic import write_new
from napari_usgseg.io.datasets import Dataset, DatasetItem
from napari_usgseg.lab.evaluation.evaluate import ImageScore
from napari_usgseg.lab.evaluation.methods import Answer, Scene
from napari_usgseg.lab.evaluation.report import ANSWER, TILE, TRUTH, WorstCases


def case(name: str, value: float) -> tuple[ImageScore, Scene, Answer]:
    item = DatasetItem(name, name, Path("i.png"), Path("m.png"))
    dataset = Dataset("made", "x", "cyst", {1: "cyst"}, (item,))
    truth, answer = np.zeros((60, 90), bool), np.zeros((60, 90), bool)
    truth[10:40, 10:40] = True
    answer[20:50, 50:80] = True
    image = np.full((60, 90, 3), 90, np.uint8)
    rng = np.random.default_rng(0)
    scene = Scene(dataset, item, item, image, truth.astype(np.uint8), (truth,), rng)
    return ImageScore(item, value, value, 1.0, 0.1), scene, Answer((answer,))


def test_the_lowest_scores_are_kept_worst_first():
    worst = WorstCases(2)
    for name, value in (("a", 0.9), ("b", 0.2), ("c", 0.5), ("d", 0.1)):
        worst.take(*case(name, value))
    names = [words for _, words, _ in worst.kept]
    assert names == ["made / d  Dice 0.100", "made / b  Dice 0.200"]


def test_truth_and_answer_are_drawn_in_their_colours(tmp_path):
    worst = WorstCases(3)
    worst.take(*case("a", 0.0))
    worst.save(tmp_path / "worst.png", write_new)
    sheet = np.asarray(Image.open(tmp_path / "worst.png"))
    assert sheet.shape[1] == TILE
    for color in (TRUTH, ANSWER):
        assert (sheet[40:] == color).all(axis=2).sum() > 100


def test_nothing_scored_writes_nothing(tmp_path):
    WorstCases(3).save(tmp_path / "worst.png", write_new)
    assert not (tmp_path / "worst.png").exists()
