"""What a person labels in the window is a data set that the command line reads.

The command runs in a process of its own, as a person's does: torch's triton and the LLVM of a
software OpenGL driver do not live in one process.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from napari_usgseg.core.geometry import components
from napari_usgseg.gui.canvas.tools import Tool
from napari_usgseg.io.formats import FORMATS

pytestmark = pytest.mark.gui


def test_three_labelled_images_export_to_a_data_set_that_evaluates_near_one(
    at_work, truth, tmp_path
):
    from qtpy.QtCore import Qt

    session = at_work.session
    labelled = [record.image_id for record in session.image_queue.records[:3]]
    for image_id in labelled:
        session.navigation.open_image(image_id)
        at_work.wait(lambda: session.loaded is not None)
        at_work.settle()
        at_work.widget.tools.arm(Tool.BOX)
        lesion = max(components(truth(image_id) == 1), key=np.sum)
        rows, columns = np.nonzero(lesion)
        corners = (columns.min(), rows.min()), (columns.max(), rows.max())
        at_work.drag(corners[0], (columns.mean(), rows.mean()), corners[1])
        at_work.wait(lambda: session.proposal.has_masks)
        at_work.settle()
        at_work.press(Qt.Key.Key_G)
        at_work.settle()
    out = tmp_path / "labelled"
    assert list(at_work.widget.export.form.controls["format"].choices) == list(FORMATS)
    at_work.widget.export.export_to(out)
    at_work.wait(lambda: (out / "dataset.json").is_file())
    at_work.settle()

    report = tmp_path / "report.json"
    words = ["evaluate", str(out), "--prompt", "box", "--json", str(report)]
    subprocess.run([sys.executable, "-m", "napari_usgseg.cli", *words], check=True)
    (score,) = json.loads(report.read_text())["datasets"].values()
    assert score["images"] == 3
    assert score["dice"] > 0.95
