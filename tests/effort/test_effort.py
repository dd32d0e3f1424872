from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from napari_usgseg.core.types import LabelClass, Prompts
from napari_usgseg.effort import ledger as ledger_module
from napari_usgseg.effort.efforts import ImageEffort, Search, Way, about_the_work, efforts, span
from napari_usgseg.effort.ledger import (
    Ledger,
    image_table,
    model_table,
    phrase_table,
    read_ledger,
)
from napari_usgseg.effort.page import timeline
from napari_usgseg.effort.quality import QualityCache, compare, measure
from napari_usgseg.project.project import Project
from napari_usgseg.project.records import (
    Edit,
    Event,
    EventKind,
    ImageProposal,
    ImageState,
    ProposedObject,
    StoredEvent,
    difference,
)
from napari_usgseg.segmentation.propose import Proposal
from tests.support.labelling import set_classes

COMMIT = ["untouched", "committed"]
SIZE_HW = (40, 60)


class Past:
    """A history in the making; each event follows the one before after some seconds."""

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []
        self.now = 1000.0

    def add(
        self,
        kind: EventKind,
        image_id: str | None = "a",
        after: float = 1.0,
        who: str = "",
        **body: Any,
    ) -> Past:
        self.now += after
        number = len(self.events) + 1
        self.events.append(StoredEvent(number, self.now, who, kind, image_id, None, body))
        return self

    def found(self, document: str = "d1", phrase: str = "cyst", **where: Any) -> Past:
        self.add(
            EventKind.EDIT,
            name="find",
            draft=[None, document],
            proposed=True,
            after=2.0,
            **where,
        )
        return self.add(
            EventKind.SEARCH, phrase=phrase, found=1, phrases=[phrase], detector="words",
            segmenter="nano", seconds=0.5, after=0.0, **where,
        )  # fmt: skip

    def clicked(self, before: str | None, pending: str, answer: str, **where: Any) -> Past:
        self.add(
            EventKind.EDIT, name="click", draft=[before, pending], proposed=before is not None,
            **where,
        )  # fmt: skip
        return self.add(
            EventKind.ANSWER, pending=pending, draft=answer, proposed=True, model="nano",
            seconds=0.25, **where,
        )  # fmt: skip

    def accepted(self, document: str | None, **where: Any) -> Past:
        patch = {} if document is None else {"patch": {}}
        return self.add(
            EventKind.EDIT, name="accept", draft=[document, None], proposed=False, state=COMMIT,
            **patch, **where,
        )  # fmt: skip

    def painted(self, **where: Any) -> Past:
        return self.add(EventKind.EDIT, name="paint", patch={}, state=COMMIT, **where)

    def rows(self, who: str = "", idle: float = 60.0) -> dict[str, ImageEffort]:
        ids = {event.image_id for event in self.events if event.image_id is not None}
        states = dict.fromkeys(ids, ImageState.ACCEPTED)
        return {row.image_id: row for row in efforts(self.events, who, states, idle)}


def test_a_pause_longer_than_the_idle_limit_counts_as_the_limit() -> None:
    past = Past().add(EventKind.OPEN).clicked(None, "p", "d", after=10.0)
    past.accepted("d", after=3600.0).add(EventKind.LEAVE, after=5.0)
    assert past.rows(idle=60.0)["a"].active_s == 10 + 10 + 60 + 5


def test_a_visit_that_says_how_long_the_person_was_at_work_is_believed() -> None:
    past = Past().add(EventKind.OPEN).painted(after=90.0).add(EventKind.LEAVE, active_s=83.5)
    past.add(EventKind.OPEN, after=500.0).add(EventKind.LEAVE, after=7.0)
    row = past.rows()["a"]
    assert row.active_s == 83.5 + 7.0
    assert row.visits == 2


def test_time_between_two_visits_is_nobodys() -> None:
    past = Past().add(EventKind.OPEN).add(EventKind.LEAVE, after=4.0)
    past.add(EventKind.OPEN, "b", after=30.0).add(EventKind.LEAVE, "b", after=6.0)
    rows = past.rows()
    assert (rows["a"].active_s, rows["b"].active_s) == (4.0, 6.0)


