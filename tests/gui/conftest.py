"""The fixtures of ``tests.support.person``."""

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
    viewer,
    window,
)
