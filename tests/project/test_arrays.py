from __future__ import annotations

from dataclasses import fields, is_dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from napari_usgseg.core.errors import DatasetError
from napari_usgseg.core.types import LabelClass, Prompts
from napari_usgseg.project.arrays import (
    TAGS,
    Decoder,
    Encoder,
    pack_array,
    table_from_json,
    table_to_json,
    unpack,
)
from napari_usgseg.project.records import (
    ClassTable,
    EventKind,
    ImageProposal,
    ImageState,
    ProposedObject,
    difference,
)
from napari_usgseg.segmentation.propose import Proposal
from tests.support.labelling import some_proposal

COORDINATES = st.floats(-4, 5000, width=32)
SIDES = st.integers(8, 20)


def points(count: int) -> st.SearchStrategy[np.ndarray]:
    return arrays.arrays(np.float32, (count, 2), elements=COORDINATES)


@st.composite
def prompts(draw: st.DrawFn) -> Prompts:
    count = draw(st.integers(0, 4))
    signs = draw(arrays.arrays(np.int32, count, elements=st.integers(0, 1)))
    box = draw(st.none() | arrays.arrays(np.float32, 4, elements=COORDINATES))
    line = st.integers(2, 40).flatmap(points)
    scribbles = tuple(draw(st.lists(st.tuples(line, st.integers(0, 1)), max_size=2)))
    logits = draw(st.none() | low_res_logits())
    return Prompts(draw(points(count)), signs, box, scribbles, logits)


def low_res_logits() -> st.SearchStrategy[np.ndarray]:
    return arrays.arrays(np.float32, st.tuples(SIDES, SIDES), elements=st.floats(-40, 40, width=16))


@st.composite
def proposals(draw: st.DrawFn) -> Proposal:
    mask = draw(arrays.arrays(np.bool_, st.tuples(st.integers(1, 20), st.integers(1, 20))))
    box = draw(arrays.arrays(np.float32, 4, elements=COORDINATES))
    score, iou = draw(st.floats(0, 1)), draw(st.floats(0, 1))
    return Proposal(mask, box, score, draw(st.text(max_size=9)), iou, draw(low_res_logits()))


@st.composite
def image_proposals(draw: st.DrawFn) -> ImageProposal:
    items = st.builds(
        ProposedObject,
        st.integers(1, 300),
        prompts(),
        st.none() | proposals(),
        by_hand=st.booleans(),
        is_asked=st.booleans(),
    )
    objects = tuple(draw(st.lists(items, max_size=3)))
    active = draw(st.sampled_from([None, *range(len(objects))]))
    return ImageProposal(objects, active, draw(st.text(max_size=9)), ("a note",))


def same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, tuple):
        return (
            isinstance(b, tuple)
            and len(a) == len(b)
            and all(same(x, y) for x, y in zip(a, b, strict=True))
        )
    if is_dataclass(a):
        return type(a) is type(b) and all(
            same(getattr(a, item.name), getattr(b, item.name)) for item in fields(a)
        )
    return a == b


@settings(max_examples=80, deadline=None)
@given(image_proposals())
def test_a_proposal_comes_back_as_it_was(proposal: ImageProposal) -> None:
    blobs: dict[str, bytes] = {}
    encoder = Encoder(blobs.__setitem__)
    name = encoder.proposal(proposal)
    assert same(Decoder(blobs.__getitem__).proposal(name), proposal)


@settings(max_examples=80, deadline=None)
@given(
    arrays.arrays(np.uint16, (9, 13), elements=st.integers(0, 65535)),
    arrays.arrays(np.uint8, (9, 13), elements=st.integers(0, 3)),
)
def test_a_patch_comes_back_and_leads_from_one_map_to_the_other(
    after: np.ndarray, before: np.ndarray
) -> None:
    patch = difference(before, after)
    if patch is None:
        return
    blobs: dict[str, bytes] = {}
    encoder = Encoder(blobs.__setitem__)
    body = encoder.patch(patch)
    again = Decoder(blobs.__getitem__).patch(body)
    assert np.array_equal(again.applied(before), after)
    assert np.array_equal(again.inverse().applied(after), before)


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.float32, (9, 11), elements=st.floats(-1e5, 1e5, width=32)))
def test_logits_are_kept_to_half_precision(logits: np.ndarray) -> None:
    kept = unpack(pack_array(logits)[1])
    assert kept.dtype == np.float32
    assert np.allclose(kept, np.clip(logits, -6e4, 6e4), rtol=1e-3, atol=1e-6)


