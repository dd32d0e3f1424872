"""Preferences of the plugin in napari, and what the window remembers of itself.

The keys and the annotator's name are ``configurations`` of the manifest, which napari shows, checks
and keeps by itself. Its own table of shortcuts is no place for them: napari reads that table before
it loads a plugin, and then warns at each start of actions that it does not know. napari before 0.9
has no such preferences; there the keys are those of the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from app_model.types import KeyBinding, KeyCode
from napari.utils.key_bindings import coerce_keybinding
from qtpy.QtCore import QSettings

PLUGIN = "napari-usgseg"


def keys() -> dict[str, str]:
    """The chosen key of each action by its setting's name; {} where napari has no preferences."""
    section = _section()
    chosen = {} if section is None else section.model_dump()
    return {name: str(key).strip() for name, key in chosen.items()}


def annotator() -> str:
    """The name under which the person labels; "" is the first annotator."""
    section = _section("annotator")
    return "" if section is None else str(section.name).strip()


def set_annotator(name: str) -> None:
    """Keep the name for later, where napari can."""
    section = _section("annotator")
    if section is not None:
        section.name = name


@lru_cache(maxsize=4)
def _section(name: str = "shortcuts") -> Any:
    """A part of our preferences, looked up once: where there are none, napari looks long."""
    try:
        from napari.settings import get_plugin_settings

        return getattr(get_plugin_settings(PLUGIN), name)
    except (ImportError, KeyError, AttributeError):
        return None


def on_change(changed: Callable[..., None]) -> Callable[[], None]:
    """Have something called when a key is chosen; gives what ends that."""
    section = _section()
    if section is None:
        return lambda: None
    section.events.connect(changed)
    return lambda: section.events.disconnect(changed)


def parsed(key: str) -> KeyBinding:
    """A key as napari compares it."""
    return coerce_keybinding(key)


def is_key(key: str) -> bool:
    """True where napari can bind this."""
    try:
        parts = parsed(key).parts
    except (ValueError, TypeError, KeyError):
        return False
    return bool(parts) and all(part.key is not KeyCode.UNKNOWN for part in parts)


def remember(name: str, value: Any) -> None:
    """Keep a JSON value for the next window of this user, whatever folder that opens."""
    _memory().setValue(name, json.dumps(value))


def recall(name: str) -> Any:
    """What was remembered under a name; None where nothing was."""
    try:
        return json.loads(str(_memory().value(name, "null")))
    except ValueError:
        return None


def _memory() -> QSettings:
    return QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, PLUGIN, "window")
