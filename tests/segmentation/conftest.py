"""The fixtures of ``tests.support.plain_models``."""

from tests.support.plain_models import (  # noqa: F401
    answers,
    image,
    make_detector,
    plain_segmenter,
)