def test_after_a_crash_the_next_opening_does_not_count_the_night() -> None:
    past = Past().add(EventKind.OPEN).clicked(None, "p", "d").add(EventKind.OPEN, after=30_000.0)
    assert past.rows()["a"].active_s == 2.0


@given(st.lists(st.floats(0.0, 1e5), max_size=20), st.floats(1.0, 300.0))
def test_work_is_never_longer_than_the_clock_says_nor_than_the_limit_allows(
    gaps: list[float], idle: float
) -> None:
    past = Past().add(EventKind.OPEN)
    for gap in gaps:
        past.painted(after=gap)
    active = past.rows(idle=idle)["a"].active_s
    assert 0.0 <= active <= min(sum(gaps), idle * len(gaps)) * (1 + 1e-9) + 1e-6


def test_what_is_propagated_is_a_first_proposal_and_nobodys_work() -> None:
    past = Past().add(EventKind.OPEN).clicked(None, "p", "d1")
    run = {"name": "propagate", "proposed": True, "model": "flow"}
    past.add(EventKind.EDIT, image_id="b", draft=[None, "d2"], after=5.0, **run)
    past.add(EventKind.EDIT, image_id="c", draft=[None, "d3"], after=5.0, **run)
    alone = past.add(EventKind.LEAVE, after=5.0).events
    (row,) = efforts(alone, "", {})
    assert row.image_id == "a"
    assert row.active_s == 17.0, "the click took two of them"
    past.add(EventKind.OPEN, image_id="b")
    past.add(EventKind.EDIT, image_id="b", name="accept", draft=["d2", None], state=COMMIT)
    _, row = efforts(past.events, "", {"b": ImageState.ACCEPTED})
    assert (row.first.source, row.first.model, row.way) == ("propagation", "flow", Way.UNCHANGED)
    assert row.edits == {"accept": 1}


def test_an_edit_of_several_images_is_work_on_the_one_that_is_open() -> None:
    past = Past().add(EventKind.OPEN)
    for image_id in ("a", "b", "c"):
        past.add(EventKind.EDIT, image_id=image_id, name="accept", state=COMMIT)
    past.add(EventKind.LEAVE)
    rows = efforts(past.events, "", {})
    assert [row.active_s for row in rows] == [4.0, 0.0, 0.0]


def test_prompts_models_and_waiting_are_counted() -> None:
    past = Past().add(EventKind.OPEN).found().clicked("d1", "p1", "d2").clicked("d2", "p2", "d3")
    past.add(EventKind.UNDO, draft="d2", proposed=True).accepted("d2")
    row = past.rows()["a"]
    assert (row.clicks, row.edits["find"], row.undone) == (2, 1, 1)
    assert row.models == ["words + nano", "nano"]
    assert row.waited_s == 1.0
    assert row.searches == [Search(("cyst",), 1, ("cyst",), "d1")]
    assert row.first is not None
    assert row.first.name == "phrase: words + nano"


def test_a_search_that_is_written_before_its_proposal_is_paired_with_it_too() -> None:
    past = Past().add(EventKind.OPEN)
    past.add(
        EventKind.SEARCH, phrase="Cyst. Rib", found=1, phrases=["cyst"], detector="words",
        segmenter="nano", seconds=0.5,
    )  # fmt: skip
    past.add(EventKind.EDIT, name="find", draft=[None, "d1"], proposed=True).accepted("d1")
    row = past.rows()["a"]
    assert row.searches == [Search(("cyst", "rib"), 1, ("cyst",), "d1")]
    assert row.first is not None
    assert row.first.name == "phrase: words + nano"


@pytest.mark.parametrize(
    ("history", "way"),
    [
        (Past().found().accepted("d1"), Way.UNCHANGED),
        (Past().clicked(None, "p", "d").accepted("d"), Way.UNCHANGED),
        (Past().found().clicked("d1", "p", "d2").accepted("d2"), Way.CHANGED),
        (Past().found().accepted("d1").painted(), Way.CHANGED),
        (
            Past()
            .found()
            .add(EventKind.EDIT, name="clear", draft=["d1", None], proposed=False)
            .painted(),
            Way.DISCARDED,
        ),
        (Past().painted().accepted(None), Way.BY_HAND),
        (Past().accepted(None), Way.EMPTY),
    ],
)
def test_how_labels_came_about(history: Past, way: Way) -> None:
    assert history.rows()["a"].way is way


