"""Only the same training is gone on with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_usgseg.core.errors import CheckpointError
from napari_usgseg.learning.resuming import DONE, REQUEST_FILE, is_done, is_same, write_request

values = st.none() | st.integers() | st.text() | st.lists(st.integers()).map(tuple)
requests = st.dictionaries(st.text(min_size=1).filter(lambda key: key != "done"), values)


@given(request=requests)
def test_the_same_request_is_known_again(tmp_path_factory, request):
    out = tmp_path_factory.mktemp("out")
    assert not is_same(out, request)
    write_request(out, request)
    assert is_same(out, request)


def test_another_request_is_refused_and_says_in_what_it_differs(tmp_path):
    write_request(tmp_path, {"seed": 1, "images": ["a"], "steps": 10})
    with pytest.raises(CheckpointError, match=r"differs in images, seed\).*use another --out"):
        is_same(tmp_path, {"seed": 2, "images": ["a", "b"], "steps": 10})


def test_a_training_that_ended_is_still_the_same_one(tmp_path):
    assert not is_done(tmp_path)
    write_request(tmp_path, {"seed": 1})
    assert not is_done(tmp_path)
    write_request(tmp_path, {"seed": 1, DONE: True})
    assert is_done(tmp_path)
    assert is_same(tmp_path, {"seed": 1})


def test_a_request_of_an_older_version_is_another_one(tmp_path):
    write_request(tmp_path, {"seed": 1, "gone": True})
    with pytest.raises(CheckpointError, match="differs in gone, new"):
        is_same(tmp_path, {"seed": 1, "new": False})


@pytest.mark.parametrize("content", ["", "{", "[1]", "null"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / REQUEST_FILE).write_text(content)
    with pytest.raises(CheckpointError, match=rf"{REQUEST_FILE} cannot be read"):
        is_same(tmp_path, {"seed": 1})