def test_the_same_mask_in_two_proposals_is_kept_once() -> None:
    blobs: dict[str, bytes] = {}
    encoder = Encoder(blobs.__setitem__)
    encoder.proposal(some_proposal(1))
    before = len(blobs)
    encoder.proposal(some_proposal(2))
    assert len(blobs) == before + 1, "another document, with the same mask and logits"


def stored(**change: object) -> Decoder:
    """A decoder of one document, "it": a proposal as on disk, with some of its values changed."""
    blobs: dict[str, bytes] = {}
    encoder = Encoder(blobs.__setitem__)
    values = unpack(blobs[encoder.proposal(some_proposal())])
    blobs["it"] = blobs[encoder.document(values | change)]
    return Decoder(blobs.__getitem__)


def test_a_field_that_is_not_known_is_an_error_that_names_it() -> None:
    with pytest.raises(DatasetError, match=r"'Draft' with later.*update"):
        stored(later=1).proposal("it")


def test_a_record_that_is_not_known_is_an_error_that_names_it() -> None:
    with pytest.raises(DatasetError, match=r"a record 'Sketch'.*update"):
        stored(objects=[{"kind": "Sketch"}]).proposal("it")


def test_a_field_that_an_earlier_version_lacked_has_its_default() -> None:
    blobs: dict[str, bytes] = {}
    encoder = Encoder(blobs.__setitem__)
    values = unpack(blobs[encoder.proposal(some_proposal())])
    values["objects"][0].pop("by_hand")
    name = encoder.document(values)
    assert same(Decoder(blobs.__getitem__).proposal(name), some_proposal())


def test_an_earlier_version_awaited_an_answer_about_the_active_object() -> None:
    assert stored(pending=True).proposal("it").objects[0].is_asked
    assert not stored(pending=True, active=None).proposal("it").pending
    assert not stored().proposal("it").pending


def test_the_names_on_disk_stay() -> None:
    """Change this test only together with a migration of the projects that people have."""
    keys = {tag: list(names.values()) for tag, (_, names) in TAGS.items()}
    assert keys == {
        "Draft": ["objects", "active", "pending", "model_id", "notes"],
        "DraftObject": [
            "class_id",
            "prompts",
            "proposal",
            "by_hand",
            "number",
            "ppn",
            "drawn",
            "asked",
        ],
        "Prompts": ["point_coords", "point_labels", "box", "scribbles", "mask_input"],
        "Proposal": ["mask", "box", "score", "phrase", "iou_prediction", "low_res_logits"],
    }
    assert [str(kind) for kind in EventKind] == [
        "edit", "answer", "undo", "redo", "taken back", "forget", "open", "leave", "search",
        "proposal", "export", "settings", "written", "external", "import", "image",
    ]  # fmt: skip
    states = ["untouched", "proposed", "committed", "empty", "skipped", "flagged"]
    assert [str(state) for state in ImageState] == states


def test_every_field_of_a_record_is_kept() -> None:
    for record, names in TAGS.values():
        kept = [name for name in names if (record, name) != (ImageProposal, "pending")]
        assert kept == [item.name for item in fields(record)], "pending follows from the objects"


def test_nothing_proposed_needs_no_document() -> None:
    assert Encoder({}.__setitem__).proposal(ImageProposal()) is None
    assert not Decoder({}.__getitem__).proposal(None).objects


def test_classes_come_back_with_the_picked_one() -> None:
    table = ClassTable((LabelClass(1, "Zyste", "#e69f00"), LabelClass(7, "rand", "#56b4e9")), 7)
    assert table_from_json(table_to_json(table)) == table