def test_an_accept_that_was_taken_back_does_not_count() -> None:
    past = Past().found().accepted("d1").add(EventKind.UNDO, draft="d1", proposed=True)
    past.clicked("d1", "p", "d2").accepted("d2")
    assert past.rows()["a"].way is Way.CHANGED
    again = Past().found().accepted("d1").add(EventKind.UNDO, draft="d1", proposed=True)
    again.add(EventKind.REDO, draft=None, proposed=False)
    assert again.rows()["a"].way is Way.UNCHANGED


def test_an_image_that_is_not_accepted_any_more_has_no_way_and_no_time_of_acceptance() -> None:
    past = Past().found().accepted("d1").add(EventKind.UNDO, draft="d1", proposed=True)
    (row,) = efforts(past.events, "", {"a": ImageState.UNTOUCHED})
    assert (row.way, row.accepted_at, row.state) == (None, None, ImageState.UNTOUCHED)


def test_an_answer_that_comes_too_late_is_no_proposal() -> None:
    past = Past().add(EventKind.EDIT, name="click", draft=[None, "p"], proposed=False)
    past.add(EventKind.TAKEN_BACK, draft=None, proposed=False)
    past.add(EventKind.ANSWER, pending="p", draft="d", proposed=True, model="nano", seconds=1.0)
    assert past.rows()["a"].first is None


def test_each_annotator_has_a_ledger_of_their_own() -> None:
    past = Past().add(EventKind.OPEN).add(EventKind.OPEN, who="Ann", after=0.0)
    past.painted(after=5.0).painted(who="Ann", after=2.0)
    assert past.rows()["a"].active_s == 5.0
    assert past.rows("Ann")["a"].active_s == 7.0


# -- from proposals to what was committed ----------------------------------------------------------


def blank() -> np.ndarray:
    return np.zeros(SIZE_HW, bool)


def disc(x: int, y: int, radius: int = 6) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def proposed(mask: np.ndarray, class_id: int = 1, phrase: str = "") -> ProposedObject:
    box = np.zeros(4, np.float32)
    return ProposedObject(class_id, Prompts(), Proposal(mask, box, 0.9, phrase, 0.9))


def test_what_a_phrase_missed_lowers_its_dice_and_what_a_click_was_not_asked_for_does_not() -> None:
    proposal = ImageProposal((proposed(disc(15, 20), phrase="cyst"),))
    labels = (disc(15, 20) | disc(45, 20)).astype(np.uint8)
    by_phrase, by_click = compare(proposal, labels, "phrase"), compare(proposal, labels, "click")
    assert by_phrase is not None
    assert by_click is not None
    assert by_phrase.dice == pytest.approx(2 / 3)
    assert by_phrase.hd95_px > 10
    assert (by_click.dice, by_click.hd95_px) == (1.0, 0.0)


def test_a_proposal_that_was_thrown_away_has_no_overlap_left() -> None:
    quality = compare(ImageProposal((proposed(disc(15, 20)),)), blank().astype(np.uint8), "click")
    assert quality is not None
    assert quality.dice == 0.0


def test_classes_are_compared_one_by_one() -> None:
    proposal = ImageProposal((proposed(disc(15, 20), 1, "cyst"), proposed(disc(45, 20), 2, "rib")))
    labels = disc(15, 20).astype(np.uint8)
    quality = compare(proposal, labels, "phrase")
    assert quality is not None
    assert [(item.phrase, item.dice) for item in quality.classes] == [("cyst", 1.0), ("rib", 0.0)]


# -- a project on disk -----------------------------------------------------------------------------


