"""What is read and encoded while a person looks; all of it by what happened, never by the clock."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.io.images import content_key
from napari_usgseg.jobs import Lane, Outcome
from napari_usgseg.jobs.files import load_image, run_file_job
from napari_usgseg.jobs.inference import embed, segment_prompt
from napari_usgseg.project.records import ImageState
from tests.support.bench import SIZE_HW

NAMES = "abcdefg"


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        pixels = np.random.default_rng(ord(name)).integers(0, 255, SIZE_HW).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.fixture
def encoded(bench):
    """The names of the images that were encoded, in order."""
    names = {}
    for record in bench.session.image_queue.records:
        names[content_key(bench.session.store.read_image(record))] = record.image_id
    return lambda: "".join(names[key] for key in bench.segmenter.embedded)


def answer_next(bench, function):
    job = bench.held_for(function)[0]
    bench.held.remove(job)
    bench.answer(job)
    return job


def test_this_image_the_next_two_and_the_one_before_are_encoded_each_once(bench, encoded):
    assert encoded() == "abc"
    bench.session.navigation.step(1)
    assert encoded() == "abcd"
    bench.session.navigation.open_image("f")
    assert encoded() == "abcdfge"
    bench.session.navigation.step(-1)
    bench.session.navigation.step(-1)
    assert encoded() == "abcdfge", "what is near was there already"


def test_the_first_click_finds_the_image_encoded_while_the_person_looked(bench, encoded):
    session = bench.session
    for expected in "bcd":
        session.navigation.step(1)
        assert session.record.image_id == expected
        before = encoded()
        assert expected in before, "before the click"
        session.prompting.add_point(20, 20)
        assert session.proposal.has_masks
        assert encoded() == before


def test_a_click_that_comes_before_the_encoder_is_ready_encodes_once_only(bench, encoded):
    bench.hold = True
    bench.session.navigation.open_image("e")
    answer_next(bench, load_image)
    bench.session.prompting.add_point(20, 20)
    assert answer_next(bench, segment_prompt).lane is Lane.CLICKS
    assert bench.session.proposal.has_masks
    bench.release()
    assert encoded().count("e") == 1


def test_one_image_at_a_time_is_prefetched_the_next_one_first(bench):
    session = bench.session
    bench.hold = True
    session.navigation.open_image("e")
    answer_next(bench, load_image)
    for expected in "fgd":
        (waiting,) = bench.held_for(load_image)
        assert waiting.args[1].image_id == expected
        answer_next(bench, load_image)
    assert not bench.held_for(load_image)
    prefetched = [job for job in bench.held_for(embed) if job.lane is Lane.PREFETCH]
    assert len(prefetched) == 3


def test_the_order_is_that_of_the_queue_as_it_is_filtered(bench, encoded):
    session = bench.session
    for image_id in "ef":
        session.image_queue.set_state(image_id, ImageState.ACCEPTED)
    session.image_queue.only = ImageState.UNTOUCHED
    session.navigation.open_image("d")
    assert encoded() == "abcdg", "e and f are filtered out, c was there"


def test_what_was_prefetched_for_another_image_is_dropped_and_labels_are_never_old(bench):
    session = bench.session
    session.navigation.open_image("a")
    bench.hold = True
    session.navigation.open_image("e")
    answer_next(bench, load_image)
    late = bench.held_for(load_image)[0]
    assert late.args[1].image_id == "f"
    bench.held.remove(late)
    bench.hold = False
    session.navigation.open_image("f")
    painted = session.labels.copy()
    painted[5:9, 5:9] = 1
    session.editing.painted(painted)
    session.navigation.step(-1)
    late.receive(without_labels(late))
    session.navigation.step(1)
    assert session.labels.sum() == 16, "the answer from before the painting changes nothing"


def without_labels(job):
    loaded = run_file_job(job).result
    return Outcome(replace(loaded, labels=np.zeros_like(loaded.labels)))


def test_an_image_that_cannot_be_prefetched_is_passed_over_without_a_word(bench, encoded, folder):
    (folder / "e.png").write_bytes((folder / "e.png").read_bytes()[:200])
    bench.session.navigation.open_image("d")
    assert not bench.session.status.error
    assert encoded() == "abcdf"
    bench.session.navigation.step(1)
    assert bench.session.status.error, "but opening it says what is wrong"


def test_another_model_encodes_what_is_near_again(bench):
    before = len(bench.segmenter.embedded)
    other = type(bench.segmenter)()
    other.model_id = "other discs"
    bench.models.segmenter = lambda name: other
    bench.session.set_settings(replace(bench.session.settings, segmenter="other"))
    assert len(bench.segmenter.embedded) == before
    assert len(other.embedded) == 3


def test_embeddings_are_kept_beside_the_labels_unless_the_person_wants_none(bench, folder):
    place = bench.session.source().cache
    assert place.folder == folder / "usgseg" / "cache" / "embeddings"
    assert place.limit_bytes == 4 * 2**30
    bench.session.set_settings(replace(bench.session.settings, cache_gb=0.0))
    assert bench.session.source().cache is None
    bench.session.navigation.open_array("a layer", np.zeros(SIZE_HW, np.uint8))
    assert bench.session.source().cache is None
