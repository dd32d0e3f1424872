"""Regions, spacing and calipers in a real window, on a phantom as a scanner might write it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from napari_usgseg.gui.canvas.tools import Tool
from napari_usgseg.phantoms.phantom import make_phantom
from tests.support.dicom import region, write_dicom

pytestmark = pytest.mark.gui

MM = 0.2
TOP = 40
"""Rows of the screen above the picture, where a scanner writes its text."""


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(0)


@pytest.fixture
def scanned(person, tmp_path, phantom):
    """A person with a DICOM picture of a phantom open, in the middle of a screen, and its PNG."""
    height, width = phantom.image.shape[:2]
    screen = np.full((height + TOP, width), 25, np.uint8)
    screen[TOP:] = phantom.image[..., 0]
    box = (0, TOP, width - 1, height + TOP - 1)
    folder = tmp_path / "scans"
    folder.mkdir()
    write_dicom(
        folder / "a.dcm", screen[None],
        SequenceOfUltrasoundRegions=[region(box, deltas=(MM / 10, MM / 10))],
    )  # fmt: skip
    Image.fromarray(screen).save(folder / "b.png")
    person.open(folder)
    return person


def click_on(person, phantom):
    rows, columns = np.nonzero(phantom.labels == 1)
    middle = len(rows) // 2
    person.click(float(columns[middle]), float(rows[middle] + TOP))
    person.wait(lambda: person.session.proposal.has_masks)
    person.settle()


def measured(person):
    person.wait(lambda: len(person.layer("labels").features) > 0)
    return person.layer("labels").features


def test_a_click_is_answered_in_the_region_and_the_object_measured_in_mm(scanned, phantom):
    click_on(scanned, phantom)
    mask = scanned.session.proposal.objects[0].proposal.mask
    assert mask.shape[0] == phantom.image.shape[0] + TOP
    assert not mask[:TOP].any()
    scanned.wait(lambda: "mm2" in scanned.widget.status.text())
    area = float(scanned.widget.status.text().split(" mm2")[0].split()[-1])
    assert area == pytest.approx(mask.sum() * MM**2, rel=0.01)
    scanned.session.editing.accept()
    scanned.settle()
    table = measured(scanned)
    assert table["area_mm2"].to_numpy() == pytest.approx([mask.sum() * MM**2], rel=1e-3)
    assert table["index"].tolist() == [1]
    assert table["spacing_from"].tolist() == ["scanner"]
    assert "By the scanner a pixel is 0.2 mm" in scanned.widget.measure.says.text()
    assert not scanned.widget.measure.form.isEnabled()


def test_the_region_is_outlined_and_the_outline_can_be_taken_away(scanned):
    shapes = scanned.layer("shapes")
    assert shapes.nshapes == 1
    np.testing.assert_array_equal(shapes.data[0].min(0), [TOP - 0.5, -0.5])
    scanned.widget.view.form.controls["regions"].value = False
    scanned.settle()
    assert scanned.layer("shapes").nshapes == 0
    scanned.widget.view.form.controls["regions"].value = True
    scanned.settle()
    scanned.widget.models.seen.controls["crop_to_regions"].value = False
    scanned.settle()
    assert scanned.layer("shapes").nshapes == 0, "models see all of it"
    assert not scanned.session.settings.crop_to_regions


def test_a_caliper_is_a_line_with_its_length_that_stays_while_the_image_is_shown(scanned):
    from qtpy.QtCore import Qt

    scanned.press(Qt.Key.Key_F8)
    assert scanned.widget.tools.tool is Tool.CALIPER
    assert scanned.widget.measure.caliper.isChecked()
    scanned.drag((100, 100), (140, 130), (200, 100))
    scanned.settle()
    assert scanned.layer("shapes").nshapes == 2
    (text,) = scanned.layer("names").features["name"]
    length, unit = text.split()
    assert unit == "mm"
    assert float(length) == pytest.approx(100 * MM, abs=2 * MM)
    assert not scanned.session.proposal.objects, "it is no prompt"
    scanned.drag((100, 20), (200, 20))
    scanned.settle()
    assert scanned.layer("names").features["name"].tolist()[1].endswith(" px"), "off the region"
    scanned.widget.measure.clear.click()
    scanned.settle()
    assert scanned.layer("shapes").nshapes == 1
    assert len(scanned.layer("names").data) == 0
    scanned.drag((100, 100), (200, 100))
    scanned.session.navigation.step(1)
    scanned.settle()
    scanned.session.navigation.step(-1)
    scanned.settle()
    assert len(scanned.layer("names").data) == 0


def test_where_the_file_says_nothing_a_known_length_gives_the_scale_of_all_images_of_its_size(
    scanned, phantom
):
    scanned.session.navigation.step(1)
    scanned.settle()
    panel = scanned.widget.measure
    assert "lengths are in pixels" in panel.says.text()
    scanned.widget.tools.arm(Tool.CALIPER)
    scanned.drag((100, 100), (200, 100))
    scanned.settle()
    assert scanned.layer("names").features["name"].tolist()[0].endswith(" px")
    panel.form.controls["last_caliper"].value = 50.0
    scanned.settle()
    (side,) = scanned.session.settings.mm_per_pixel.values()
    assert side == pytest.approx(0.5, rel=0.03)
    assert scanned.layer("names").features["name"].tolist() == ["50.0 mm"]
    assert panel.form.value("mm_per_pixel") == pytest.approx(side, abs=1e-4)
    scanned.widget.tools.arm(Tool.POINT)
    click_on(scanned, phantom)
    scanned.session.editing.accept()
    scanned.settle()
    assert measured(scanned)["spacing_from"].tolist() == ["person"]
    scanned.session.navigation.step(-1)
    scanned.settle()
    assert "By the scanner" in panel.says.text(), "what the file says comes first"
    panel.form.controls["mm_per_pixel"].value = 0.0
    scanned.settle()


def test_a_layer_of_a_scanners_file_is_measured_by_its_regions_and_another_by_its_scale(
    person, tmp_path, phantom
):
    from napari.layers import Image as ImageLayer

    from napari_usgseg.gui.canvas.layers import about_layer

    height, width = phantom.image.shape[:2]
    path = write_dicom(
        tmp_path / "a.dcm", phantom.image[None, ..., 0],
        SequenceOfUltrasoundRegions=[region((0, 0, width - 1, height - 1), deltas=(0.02, 0.03))],
    )  # fmt: skip
    person.viewer.open(str(path), plugin="napari-usgseg")
    person.widget.use_open_layer()
    person.settle()
    assert person.widget.measure.says.text() == "By the scanner a pixel is 0.2 x 0.3 mm."
    assert len(person.session.fields_of_view()) == 1
    flat = ImageLayer(phantom.image[..., 0], scale=(0.05, 0.06), units=("cm", "cm"))
    about = about_layer(flat)
    assert about is not None
    assert about.spacing_mm == pytest.approx((0.5, 0.6))
    assert about_layer(ImageLayer(phantom.image[..., 0])) is None


def test_a_length_that_no_pixel_has_is_refused(scanned):
    scanned.session.navigation.step(1)
    scanned.settle()
    scanned.widget.measuring.set_last_caliper(5)
    assert "Draw a caliper" in scanned.widget.status.text()
    scanned.widget.measuring.add_caliper((0, 0), (3, 0))
    scanned.widget.measuring.set_last_caliper(900)
    assert scanned.session.settings.mm_per_pixel == {}
    settings = replace(scanned.session.settings, mm_per_pixel={"1x1": 0.1})
    assert type(settings).from_json(settings.to_json()) == settings
