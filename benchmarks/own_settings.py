"""Settings of a run's own: those of the person who runs it are neither read nor written."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def own_settings(folder: Path) -> None:
    """Keep what napari and the plugin remember in a folder; napari is not to be imported yet."""
    assert "napari" not in sys.modules, "it has looked where its settings are"
    os.environ["NAPARI_CONFIG"] = str(folder / "napari" / "settings.yaml")
    from qtpy.QtCore import QSettings

    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(folder))
