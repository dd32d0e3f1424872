"""``python -m napari_usgseg.cli``: the command line where ``usgseg`` is not on the path."""

import sys

from .main import run

sys.exit(run())
