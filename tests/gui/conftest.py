"""The fixtures of ``tests.support.person`` and its window."""

import pytest

from tests.support.person import (  # noqa: F401
    at_work,
    employ,
    heads,
    heads_folder,
    inference,
    no_giving_way,
    own_preferences,
    person,
    phantom_folder,
    phantom_set,
    slowdown,
    truth,
)
from tests.support.window import viewer, window  # noqa: F401


@pytest.fixture(autouse=True)
def no_weak_proposals(request, monkeypatch):
    """Without the mark "weak" nothing is fitted after an accept: most tests are not about that."""
    if request.node.get_closest_marker("weak") is None:
        from napari_usgseg.annotation.learners.weak import WeakProposer

        monkeypatch.setattr(WeakProposer, "fit", lambda self: None)
