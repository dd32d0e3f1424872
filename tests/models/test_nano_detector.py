"""The embedded detector: phrases to boxes, and honest about what is not there."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.core.errors import CheckpointError, PromptError
from napari_usgseg.core.types import TextPrompt
from napari_usgseg.io.datasets import read_dataset, read_splits
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_labels
from napari_usgseg.learning.phrases import CONCEPTS, HELD_OUT_ABSENT, all_phrases, concept_of
from napari_usgseg.models.grounding.nano_detector import load_nano_detector
from napari_usgseg.models.grounding.phrases import words_of

REPOSITORY = Path(__file__).resolve().parents[2]


def held_out(data_folder: Path, name: str, count: int, finding: str | None = None):
    """(image, label map) of the first ``count`` test images of a data set."""
    ids = read_splits(REPOSITORY / "benchmarks" / "splits.json")[name].test
    items = [
        item
        for item in read_dataset(data_folder / name).only(ids).items
        if finding is None or item.finding == finding
    ]
    return [(read_image(i.image_path), read_labels(i.mask_path)) for i in items[:count]]


def hits(detector, pairs, phrase: str) -> float:
    """The fraction of images with a box for ``phrase`` that overlaps label 1 by IoU > 0.3."""
    found = 0
    for image, labels in pairs:
        truth = labels == 1
        for x0, y0, x1, y1 in detector.detect(image, TextPrompt(phrase)).boxes.astype(int):
            box = np.zeros_like(truth)
            box[y0 : y1 + 1, x0 : x1 + 1] = True
            rows, columns = np.nonzero(truth)
            tight = np.zeros_like(truth)
            tight[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
            if (box & tight).sum() / (box | tight).sum() > 0.3:
                found += 1
                break
    return found / len(pairs)


@pytest.mark.parametrize("text", ["", " . ", "\n"])
def test_a_prompt_without_a_phrase_names_the_cure(nano_detector, text):
    with pytest.raises(PromptError, match="breast tumor"):
        nano_detector.detect(np.zeros((32, 32, 3), np.uint8), TextPrompt(text))


@settings(deadline=None, max_examples=25)
@given(st.text("abcdefghijklmnopqrstuvwxyzäöüßéñ 0123456789-", min_size=1, max_size=30))
def test_no_word_is_unknown_to_the_tokenizer(nano_detector, text):
    tokens = nano_detector.encoder.tokenizer.encode(text.lower()).tokens
    assert "[UNK]" not in tokens


@settings(deadline=None, max_examples=8)
@given(st.integers(32, 300), st.integers(32, 300), st.integers(0, 1000))
def test_boxes_lie_in_the_image_whatever_its_shape(nano_detector, height, width, seed):
    image = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    found = nano_detector.detect(image, TextPrompt("lesion. nerve", box_threshold=0.0))
    assert found.boxes.shape == (len(found), 4)
    assert len(found.phrases) == len(found.scores) == len(found)
    if len(found):
        assert found.boxes.min() >= 0
        assert (found.boxes[:, [0, 2]] <= width - 1).all()
        assert (found.boxes[:, [1, 3]] <= height - 1).all()
        assert (np.diff(found.scores) <= 1e-6).all()


def test_a_higher_threshold_never_finds_more(nano_detector, data_folder):
    image, _ = held_out(data_folder, "busi", 1, "benign")[0]
    counts = [
        len(nano_detector.detect(image, TextPrompt("breast tumor", t))) for t in (0.1, 0.5, 0.99)
    ]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.data
@pytest.mark.parametrize(("name", "finding"), [("hc18", None), ("busi", "benign")])
def test_synonyms_that_training_never_saw_find_their_target(
    nano_detector, data_folder, name, finding
):
    pairs = held_out(data_folder, name, 12, finding)
    for phrase in concept_of(read_dataset(data_folder / name).target).held_out:
        assert hits(nano_detector, pairs, phrase) >= 0.5, phrase


@pytest.mark.data
def test_what_is_not_in_the_image_gives_no_box(nano_detector, data_folder):
    breast = held_out(data_folder, "busi", 15, "benign")
    for phrase in ("fetal head", *HELD_OUT_ABSENT[:3]):
        empty = [len(nano_detector.detect(image, TextPrompt(phrase))) == 0 for image, _ in breast]
        assert np.mean(empty) >= 0.85, phrase


@pytest.mark.data
def test_an_organ_that_was_never_learned_is_said_to_be_unknown(nano_detector, data_folder):
    image, _ = held_out(data_folder, "busi", 1, "benign")[0]
    found = nano_detector.detect(image, TextPrompt("thymus"))
    assert len(found) == 0
    assert "not among what this model was trained on" in found.notes[0]
    assert "click" in found.notes[0]


@pytest.mark.data
def test_each_box_carries_its_own_phrase(nano_detector, data_folder):
    ids = read_splits(REPOSITORY / "benchmarks" / "splits.json")["usgra"].test
    dataset = read_dataset(data_folder / "usgra").only(ids)
    right = total = 0
    for item in dataset.items:
        labels = read_labels(item.mask_path)
        found = nano_detector.detect(
            read_image(item.image_path), TextPrompt("nerve. blood vessel.")
        )
        for box, phrase in zip(found.boxes, found.phrases, strict=True):
            x0, y0, x1, y1 = box.astype(int)
            inside = np.bincount(labels[y0 : y1 + 1, x0 : x1 + 1].ravel(), minlength=3)[1:3]
            if inside.any():
                total += 1
                right += phrase == ("nerve", "blood vessel")[int(inside.argmax())]
    assert total >= 10
    assert right / total >= 0.7


BLACK = np.zeros((48, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("phrase", "word", "nearest"),
    [
        ("Fetuskopf", "fetuskopf", "fetal head"),
        ("brest tumor", "brest", "breast tumor"),
        ("thyroid nodul", "nodul", "thyroid nodule"),
        ("vessle", "vessle", "blood vessel"),
        ("left ventrical", "ventrical", "left ventricle"),
        ("qwertz", "qwertz", ""),
        ("胎头", "胎头", ""),
    ],
)
def test_an_unknown_word_is_said_with_the_nearest_known_phrases(
    nano_detector, phrase, word, nearest
):
    (note,) = nano_detector.detect(BLACK, TextPrompt(phrase)).notes
    assert note.startswith(f"'{phrase.lower()}'")
    assert f": unknown word '{word}'; nearest known phrases: " in note
    assert nearest in note.partition("phrases: ")[2].partition(". ")[0].split(", ") or not nearest
    assert "threshold" not in note


def test_no_phrase_that_was_trained_or_kept_for_tests_has_an_unknown_word(nano_detector):
    known, encoder = nano_detector.known, nano_detector.encoder
    wrong = {
        phrase: unknown
        for phrase in (*all_phrases(CONCEPTS), "2.5 cm cysts", "NERVE (left)", "breast-tumors")
        if (unknown := known.unknown_words(phrase.lower(), encoder))
    }
    assert wrong == {}


def test_the_words_in_the_model_are_those_of_the_phrase_book(nano_detector):
    names = nano_detector.known.names
    assert nano_detector.known.words == words_of(
        all_phrases([*map(concept_of, names), concept_of("cyst")])
    )


def test_a_known_phrase_that_finds_nothing_gets_no_note_of_its_own(nano_detector):
    assert nano_detector.detect(BLACK, TextPrompt("breast tumor. nerves", 1.0)).notes == ()


def test_what_an_adapter_was_taught_is_no_unknown_word(nano_detector):
    known, encoder = nano_detector.known, nano_detector.encoder
    assert known.unknown_words("plantaris tendon", encoder) == ("plantaris",)
    taught = known.taught(("plantaris tendon",), ("plantaris", "plantaris tendon"), encoder)
    assert taught.unknown_words("plantaris tendon", encoder) == ()
    assert "plantaris tendon" in taught.nearest("plantariz tendon", ("plantariz",), encoder)


def test_a_model_that_keeps_no_words_calls_none_unknown(nano_detector):
    silent = replace(nano_detector.known, words=frozenset())
    assert silent.unknown_words("brest", nano_detector.encoder) == ()


def test_a_damaged_model_folder_is_refused_by_name(tmp_path):
    (tmp_path / "grounder.json").write_text(json.dumps({"schema": 1, "image_size": 256}))
    with pytest.raises(CheckpointError, match=str(tmp_path.name)):
        load_nano_detector(tmp_path)
