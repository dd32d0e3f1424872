"""The fixtures of the window's tests, and the real data's, for the benchmarks' own tests."""

from tests.conftest import data_folder  # noqa: F401
from tests.gui.conftest import *  # noqa: F403
