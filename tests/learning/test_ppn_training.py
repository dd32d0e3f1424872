"""What the training process reads, and what it makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from napari_usgseg.learning.cross_validation import partitions
from napari_usgseg.learning.labelled import LabelledImage
from napari_usgseg.learning.ppn import views as ppn_views
from napari_usgseg.learning.process import images as training_images
from napari_usgseg.learning.process import ppn_training
from napari_usgseg.learning.process.process import Curve
from napari_usgseg.models.sam.nano import NanoSam
from napari_usgseg.models.sam.sam import SamSegmenter
from napari_usgseg.phantoms.phantom import make_phantom

PLAN = {"seed": 0, "steps": None, "views": None}


def noise(count: int) -> list[LabelledImage]:
    rng = np.random.default_rng(0)
    labels = np.ones((32, 32), np.uint8)
    return [
        LabelledImage(f"i{n}", f"g{n}", rng.integers(0, 255, (32, 32, 3), np.uint8), labels)
        for n in range(count)
    ]


def test_a_class_that_only_kept_out_images_have_is_left_out():
    images = noise(40)
    for index in partitions(images)[0].test:
        labels = images[index].labels.copy()
        labels[:4] = 2
        images[index] = replace(images[index], labels=labels)
    request = {"least_images": 3, "classes": {"1": "nerve", "2": "artery"}}
    assert training_images.classes_to_learn(images, request) == {1: "nerve"}


def test_no_more_views_are_made_than_are_kept(monkeypatch):
    torch.manual_seed(0)
    segmenter = SamSegmenter(NanoSam(64), "nano-00000000")
    pixels = make_phantom(0, (64, 96), "breast").image
    embedding = segmenter.embed(pixels)
    images = [replace(image, embedding=embedding) for image in noise(10)]
    assert ppn_training._settings(images, PLAN).task.views == 12
    half = sum(tensor.nbytes for tensor in embedding.features.values()) // 2
    monkeypatch.setattr(ppn_views, "CACHE_BYTES", 10 * 4 * half)
    assert ppn_training._settings(images, PLAN).task.views == 3
    monkeypatch.setattr(ppn_views, "CACHE_BYTES", half)
    assert ppn_training._settings(images, PLAN).task.views == 0


def test_two_classes_of_one_phrase_are_told_apart():
    images = noise(3)
    for n, image in enumerate(images):
        labels = image.labels.copy()
        labels[:4] = 2
        images[n] = replace(image, labels=labels)
    request = {"least_images": 3, "classes": {"1": "Nerve", "2": "nerve."}}
    assert training_images.classes_to_learn(images, request) == {1: "Nerve", 2: "nerve. (2)"}


def test_a_version_knows_how_many_images_were_accepted_though_it_learnt_from_fewer():
    request = {"counts": {"1": 1000, "2": 1}}
    images = noise(4)
    assert training_images.images_of(images, {1: "nerve"}, request) == {1: 1000, 2: 1}
    assert training_images.images_of(images, {1: "nerve"}, {}) == {1: 4}


def test_a_damaged_curve_keeps_what_can_be_read_of_it(tmp_path):
    path, said = tmp_path / "curve.jsonl", []
    path.write_bytes(b'[10, "loss", 0.5]\n\xff\xfe torn\n[20, "held_out_dice", 0.25]\n[3')
    Curve(path, lambda kind, **values: said.append((kind, values)))
    assert said == [("curve", {"losses": [(10, 0.5)], "held_out": [(20, 0.25)]})]
