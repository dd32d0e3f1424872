"""The fixtures that tests of a window share, for those of the benchmarks."""

from tests.conftest import data_folder  # noqa: F401
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
