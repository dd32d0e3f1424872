"""Drawing of a session on napari layers: pictures, label maps, proposals, prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from cachetools import LRUCache
from napari.layers import Image, Labels
from napari.utils.colormaps import DirectLabelColormap
from napari.viewer import Viewer
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Qt, Signal

from ...annotation.regions import box_of
from ...annotation.session import AnnotationSession
from ...annotation.settings import View
from ...core.geometry import mask_extent, mask_to_box, xy_to_rc
from ...core.types import FloatArray, Prompts
from ...io.labels import (
    MAX_INSTANCE,
    SHADES,
    Labelling,
    LabelMap,
    class_of,
    code_of,
    instance_color,
    instance_of,
    same_labels,
    values_in,
)
from ...jobs.files import REDUCED_BY, Loaded
from ...project.records import ClassTable, ImageProposal, ProposedObject
from ...project.versions import model_name
from ...segmentation.despeckle import despeckled
from ...segmentation.propose import Proposal
from ..parts import NewestFirst
from .layers import NAMES, STEP, TaggedLayers, place_like, step_of

Pixels = NDArray[np.uint8]
Levels = tuple[Pixels, ...]
"""An image, and where it is very large smaller copies of it."""
KEPT = 3
"""So many pictures are kept for coming back to them."""
WHITE = 255.0


class Pictures(QObject):
    """The pixels that are shown where they are not those of the image: brighter, despeckled.

    They are made on a thread of their own, of several that wait only the newest, and go to the
    image layer only; what a person points at, models and labels know the image as it was read.
    """

    ready = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._kept: LRUCache[tuple[str, View], Levels] = LRUCache(KEPT)
        self._awaited: tuple[str, View] | None = None
        self._thread = NewestFirst("usgseg-pictures", 1, self)
        self._thread.done.connect(self._on_done, Qt.ConnectionType.QueuedConnection)

    def get(self, key: str, levels: Levels, view: View) -> Levels:
        """The picture of an image, or its own pixels until ``ready`` says that it is made.

        Args:
            key: names the image.
            levels: (H, W) or (H, W, 3) each, the whole image and smaller copies of it.
            view: brightness and contrast of an image (H, W) are left to its layer.
        """
        wanted = _of_pixels(view, grey=levels[0].ndim == 2)
        if wanted == View():
            self._awaited = None
            return levels
        name = (key, wanted)
        if name in self._kept:
            return self._kept[name]
        if self._awaited != name:
            self._awaited = name
            self._thread.submit(name, lambda: tuple(picture(each, wanted) for each in levels))
        return levels

    def close(self) -> None:
        """End the thread once it is done with what it is at; that is shown no more."""
        self._awaited = None
        self._thread.close()

    def _on_done(self, name: tuple[str, View], levels: Levels | None) -> None:
        if levels is not None:
            self._kept[name] = levels
        if self._awaited == name:
            self._awaited = None
            if levels is not None:  # else it would be asked for, and fail, without end
                self.ready.emit()


def _of_pixels(view: View, grey: bool) -> View:
    """The part of a view that changes pixels."""
    part = replace(View(), despeckling=view.despeckling)
    return part if grey else replace(part, brightness=view.brightness, contrast=view.contrast)


def picture(pixels: Pixels, view: View) -> Pixels:
    """Pixels (H, W) or (H, W, 3) as a view shows them."""
    out = despeckled(pixels, view.despeckling)
    low, high = window(view)
    if (low, high) == (0.0, WHITE):
        return out
    table = np.clip((np.arange(256) - low) * (WHITE / (high - low)), 0, WHITE)
    return np.rint(table).astype(np.uint8)[out]


def window(view: View) -> tuple[float, float]:
    """The grey values that are shown black and white."""
    width = WHITE * 2 ** (-view.contrast / 40)
    middle = WHITE / 2 * (1 - view.brightness / 100)
    low, high = max(middle - width / 2, 0.0), min(middle + width / 2, WHITE)
    return low, max(high, low + 1)


POSITIVE, NEGATIVE, NEUTRAL = "#00d26a", "#ff3b6b", "#ffffff"
MEASURING, OUTLINE = "#ffd400", "#7a8794"
Mark = tuple[NDArray[Any], str, str, float]
"""Vertices (row, column), "rectangle" or "path", colour, width in pixels of the image (0: thin)."""
WIDE = "b0"
"""How opaque a stroke of its true width is while it is drawn, as the end of a colour."""
UNDER_WORK = "▸ "
ABOVE = 40
"""An object's name is this part of the image's longer side above it."""
LabelColors = dict[int | None, Any]
"""Label value -> colour; None is any other value."""


def put(layer: Labels, labels: NDArray[Any]) -> bool:
    """Show a label map in a layer; False where it is there already.

    Shape and type permitting it is written into the layer's own array, which is much cheaper in
    napari than a new one.
    """
    data = layer.data
    if data.shape != labels.shape or data.dtype != labels.dtype:
        layer.data = labels.copy()
        return True
    if same_labels(data, labels):
        return False
    data[...] = labels
    layer.refresh(extent=False)
    return True


def with_blocks(labels: LabelMap, reduced: LabelMap, step: int) -> LabelMap:
    """A label map (H, W) with what was changed in a copy that has each ``step``-th of its pixels.

    A changed pixel of the copy (ceil(H / step), ceil(W / step)) is a block of ``step`` x ``step``;
    all others stay as they are.
    """
    out = labels.astype(np.promote_types(labels.dtype, reduced.dtype))
    changed = reduced != labels[::step, ::step]
    window = mask_extent(changed)
    if window is not None:
        part = out[tuple(slice(side.start * step, side.stop * step) for side in window)]
        rows, columns = part.shape
        blocks = [
            each[window].repeat(step, 0).repeat(step, 1)[:rows, :columns]
            for each in (changed, reduced)
        ]
        part[blocks[0]] = blocks[1][blocks[0]]
    return out


ONION = np.uint16(65535)
"""The value of contours of the frame before; no label has it, so that it is grey."""
THICK = 2.0
"""Screen pixels of a contour."""
FINEST, COARSEST = 4, 0.25
MOST_PIXELS = 4_000_000
"""A layer of contours has no more, so that it is drawn at once."""


@dataclass(frozen=True, slots=True)
class Contour:
    """Contours as they are drawn, so that they are as wide on the screen whatever the image's size.

    Attributes:
        grain: pixels of the layer for each pixel of the image, 1/4 to 4.
        width: of a contour in pixels of the layer.
    """

    grain: float = 1.0
    width: int = 2

    @classmethod
    def seen(cls, shape: tuple[int, ...], zoom: float) -> Contour:
        """That of an image (H, W) of which a pixel has ``zoom`` screen pixels."""
        pixels = shape[0] * shape[1]
        if pixels > 3 * MOST_PIXELS:
            grain = COARSEST
        else:
            grain = float(
                min(max(math.ceil(zoom), 1), FINEST, max(math.isqrt(MOST_PIXELS // pixels), 1))
            )
        return cls(grain, screen_width(zoom / grain))


def screen_width(zoom: float) -> int:
    """Pixels of a layer that make a contour, where one of them has ``zoom`` screen pixels."""
    return max(1, round(THICK / max(zoom, 1e-6)))


def outlines(
    objects: tuple[ProposedObject, ...],
    shape: tuple[int, ...],
    labelling: Labelling = "semantic",
    active: int | None = None,
    contour: Contour = Contour(),
) -> NDArray[Any]:
    """Label values along the inner border of what is proposed, 0 elsewhere.

    The array is (H, W) by the contour's grain. The border of the object under work is twice as
    wide, and lies over the others.
    They are class ids, or where objects are told apart codes that give neighbours other shades.
    napari's own contour of a Labels layer goes over the whole image at each change, which takes
    seconds at 6000 x 6000 pixels; here only each object's box is looked at.
    """
    values = [item.class_id for item in objects]
    if labelling == "instance":
        shades = (1 + n % SHADES for n in range(len(objects)))
        values = [code_of(value, n) for value, n in zip(values, shades, strict=True)]
    grain, width = contour.grain, contour.width
    finer, coarser = max(round(grain), 1), max(round(1 / grain), 1)
    canvas = np.zeros(
        [-(-side // coarser) * finer for side in shape],
        np.uint16 if max(values, default=0) > 255 else np.uint8,
    )
    order = sorted(range(len(objects)), key=lambda n: n == active)
    for item, value, wider in ((objects[n], values[n], n == active) for n in order):
        box = None if item.proposal is None else mask_to_box(item.proposal.mask)
        if box is not None and item.proposal is not None:
            x0, y0, x1, y1 = (int(side) for side in box)
            top, left = y0 // coarser, x0 // coarser
            mask = item.proposal.mask[
                top * coarser : y1 + 1 : coarser, left * coarser : x1 + 1 : coarser
            ]
            mask = mask.repeat(finer, 0).repeat(finer, 1)
            top, left = top * finer, left * finer
            part = np.s_[top : top + mask.shape[0], left : left + mask.shape[1]]
            canvas[part][mask & ~eroded(mask, width * (1 + wider))] = value
    return canvas


def whole(loaded: Loaded, labelling: Labelling) -> ImageProposal:
    """All that is on an image as proposed objects, its labels too, for a look in passing."""
    labelled = []
    for value in values_in(loaded.labels):
        mask = loaded.labels == value
        item = Proposal(mask, box_of(mask), 1.0, "", 1.0)
        labelled.append(ProposedObject(class_of(value, labelling), Prompts(), item))
    objects = (*labelled, *loaded.proposal.objects)
    return replace(loaded.proposal, objects=objects, active=None)


def label_colors(table: ClassTable, labelling: Labelling, values: list[int]) -> LabelColors:
    """The colour of every label value: of its class, or a shade of that for each object.

    Args:
        table: the classes.
        labelling: what the values are.
        values: that are on the image; a few more are coloured for what comes next.
    """
    colors: LabelColors = {None: "#999999", 0: "transparent"}
    colors.update({item.class_id: item.color for item in table.classes})
    if labelling == "instance":
        last = {item.class_id: SHADES for item in table.classes}
        for value in values:
            class_id, number = class_of(value, labelling), instance_of(value, labelling)
            last[class_id] = max(last.get(class_id, 0), number + 1)
        for item in table.classes:
            for number in range(1, min(last[item.class_id], MAX_INSTANCE) + 1):
                colors[code_of(item.class_id, number)] = instance_color(item.color, number)
    return colors


def eroded(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """A mask (H, W) without its outermost ``width`` pixels; beyond the array there is nothing."""
    # not scipy's: the first contour would wait a third of a second for its import
    rows, columns = mask.shape
    padded = np.pad(mask, width)
    # Rows, then columns: a square is the same as two lines, with 2 n steps instead of n * n.
    along = np.ones((rows, columns + 2 * width), bool)
    for shift in range(2 * width + 1):
        along &= padded[shift : shift + rows]
    inner = np.ones((rows, columns), bool)
    for shift in range(2 * width + 1):
        inner &= along[:, shift : shift + columns]
    return inner


def prompt_marks(objects: tuple[ProposedObject, ...]) -> list[Mark]:
    """Boxes and scribbles of all objects."""
    marks: list[Mark] = []
    for item in objects:
        box = item.prompts.box
        if box is not None:
            marks.append((xy_to_rc(corners(box[:2], box[2:])), "rectangle", NEUTRAL, 0.0))
        for line, sign in item.prompts.scribbles:
            marks.append((xy_to_rc(line), "path", POSITIVE if sign else NEGATIVE, 0.0))
    return marks


def stroke_marks(
    line: Sequence[FloatArray], shape: str, width: float = 0.0, color: str = NEUTRAL
) -> list[Mark]:
    """What is being drawn, XY: a "rectangle", "polygon" or "path"; nothing of a single point."""
    if len(line) < 2:
        return []
    box = shape == "rectangle"
    ends = [line[0]] if shape == "polygon" else []
    vertices = corners(line[0], line[-1]) if box else np.array([*line, *ends])
    return [(xy_to_rc(vertices), "rectangle" if box else "path", color, width)]


def name_marks(
    objects: tuple[ProposedObject, ...], active: int | None, table: ClassTable
) -> list[tuple[tuple[float, float], str, str]]:
    """The class of each proposed object: where (row, column), its name and its colour.

    It stands above the highest pixel of the object; the one under work is marked.
    """
    marks = []
    for index, item in enumerate(objects):
        known = table.get(item.class_id)
        box = None if item.proposal is None else mask_to_box(item.proposal.mask)
        if item.proposal is not None and box is not None and known is not None:
            row = int(box[1])
            above = row - max(item.proposal.mask.shape) / ABOVE
            at = above, float(np.flatnonzero(item.proposal.mask[row]).mean())
            name = f"{UNDER_WORK if index == active else ''}{known.name}"
            marks.append((at, name, known.color))
    return marks


def _edge(box: tuple[int, int, int, int]) -> FloatArray:
    """The corners (row, column) of a half open box, along the outer edge of its pixels."""
    x0, y0, x1, y1 = (side - 0.5 for side in box)
    return xy_to_rc(corners(np.array([x0, y0]), np.array([x1, y1])))


def corners(a: FloatArray, b: FloatArray) -> FloatArray:
    """The four corners XY of the box between two points."""
    return np.array([[a[0], a[1]], [b[0], a[1]], [b[0], b[1]], [a[0], b[1]]], np.float32)


ORDER = ("image", "labels", "proposal", "names", "shapes", "points")
"""Roles, in the order in which they are drawn."""


class LayerDrawing:
    """Draws what a session holds into the layers of each role.

    Args:
        viewer: the napari viewer.
        session: what to draw; an image of it must be shown.
        layers: that are drawn into, made where they are missing.

    Attributes:
        pictures: the image as it is to be seen.
        stroke: what the person is drawing, beside the marks of the prompts.
        calipers: the ends (2, 2) XY of each, and its length in words.
        outlined: the ``fields`` whose outlines are drawn.
        fresh: the next image is the first of its folder, so that the view starts anew.
        fits: the view is to be fitted, once all layers have the size of the image.
        labels: the whole map that the layer of labels shows, which may show each ``step_of`` pixel
            only.
    """

    def __init__(self, viewer: Viewer, session: AnnotationSession, layers: TaggedLayers) -> None:
        self._viewer = viewer
        self._session = session
        self._layers = layers
        self._adopted = layers.adopted
        self._colors: WeakKeyDictionary[Labels, LabelColors] = WeakKeyDictionary()
        self._shown: WeakKeyDictionary[Image, Pixels] = WeakKeyDictionary()
        self._size_hw: tuple[int, ...] = ()
        self.pictures = Pictures()
        self.stroke: list[Mark] = []
        self.calipers: tuple[tuple[FloatArray, str], ...] = ()
        self.outlined: tuple[tuple[int, int, int, int], ...] = ()
        self.fresh, self.fits = True, False
        self._contour = Contour()
        self.labels: LabelMap | None = None

    @property
    def fields(self) -> tuple[tuple[int, int, int, int], ...]:
        """Boxes (half open, XYXY) of what models look at, where their outlines are to be seen."""
        shown = self._session.settings.view.regions
        return tuple(field.box for field in self._session.fields_of_view()) if shown else ()

    @property
    def zoom(self) -> float:
        """Screen pixels for a pixel of the image."""
        scene: Any = getattr(self._viewer, "scene", self._viewer)  # napari before 0.9 has no scene
        image = self._adopted.layer
        return float(scene.camera.zoom) * (1.0 if image is None else float(image.scale[-1]))

    @property
    def step(self) -> int:
        """Pixels of the image along each axis for one of the layer of labels.

        More than one where the picture is shown in smaller copies, for napari takes half a second
        to show 59 megapixels of labels.
        """
        loaded = self._session.loaded
        return REDUCED_BY if loaded is not None and loaded.reduced else 1

    @property
    def contour(self) -> Contour:
        """How contours are to be drawn now."""
        labels = self._session.labels
        return Contour() if labels is None else Contour.seen(labels.shape, self.zoom)

    @property
    def is_as_seen(self) -> bool:
        """True where contours were drawn for the zoom that there is now."""
        return self._session.labels is None or self._contour == self.contour

    def set_stroke(self, line: Sequence[FloatArray], shape: str, width: float = 0.0) -> None:
        """What is being drawn, XY: a "rectangle", "polygon" or "path"; () is nothing.

        A stroke of a width in pixels of the image has it, and the colour of the picked class.
        """
        table = self._session.table
        picked = table.get(table.active)
        color = NEUTRAL if not width or picked is None else f"{picked.color}{WIDE}"
        self.stroke = stroke_marks(line, shape, width, color)

    def draw(self, role: str) -> None:
        """Draw the layer of a role of ``ORDER``."""
        getattr(self, f"_draw_{role}")()

    def recolor(self, role: str) -> None:
        """Take the colours of the classes as they are now, and the value to paint with."""
        layer = self._layers.find(role)
        if isinstance(layer, Labels):
            self._color(layer)
            if role == "labels":
                self._paint_with(layer, self._session.painting.value)

    def _draw_image(self) -> None:
        loaded = self._session.loops.peeked or self._session.loaded
        if loaded is None or self._adopted.layer is not None:
            return
        self._adopted.take(None)
        rgb, levels = not loaded.is_grey, (loaded.pixels, *loaded.reduced)
        if not rgb:
            levels = tuple(each[..., 0] for each in levels)
        before = self._layers.find("image")
        layer: Any = self._layers.image(rgb, levels)
        shown = self.pictures.get(loaded.key, levels, self._session.settings.view)
        size_hw = levels[0].shape[:2]
        resized = before is None or self._size_hw != size_hw
        self._size_hw = size_hw
        # Setting a layer's data uploads it and computes its thumbnail, so not for the same picture.
        if self._shown.get(layer) is not shown[0]:
            self._shown[layer] = shown[0]
            layer.data = shown if layer.multiscale else shown[0]
        self.fits = self.fits or resized or self.fresh
        self.fresh = False

    def _draw_labels(self) -> None:
        labels = self._session.labels
        assert labels is not None
        step = self.step
        self.labels, labels = labels, labels[::step, ::step]
        layer = self._layers.labels("labels", labels.shape)
        if layer not in self._colors:
            self._color(layer)
        layer.metadata[STEP] = step
        place_like(layer, self._adopted.layer, 1 / step)
        told_apart = self._session.settings.labelling == "instance"
        value = self._session.painting.value
        held = np.min_scalar_type(value)
        kind = np.promote_types(labels.dtype, np.uint16 if told_apart else held)
        self._paint_with(layer, value)  # first: napari shows no map whose type holds less
        if put(layer, labels.astype(kind, copy=False)):
            if told_apart:
                self._color(layer)
            forget = getattr(layer, "_reset_history", None)  # its strokes fit the old map only
            if forget is not None:
                forget()

    def painted(self, layer: Labels) -> LabelMap | None:
        """The whole label map with what was painted on its layer; None where that is nothing."""
        labels, step, painted = self._session.labels, step_of(layer), np.asarray(layer.data)
        if labels is None:
            return None
        shown = labels[::step, ::step]
        if painted.shape != shown.shape or same_labels(painted, shown):
            return None
        return painted.copy() if step == 1 else with_blocks(labels, painted, step)

    def _draw_proposal(self) -> None:
        labels, proposal = self._session.labels, self._session.proposal
        assert labels is not None
        labelling = self._session.settings.labelling
        if self._session.loops.peeked is not None:
            proposal = whole(self._session.loops.peeked, labelling)
        if self._layers.find("proposal") is None:
            self._color(self._layers.labels("proposal", labels.shape))
        layer = self._layers.labels("proposal", labels.shape)
        self._contour = self.contour
        place_like(layer, self._adopted.layer, self._contour.grain)
        shape, active = labels.shape, proposal.active
        contours = outlines(proposal.objects, shape, labelling, active, self._contour)
        before = self._session.loops.before
        if self._session.settings.view.onion_skin and before and before.labels.shape == shape:
            skin = outlines(whole(before, labelling).objects, shape, contour=self._contour)
            contours = np.where((skin > 0) & (contours == 0), ONION, contours)
        put(layer, contours)
        layer.metadata["model"] = proposal.model_id
        if layer.name.startswith(NAMES["proposal"]):
            maker = model_name(proposal.model_id) if proposal.has_masks else ""
            layer.name = f"{NAMES['proposal']} by {maker}" if maker else NAMES["proposal"]

    def _draw_names(self) -> None:
        proposal = self._session.proposal
        marks = name_marks(proposal.objects, proposal.active, self._session.table)
        ends = ((xy_to_rc(line).tolist()[1], text) for line, text in self.calipers)
        marks += [((row, column), text, MEASURING) for (row, column), text in ends]
        layer = self._layers.names()
        place_like(layer, self._adopted.layer)
        if not marks and not len(layer.data):
            return
        layer.data = np.array([at for at, _, _ in marks], float).reshape(-1, 2)
        layer.features = {
            "name": np.array([name for _, name, _ in marks], object),
            "color": np.array([color for _, _, color in marks], object),
        }
        layer.selected_data = set()

    def _draw_points(self) -> None:
        objects = self._session.proposal.objects
        coords = [item.prompts.point_coords for item in objects]
        signs = np.concatenate([np.zeros(0), *(item.prompts.point_labels for item in objects)])
        points = xy_to_rc(np.concatenate([np.zeros((0, 2)), *coords]))
        layer = self._layers.points()
        place_like(layer, self._adopted.layer)
        if not len(points) and not len(layer.data):
            return
        layer.data = points
        if len(points):
            layer.face_color = [POSITIVE if sign else NEGATIVE for sign in signs]
            layer.size = self._mark_size()
        layer.selected_data = set()

    def _draw_shapes(self) -> None:
        marks = [*prompt_marks(self._session.proposal.objects), *self.stroke]
        marks += [(xy_to_rc(line), "path", MEASURING, 0.0) for line, _ in self.calipers]
        self.outlined = self.fields
        marks += [(_edge(box), "rectangle", OUTLINE, 0.0) for box in self.outlined]
        layer = self._layers.shapes()
        place_like(layer, self._adopted.layer)
        if not marks and not layer.nshapes:
            return
        layer.data = []
        for vertices, kind, color, width in marks:
            layer.add(
                vertices,
                shape_type=kind,
                edge_color=color,
                face_color="transparent",
                edge_width=width or max(1.0, self._mark_size() / 5),
            )
        layer.selected_data = set()

    def _mark_size(self) -> float:
        """Diameter of a point in pixels of the image."""
        labels = self._session.labels
        return 8.0 if labels is None else max(5.0, 0.014 * max(labels.shape))

    def _paint_with(self, layer: Labels, value: int) -> None:
        """Let napari's brush paint with a value, in a type that holds it; napari refuses others."""
        kind = np.promote_types(layer.data.dtype, np.min_scalar_type(value))
        if kind != layer.data.dtype:
            layer.data = layer.data.astype(kind)
        layer.selected_label = value

    def _color(self, layer: Labels) -> None:
        session = self._session
        labelling = session.settings.labelling
        values = session.painting.values if labelling == "instance" else []
        colors = label_colors(session.table, labelling, values)
        # napari builds a texture of all colours each time.
        if colors != self._colors.get(layer):
            self._colors[layer] = colors
            layer.colormap = DirectLabelColormap(color_dict=dict(colors))
