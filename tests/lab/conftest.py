"""The fixtures of ``tests.support.plain_models``."""

from tests.support.plain_models import image, make_detector, plain_segmenter  # noqa: F401
