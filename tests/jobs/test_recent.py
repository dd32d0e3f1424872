"""What is kept of what is dear to make."""

from __future__ import annotations

import pytest

from napari_usgseg.jobs.loaded_models import Recent


def test_a_value_that_could_not_be_made_is_tried_again():
    recent = Recent(2)

    def fail() -> int:
        raise MemoryError

    with pytest.raises(MemoryError):
        recent.get_or_make("key", fail)
    assert recent.get_or_make("key", lambda: 3) == 3