class Person:
    """Labels a real project, by its store's own way of recording."""

    def __init__(self, folder: Path, names: str, annotator: str = "") -> None:
        folder.mkdir(exist_ok=True)
        for name in names:
            Image.fromarray(np.full(SIZE_HW, 80, np.uint8)).save(folder / f"{name}.png")
        self.store = Project(folder, annotator=annotator)
        set_classes(self.store, (LabelClass(1, "cyst", "#e69f00"),))
        self.serial, self.at = self.store.log.serial, 1_700_000_000.0

    def do(self, kind: EventKind, image_id: str, seconds: float = 1.0, **values: Any) -> None:
        self.serial, self.at = self.serial + 1, self.at + seconds
        self.store.record([Event(self.serial, kind, image_id, at=self.at, **values)])

    def label(self, name: str, final: np.ndarray, found: np.ndarray | None, seconds: float) -> None:
        """Look for cysts, accept what a phrase found, and paint the rest by hand."""
        self.do(EventKind.OPEN, name)
        labels = blank().astype(np.uint8)
        state = (ImageState.UNTOUCHED, ImageState.ACCEPTED)
        if found is not None:
            proposal = ImageProposal((proposed(found, 1, "cyst"),))
            self.do(EventKind.EDIT, name, edit=Edit("find", name, (ImageProposal(), proposal)))
            body = {"phrase": "cyst", "found": 1, "phrases": ["cyst"], "detector": "words",
                    "segmenter": "nano", "seconds": 0.1}  # fmt: skip
            self.do(EventKind.SEARCH, name, body=body)
            patch = difference(labels, found.astype(np.uint8))
            edit = Edit("accept", name, (proposal, ImageProposal()), patch, state)
            self.do(EventKind.EDIT, name, edit=edit)
            labels = found.astype(np.uint8)
        patch = difference(labels, final.astype(np.uint8))
        if patch is not None:
            self.do(EventKind.EDIT, name, edit=Edit("paint", name, None, patch, state))
        self.do(EventKind.LEAVE, name, body={"active_s": seconds})


@pytest.fixture
def labelled(tmp_path: Path) -> Callable[[str], Path]:
    def make(names: str = "abcdefghijkl") -> Path:
        folder = tmp_path / "scans"
        person = Person(folder, names)
        right, half = disc(20, 20), disc(20, 20) & (np.arange(SIZE_HW[1]) < 20)
        for index, name in enumerate(names):
            if index % 2:
                person.label(name, right, None, seconds=30.0)
            else:
                found = half if index == 4 else right
                person.label(name, right, found, seconds=8.0 if index == 4 else 5.0)
        person.store.close()
        return folder

    return make


def test_a_project_says_what_its_models_saved(labelled: Callable[[str], Path]) -> None:
    store = Project(labelled("abcdefghijkl"), write=False)
    ledger = read_ledger([store])
    by_hand, model = ledger.models.to_dict("records")
    assert (by_hand["first_proposal"], by_hand["images"]) == ("by hand", 6)
    assert by_hand["median_s"] == 30.0
    assert (model["first_proposal"], model["images"]) == ("phrase: words + nano", 6)
    assert (model["median_unchanged_s"], model["median_changed_s"]) == (5.0, 8.0)
    assert (model["saved_s"], model["unchanged"]) == (25.0, 5)
    assert 0.9 < model["dice"] < 1.0
    assert list(ledger.changed["image_id"]) == ["e"]
    (phrase,) = ledger.phrases.to_dict("records")
    assert (phrase["class"], phrase["phrase"]) == ("cyst", "cyst")
    assert (phrase["images_searched"], phrase["images_found"]) == (6, 6)
    assert len(ledger.accepted) == 12
    assert ledger.failures == ()


def test_too_few_images_say_nothing_of_what_a_model_saved(labelled: Callable[[str], Path]) -> None:
    store = Project(labelled("abcd"), write=False)
    assert read_ledger([store]).models["saved_s"].isna().all()


