"""The fixtures of ``tests.support.person`` and its window."""

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
