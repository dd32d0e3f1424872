from __future__ import annotations

import pytest

from napari_usgseg.lab.evaluation.evaluate import EMBEDDED, trained_on
from napari_usgseg.models.lora.card import AdapterCard, write_adapter_card


def test_the_embedded_models_know_their_six_data_sets(data_folder):
    assert trained_on("nano", "nano") == EMBEDDED
    assert {path.parent.name for path in data_folder.glob("*/dataset.json")} >= EMBEDDED


@pytest.mark.parametrize(
    ("segmenter", "detector", "ppn", "expected"),
    [
        ("sam2.1-hiera-tiny", None, "", set()),
        ("sam2.1-hiera-tiny@openvino", "grounding-dino-base", "", set()),
        ("sam-vit-base", "nano-dino", "", EMBEDDED),
        ("sam2.1-hiera-tiny", None, "Wrist 2024", {"wrist 2024"}),
        ("my/weights.pt", None, "", None),
        ("nano", "my/folder", "", None),
    ],
)
def test_other_models_by_what_they_learned_from(segmenter, detector, ppn, expected):
    assert trained_on(segmenter, detector, ppn=ppn) == expected


def test_an_adapter_adds_its_data_sets(tmp_path):
    assert trained_on("sam-vit-base", "grounding-dino-tiny", tmp_path) is None, "it says nothing"
    write_adapter_card(tmp_path, AdapterCard("grounding-dino-tiny", "x", source="BUSI, Mine"))
    assert trained_on("sam-vit-base", "grounding-dino-tiny", tmp_path) == {"busi", "mine"}