def test_what_was_measured_once_is_not_measured_again(
    labelled: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = labelled("abcdef")
    store = Project(folder, write=False)
    rows = efforts(store.events(), "", store.states())
    cache = QualityCache(tmp_path)
    assert not measure(store, rows, cache)
    first = [row.quality for row in rows]
    cache.save()
    monkeypatch.setattr(store, "proposal", lambda document: pytest.fail("it was read again"))
    again = efforts(store.events(), "", store.states())
    assert not measure(store, again, QualityCache(tmp_path))
    assert [row.quality for row in again] == first
    assert len([quality for quality in first if quality is not None]) == 3


def test_a_project_that_is_only_read_keeps_what_was_measured_too(
    labelled: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Project(labelled("ab"), write=False)
    first = read_ledger([store])
    monkeypatch.setattr(store, "proposal", lambda document: pytest.fail("it was read again"))
    again = read_ledger([store])
    assert list(again.images["dice"].dropna()) == list(first.images["dice"].dropna()) == [1.0]


def test_a_torn_cache_is_made_anew(labelled: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_text('{"found": {"x": [[1')
    store = Project(labelled("ab"), write=False)
    rows = efforts(store.events(), "", store.states())
    assert not measure(store, rows, QualityCache(tmp_path))
    assert [row.image_id for row in rows if row.quality is not None] == ["a"]


@pytest.mark.parametrize("annotator", [None, "", "Ann"])
def test_a_project_is_opened_once_for_each_annotator(
    labelled: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, annotator: str | None
) -> None:
    folder = labelled("ab")
    person = Person(folder, "ab", "Ann")
    person.label("a", disc(20, 20), None, seconds=1.0)
    person.store.close()
    opened: list[str] = []

    def counted(*args: Any, **kwargs: Any) -> Project:
        store = Project(*args, **kwargs)
        opened.append(store.annotator)
        return store

    monkeypatch.setattr(ledger_module, "Project", counted)
    with ledger_module.open_for_report(folder, annotator=annotator) as stores:
        assert [store.annotator for store in stores] == opened
    assert opened == (["", "Ann"] if annotator is None else [annotator])


def test_an_empty_project_has_an_empty_ledger(tmp_path: Path) -> None:
    person = Person(tmp_path / "scans", "ab")
    ledger = read_ledger([person.store])
    assert ledger.efforts == ()
    assert ledger.models.empty
    assert ledger.phrases.empty
    assert ledger.changed.empty
    assert ledger.per_hour is None


def test_a_phrase_that_found_nothing_counts_against_it_only_where_the_class_was() -> None:
    missed = Past().add(EventKind.OPEN)
    for image_id, painted in (("a", True), ("b", False)):
        missed.add(
            EventKind.SEARCH, image_id, phrase="cyst", found=0, phrases=[], detector="words",
            segmenter="nano", seconds=0.1,
        )  # fmt: skip
        (missed.painted if painted else missed.accepted)(
            **({} if painted else {"document": None}), image_id=image_id
        )
    rows = tuple(missed.rows().values())
    (row,) = phrase_table(rows, [LabelClass(1, "Cyst", "#e69f00")]).to_dict("records")
    assert (row["class"], row["images_searched"]) == ("Cyst", 2)
    assert (row["images_found"], row["dice"]) == (0, 0.5)
    images = image_table(rows)
    assert set(model_table(images)["first_proposal"]) == {"by hand", "nothing there"}
    assert images["dice"].isna().all()


def test_a_plot_of_ten_thousand_images_stays_small() -> None:
    rows = [ImageEffort(str(n), "", 0.0, float(n), n % 7, way=Way.BY_HAND) for n in range(10_000)]
    images = image_table(rows)
    drawn = timeline(Ledger("p", len(rows), tuple(rows), images, model_table(images), images))
    assert drawn.startswith(b"\x89PNG")
    assert len(drawn) < 500_000


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (90, "2 min"), (9000, "2.5 h")]
)
def test_a_span_of_time_reads_as_a_person_says_it(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_the_data_cards_lines_name_the_models_with_their_licences_and_the_ways() -> None:
    past = Past().add(EventKind.OPEN).clicked(None, "p", "d")
    past.add(EventKind.EDIT, name="accept", draft=["d", None], proposed=False, state=COMMIT)
    past.events = [
        replace(event, body=event.body | {"model": "sam2.1-hiera-tiny-12ab34cd"})
        if event.kind is EventKind.ANSWER
        else event
        for event in past.events
    ]

    class Store:
        annotator = ""

        def events(self):
            return past.events

        def states(self):
            return {"a": ImageState.ACCEPTED}

    lines = about_the_work(Store())
    assert "1 images were accepted by the first annotator, who gave no name" in lines[2]
    assert lines[3] == "First proposals: 1 accepted as they were."
    assert lines[-1] == (
        "- sam2.1-hiera-tiny-12ab34cd: weights under sam2.1-hiera-tiny: Apache-2.0"
    )
