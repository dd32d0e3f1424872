"""What the training process reads, and what it makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from napari_usgseg.learning import ppn
from napari_usgseg.learning.cross_validation import partitions
from napari_usgseg.learning.labelled import LabelledImage
from napari_usgseg.learning.process import Curve, classes_to_learn, images_of, ppn_settings
from napari_usgseg.learning.trainer import begin
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
    assert classes_to_learn(images, request) == {1: "nerve"}


def test_no_more_views_are_made_than_are_kept(monkeypatch):
    torch.manual_seed(0)
    segmenter = SamSegmenter(NanoSam(64), "nano-00000000")
    pixels = make_phantom(0, (64, 96), "breast").image
    embedding = segmenter.embed(pixels)
    images = [replace(image, embedding=embedding) for image in noise(10)]
    assert ppn_settings(images, PLAN).task.views == 12
    half = sum(tensor.nbytes for tensor in embedding.features.values()) // 2
    monkeypatch.setattr(ppn, "CACHE_BYTES", 10 * 4 * half)
    assert ppn_settings(images, PLAN).task.views == 3
    monkeypatch.setattr(ppn, "CACHE_BYTES", half)
    assert ppn_settings(images, PLAN).task.views == 0


def test_a_plan_says_whether_the_decoder_is_tuned_and_those_of_older_versions_do_not():
    images = noise(4)
    assert ppn_settings(images, PLAN).lora_rank == 0
    assert ppn_settings(images, {**PLAN, "decoder_rank": 4}).lora_rank == 4


def test_two_classes_of_one_phrase_are_told_apart():
    images = noise(3)
    for n, image in enumerate(images):
        labels = image.labels.copy()
        labels[:4] = 2
        images[n] = replace(image, labels=labels)
    request = {"least_images": 3, "classes": {"1": "Nerve", "2": "nerve."}}
    assert classes_to_learn(images, request) == {1: "Nerve", 2: "nerve. (2)"}


def test_a_version_knows_how_many_images_were_accepted_though_it_learnt_from_fewer():
    request = {"counts": {"1": 1000, "2": 1}}
    images = noise(4)
    assert images_of(images, {1: "nerve"}, request) == {1: 1000, 2: 1}
    assert images_of(images, {1: "nerve"}, {}) == {1: 4}


def test_a_resumed_training_tells_the_curve_of_its_folds_and_reads_damaged_logs(tmp_path):
    said = []
    first, second = tmp_path / "fold-1", tmp_path / "fold-2"
    for folder in (first, second):
        begin(folder, {"settings": {"steps": 20}}, resume=True)
    (first / "log.jsonl").write_bytes(
        b'{"step": 10, "loss": 0.5}\n\xff\xfe torn\n{"step": 20, "held_out_dice": 0.25}\n[3'
    )
    (second / "log.jsonl").write_text('{"step": 10, "loss": 0.4, "validation": 0.5}\n')
    Curve(tmp_path, lambda kind, **values: said.append((kind, values)))
    losses, held_out = [(10, 0.5), (30, 0.4)], [(20, 0.25), (30, 0.5)]
    assert said == [("curve", {"losses": losses, "held_out": held_out})]
