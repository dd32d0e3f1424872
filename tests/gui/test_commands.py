"""Every action as a command of napari: of the palette, on the dock that is there or is opened."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from napari_usgseg.gui.keys import SHORTCUTS

pytestmark = pytest.mark.gui

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "manifest.py"


def command(name: str):
    return getattr(import_module("napari_usgseg.gui.commands"), name)


def test_the_manifest_has_a_command_for_every_action_of_the_table():
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    held = {item.setting for item in SHORTCUTS if item.ends is not None}
    assert held == {"hold_to_see_the_image_alone"}, "no command can be held down"


def test_naparis_palette_offers_them_and_runs_them(at_work):
    """As napari's own palette does: found by their title, run by their id."""
    from app_model.types import Action
    from napari._app_model import get_app_model
    from napari.plugins._npe2 import _npe2_manifest_to_actions
    from npe2 import PluginManifest

    import napari_usgseg

    manifest = PluginManifest.from_file(Path(napari_usgseg.__file__).parent / "napari.yaml")
    actions: dict[str, Action] = {
        action.id: action for action in _npe2_manifest_to_actions(manifest)[0]
    }
    assert actions["napari-usgseg.undo"].title == "undo (Ultrasound segmentation)"
    commands = get_app_model().commands
    first = at_work.session.record.image_id
    for name in ("next", "previous", "next"):
        action = actions[f"napari-usgseg.{name}"]
        if action.id not in commands:
            get_app_model().register_action(action)
        commands.execute_command(action.id).result()
        at_work.settle()
    assert at_work.session.record.image_id != first


def test_grow_and_undo_as_commands_change_the_object_under_work(at_work):
    session = at_work.session
    session.prompting.draw_stroke([(20, 30), (60, 40)], 9)
    before = session.proposal.current.proposal.mask
    command("grow")()
    at_work.settle()
    grown = session.proposal.current.proposal.mask
    assert before.sum() < grown.sum()
    assert not (before & ~grown).any()
    command("undo")()
    at_work.settle()
    assert session.proposal.current.proposal.mask.sum() == before.sum()


def test_a_command_opens_the_dock_where_it_was_closed(person, window):
    from napari_usgseg.gui.commands import find_dock

    assert find_dock() is person.widget
    window.undock()
    command("contours_or_fill")()
    opened = find_dock()
    assert opened is not person.widget
    person.wait(opened.isVisible)


def test_a_name_that_is_no_action_is_none():
    with pytest.raises(AttributeError, match="dream"):
        command("dream")
