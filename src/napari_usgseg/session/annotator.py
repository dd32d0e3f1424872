"""``AnnotationSession``: what a person does to images, without any window.

The session holds the state and says what changed (psygnal events); it runs no thread. Long work
goes out as a record through ``requested``, and its answer comes back through ``receive``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import box_from_points
from ..pipeline.propose import split_phrases
from ..store.base import ImageState, LabelMap
from ..types import FloatArray, TextPrompt
from . import commit
from . import draft as drafts
from .answers import receive
from .browser import Browser
from .draft import Draft
from .history import ClassTable, Edit, History, difference
from .requests import (
    Answer,
    EmbedRequest,
    ExportRequest,
    Loaded,
    LoadRequest,
    OpenArrayRequest,
    Opened,
    OpenFolderRequest,
    PhantomRequest,
    TextRequest,
    WarmRequest,
)
from .settings import Settings
from .state import SessionState

NO_PROPOSAL = "A negative prompt takes away from a proposal: find or click an object first."


class AnnotationSession(SessionState):
    """Folder, images, classes, prompts, proposal, labels, and the history of all edits.

    Every method is called on one thread. ``flushing`` is emitted before anything that leaves or
    changes the label map, so that a window can hand in what was painted by hand.
    """

    def receive(self, answer: Answer) -> None:
        """Take an answer; a stale one is dropped."""
        receive(self, answer)
        self.tell()

    # -- opening -------------------------------------------------------------------------------

    def open_folder(self, folder: str | Path, labels_root: str | Path | None = None) -> None:
        """Open a folder of images; labels are kept in it, or in ``labels_root``."""
        self.flushing.emit()
        generation = self.progress.begin("open", f"Looking through {Path(folder).name}...")
        root = None if labels_root is None else Path(labels_root)
        self.ask(OpenFolderRequest(generation, Path(folder), root))

    def open_array(self, name: str, array: NDArray[Any]) -> None:
        """Open one image that is in memory; any array that ``io.images.to_rgb_uint8`` takes."""
        self.flushing.emit()
        self.ask(OpenArrayRequest(self.progress.begin("open", f"Taking {name}..."), name, array))

    def open_phantoms(self, folder: str | Path, count: int = 6, seed: int = 0) -> None:
        """Make phantoms in an empty folder and open them."""
        generation = self.progress.begin("phantoms", "Making phantoms...")
        self.phantoms = Path(folder)
        self.ask(PhantomRequest(generation, Path(folder), count, seed))

    def warm_up(self) -> None:
        """Load the models before they are needed."""
        name = self.settings.segmenter
        generation = self.progress.begin("warm", f"Loading the model {name}...")
        self.ask(WarmRequest(generation, segmenter=name))
        self.ask(WarmRequest(self.progress.begin("warm text"), detector=self.settings.detector))

    def use_store(self, opened: Opened) -> None:
        """Show a store that was opened."""
        self.progress.drop("load", "ahead", "prefetch", "embed", "text", "prompt")
        self.history = History()
        self.browser = Browser(opened.store, opened.states)
        self.settings = Settings.from_json({**self.settings.to_json(), **opened.settings})
        self.table = commit.first_table()
        if opened.classes:
            self.table = ClassTable(opened.classes, opened.classes[0].class_id)
        self._close_image()
        self.opened.emit()
        self.classes_changed.emit()
        self.settings_changed.emit()
        if opened.store.problems:
            first, *others = opened.store.problems
            more = f" (and {len(others)} more)" if others else ""
            self.notified.emit("warning", first + more)
        begin = self.browser.resume_at(opened.settings.get("last"))
        if begin is not None:
            self.open_image(begin)

    # -- from image to image -------------------------------------------------------------------

    def open_image(self, image_id: str) -> None:
        """Show an image; what is proposed on the one shown now is kept for coming back."""
        if self.store is None or (self.record is not None and image_id == self.record.image_id):
            return
        self.flushing.emit()
        self.cancel()
        self.browser.leave(self.loaded, self.labels, self.draft)
        self._close_image()
        self.browser.go(image_id)
        self.image_changed.emit()
        self.states_changed.emit()
        kept = self.browser.take_loaded(image_id)
        if kept is not None:
            self.progress.drop("load")
            self.show(kept)
            return
        self.reload()

    def reload(self) -> None:
        """Read the current image again, after a failure."""
        if self.store is not None and self.record is not None:
            self.failure = ""
            name = self.record.path.name
            generation = self.progress.begin("load", f"Reading {name}...")
            self.ask(LoadRequest(generation, self.store, self.record))

    def show(self, loaded: Loaded) -> None:
        """Take an image that was read for the current one."""
        image_id = loaded.record.image_id
        self.loaded, self.labels = loaded, loaded.labels
        self.draft = self.browser.take_draft(image_id)
        self.set_table(commit.with_values(self.table, np.unique(loaded.labels).tolist()))
        self.image_loaded.emit()
        self.labels_changed.emit()
        self.draft_changed.emit()
        generation = self.progress.begin("embed", f"Preparing {loaded.record.path.name}...")
        self.ask(EmbedRequest(generation, self.source(), self.settings.segmenter))
        waiting, self.after_load = self.after_load, []
        for action in waiting:
            action()
        fresh = self.browser.state_of(image_id, self.draft) is ImageState.UNTOUCHED
        if fresh and not waiting and self.settings.find_on_open and self.settings.phrase:
            self.find()
        if self.store is not None:
            self.remember({"last": image_id})
            ahead = self.browser.to_load_ahead()
            if ahead is not None:
                self.ask(LoadRequest(self.progress.begin("ahead"), self.store, ahead))

    def _close_image(self) -> None:
        self.loaded, self.labels, self.draft = None, None, Draft()
        self.failure = ""
        self.facts.pop("note", None)

    def step(self, by: int) -> bool:
        """Go to the next (1) or previous (-1) image; False at the end."""
        target = self.browser.neighbour(by)
        if target is None:
            self.say("This is the last image." if by > 0 else "This is the first image.")
            return False
        self.open_image(target)
        return True

    def next_untouched(self) -> bool:
        """Go to the next image that nobody has labelled; False where none is left."""
        target = self.browser.next_untouched()
        if target is None:
            self.say("No untouched image is left.")
            return False
        self.open_image(target)
        return True

    def skip(self) -> None:
        """Set the current image aside and go to the next; labels that it has are kept."""
        if self.record is None or self.labels is None:
            return
        state = self.browser.state_of(self.record.image_id, Draft())
        if state is not ImageState.COMMITTED:
            states = (state, ImageState.SKIPPED)
            self.do(Edit("skip", self.record.image_id, (self.draft, Draft()), state=states))
        self.step(1)

    # -- prompts -------------------------------------------------------------------------------

    def find(self, phrase: str | None = None) -> None:
        """Look for a phrase (or the last one) in the current image."""
        if phrase is not None and phrase.strip() != self.settings.phrase:
            self.set_settings(replace(self.settings, phrase=phrase.strip()))
        if self.loaded is None:
            return
        chosen = self.settings
        if not split_phrases(chosen.phrase):
            self.say("Type what to look for, such as 'breast tumor', then press Find.", "warning")
            return
        prompt = TextPrompt(chosen.phrase, chosen.box_threshold, chosen.text_threshold)
        generation = self.progress.begin("text", f"Looking for '{chosen.phrase}'...")
        self.ask(
            TextRequest(
                generation,
                self.source(),
                chosen.segmenter,
                chosen.detector,
                prompt,
                chosen.cleaning,
            )
        )

    def add_point(self, x: float, y: float, positive: bool = True) -> None:
        """Click at XY pixels: on the object, or on what is not the object."""
        if self.labels is None:
            return
        height, width = self.labels.shape
        if -0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5:
            self._prompt("click", drafts.add_point(self.draft, x, y, positive, self.table.active))

    def add_box(self, a: tuple[float, float], b: tuple[float, float]) -> None:
        """A box between two opposite corners in XY pixels."""
        box = box_from_points(a, b)
        if self.labels is None or min(box[2] - box[0], box[3] - box[1]) < 2:
            return
        size_hw = (self.labels.shape[0], self.labels.shape[1])
        self._prompt("box", drafts.add_box(self.draft, box, size_hw, self.table.active))

    def add_scribble(self, line: FloatArray, positive: bool = True) -> None:
        """A scribble (M, 2) in XY pixels."""
        if self.labels is None or len(line) < 2:
            return
        height, width = self.labels.shape
        line = np.clip(line, 0, [width - 1, height - 1]).astype(np.float32)
        self._prompt("scribble", drafts.add_scribble(self.draft, line, positive, self.table.active))

    def drop_object(self, x: float, y: float) -> None:
        """Take away the one proposed object at XY pixels."""
        new = drafts.without_object_at(self.draft, x, y)
        if new is not self.draft and not self.draft.pending:
            self._edit_draft("drop object", new)

    def new_object(self) -> None:
        """The next prompt begins another object."""
        if self.draft.active is not None and not self.draft.pending:
            self._edit_draft("new object", replace(self.draft, active=None))

    def clear_prompts(self) -> None:
        """Take back everything that is proposed on this image."""
        self.cancel()
        if self.draft.objects:
            self._edit_draft("clear", Draft())

    def cancel(self) -> None:
        """Await no proposal any more; what waits in the worker's queue is dropped."""
        self.progress.drop("prompt", "text", "embed", "prefetch")
        self.cancelled.emit(self.progress.generation + 1)
        self.drop_pending()
        self.tell()

    def drop_pending(self) -> None:
        """Take back a prompt that has no answer."""
        while self.draft.pending:
            self.draft = self.history.take_back(self.draft) or Draft()
            self.draft_changed.emit()

    def _prompt(self, name: str, new: Draft) -> None:
        if new is self.draft:
            self.say(NO_PROPOSAL)
        else:
            self._edit_draft(name, new)

    def _edit_draft(self, name: str, new: Draft) -> None:
        if self.record is not None:
            self.do(Edit(name, self.record.image_id, draft=(self.draft, new)))

    # -- accepting and painting ----------------------------------------------------------------

    def accept(self) -> bool:
        """Commit what is proposed; without a proposal the image is done as it is.

        Returns:
            False where there is nothing to commit yet: no image, or an answer is awaited.
        """
        self.flushing.emit()
        if self.record is None or self.labels is None or self.is_waiting:
            return False
        image_id = self.record.image_id
        after, yielded = commit.merged(self.labels, self.draft.objects, self.settings.overwrite)
        state = self.browser.state_of(image_id, Draft())
        patch = difference(self.labels, after)
        if patch is not None or state is not ImageState.COMMITTED or self.draft.objects:
            states = (state, ImageState.COMMITTED)
            self.do(Edit("accept", image_id, (self.draft, Draft()), patch, states))
        if yielded:
            self.say(f"{yielded} pixels of other labels were left as they are.")
        return True

    def accept_and_next(self) -> bool:
        """Commit what is proposed and go to the next image."""
        return self.accept() and self.step(1)

    def painted(self, labels: LabelMap) -> None:
        """Take a label map (H, W) that the person changed by hand."""
        if self.record is None or self.labels is None or labels.shape != self.labels.shape:
            return
        patch = difference(self.labels, labels)
        if patch is None:
            return
        image_id = self.record.image_id
        table = commit.with_values(self.table, np.unique(patch.after).tolist())
        states = (self.browser.state_of(image_id, Draft()), ImageState.COMMITTED)
        tables = None if table is self.table else (self.table, table)
        self.do(Edit("paint", image_id, None, patch, states, tables))

    # -- classes and settings ------------------------------------------------------------------

    def add_class(self, name: str) -> None:
        """Add a class and pick it."""
        name = name.strip() or f"class {1 + max(c.class_id for c in self.table.classes)}"
        self.do(Edit("add class", table=(self.table, commit.with_class(self.table, name))))

    def rename_class(self, class_id: int, name: str) -> None:
        """Give a class another name."""
        old = self.table.get(class_id)
        if old is not None and name.strip() and name.strip() != old.name:
            table = commit.with_name(self.table, class_id, name.strip())
            self.do(Edit("rename class", table=(self.table, table)))

    def pick_class(self, class_id: int) -> None:
        """Take a class for what is proposed or painted next, and for the object in the making."""
        if self.table.get(class_id) is None:
            return
        if class_id != self.table.active:
            self.table = ClassTable(self.table.classes, class_id)
            self.classes_changed.emit()
        current = self.draft.current
        if current is not None and current.class_id != class_id and not self.draft.pending:
            assert self.draft.active is not None
            item = replace(current, class_id=class_id)
            self._edit_draft("class", self.draft.with_object(self.draft.active, item))

    def set_settings(self, settings: Settings) -> None:
        """Take other models, thresholds or cleaning; proposals in the making are redone."""
        if settings == self.settings:
            return
        old, self.settings = self.settings, settings
        self.settings_changed.emit()
        self.remember(settings.to_json())
        if (old.segmenter, old.detector) != (settings.segmenter, settings.detector):
            self.facts.pop("model", None)
            self.warm_up()
            if self.loaded is not None:
                generation = self.progress.begin("embed", "Preparing the image...")
                self.ask(EmbedRequest(generation, self.source(), settings.segmenter))
        changed = (old.segmenter, old.cleaning) != (settings.segmenter, settings.cleaning)
        if changed and (current := self.draft.current) and not current.prompts.is_empty:
            prompts = replace(current.prompts, mask_input=None)
            assert self.draft.active is not None
            again = self.draft.with_object(self.draft.active, replace(current, prompts=prompts))
            self._edit_draft("redo with other settings", replace(again, pending=True))

    def export(self, out: str | Path, organ: str, target: str, overwrite: bool = False) -> None:
        """Write a data set of everything that is committed."""
        self.flushing.emit()
        if self.store is None:
            self.say("Open a folder first; there is nothing to export.", "warning")
            return
        generation = self.progress.begin("export", "Exporting...")
        self.ask(
            ExportRequest(
                generation, self.store, Path(out), organ, target, self.table.classes, overwrite
            )
        )

    # -- history -------------------------------------------------------------------------------

    def undo(self) -> None:
        """Take back the last edit; where it was on another image, go there first."""
        self.flushing.emit()
        self._travel(self.history.next_undo, lambda: self.apply(self.history.pop_undo()))

    def redo(self) -> None:
        """Do again what was undone last; where it was on another image, go there first."""
        self.flushing.emit()
        self._travel(self.history.next_redo, lambda: self.apply(self.history.pop_redo()))

    def _travel(self, edit: Edit | None, action: Callable[[], None]) -> None:
        if edit is None:
            self.say("Nothing to take back or do again.")
        elif edit.image_id is None or self.record is None or edit.image_id == self.record.image_id:
            if edit.image_id is None or self.labels is not None:
                self.progress.drop("prompt", "text")
                action()
        else:
            self.after_load.append(action)
            self.open_image(edit.image_id)
