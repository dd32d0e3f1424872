"""Prompt predictor (PPN) of a project: which is in use, what it does, when a new one is made.

``session.prompt_predictor``. Everything here is quick; the training is a process of its own
(``learning.process``), versions are read and written by the file thread.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from ...core.types import Prompts
from ...io.labels import semantic, values_in
from ...jobs import Lane, Scope, files, inference
from ...jobs.files import Loaded
from ...jobs.inference import Found, LearnedPrompts
from ...project.records import Edit, EventKind, ImageProposal, ImageState, LabelMap, ProposedObject
from ...project.versions import ModelVersion, Versions, number_in
from ..commands.search import beside, kept_by_person
from ..document import AnnotationDocument
from ..prefetch import Prefetch
from ..settings import Mode
from ..state import MODEL
from .learner import Learner
from .weak import WeakProposer


class PromptPredictor(Learner):
    """``session.prompt_predictor``: modes, versions, trainings.

    Attributes:
        proposals: on the image that is shown and those around it.
        weak: what proposes as long as no version is in use.
    """

    kind = "ppn"
    busy = "A prompt predictor is being trained: wait until that is done, or stop it."

    def __init__(self, document: AnnotationDocument, prefetch: Prefetch) -> None:
        self._document = document
        self._segmenter_id = ""
        self._let_be = 0
        self._counts = ClassCounts(document, self._counted)
        self._trigger = TrainingTrigger(document, self._counts, lambda: self.last)
        super().__init__(document, [])
        self.weak = WeakProposer(document, self.request, self._fitted)
        self.proposals = Proposals(document, self, prefetch)
        document.states_changed.connect(self.look)
        document.images_changed.connect(self._counts.read_again)

    # -- what is in use ------------------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        """What the prompt predictor does; kept with the project."""
        return self._document.settings.mode

    def set_mode(self, mode: Mode) -> None:
        """Choose what the prompt predictor does; what is shown and untouched follows at once.

        To choose autonomous once more is to ask for the image that is shown.
        """
        again = mode is self.mode is Mode.AUTONOMOUS
        self._document.set_settings(replace(self._document.settings, mode=mode))
        if again and not self._document.proposal.objects:
            self.propose()

    @property
    def shows_by_itself(self) -> bool:
        """True where images segment themselves as they open."""
        return self.mode is Mode.AUTONOMOUS and not self.off

    @property
    def off(self) -> str:
        """Why nothing that was learnt can propose, with the cure; "" where something can."""
        return "" if self._weak() is not None else self.why_not

    @property
    def number(self) -> int:
        """Of what proposes, as in ``ProposedObject.ppn``: below 0 is weak, 0 is nothing."""
        return self.in_use or (0 if self._weak() is None else self.weak.number)

    def classes_of(self, number: int) -> dict[int, str]:
        """Class id -> name as it was when a version, or what is weak, learned it."""
        version = self.get(number)
        return self.weak.classes_of(number) if version is None else version.classes

    def made_by(self, number: int) -> str:
        """What a person reads of who made an object (``ProposedObject.ppn``)."""
        return self.weak.badge(number) if number < 0 else self._badge(number)

    def _weak(self) -> LearnedPrompts | None:
        """What proposes weakly now: nothing where a version is in use."""
        return self.weak.learned(self._segmenter_id) if self._weak_is_wanted else None

    @property
    def _weak_is_wanted(self) -> bool:
        """No version is in use, and the person did not choose that."""
        wanted = self._document.settings.weak_proposals and not self._versions.chosen
        return wanted and bool(self.why_not)

    def badge(self, model_id: str) -> str:
        """What a person reads of who made a proposal (``proposal.model_id``); "" if not a PPN."""
        return self.made_by(number_in(model_id))

    def propose(self) -> None:
        """Have the current image segmented by the PPN now; the person's objects stay."""
        if self.off:
            self._document.say(self.off, "warning")
        else:
            self.proposals.now()

    def learned(self) -> LearnedPrompts | None:
        """The PPN in use, or what proposes weakly, whatever the mode; None where there is none."""
        current = self.current
        if current is None or self.why_not:
            return self._weak()
        return LearnedPrompts(current.folder.absolute(), current.name)

    def joining(self, class_id: int) -> LearnedPrompts | None:
        """The learned prompts that join a person's of a class, or None."""
        current, learned = self.current, self.learned()
        if learned is None or current is None or self.why_not or self.mode is Mode.MANUAL:
            return None
        return replace(learned, class_id=class_id) if class_id in current.classes else None

    # -- training ------------------------------------------------------------------------------

    @property
    def counts(self) -> dict[int, int]:
        """Class id -> in how many accepted images it is."""
        return self._counts.by_class

    @property
    def until_offer(self) -> int:
        """How many more images have to be accepted until a training is offered; 0: it is."""
        return self._trigger.left

    @property
    def offer(self) -> str:
        """The sentence "10 images with 'nerve' are accepted: train?", or "".

        A version of a former segmenter of the chosen one's name (another nano) is offered to be
        trained again.
        """
        if self.cannot_train:
            return ""
        current = self.current
        if current is not None and self._is_former(current) and current.number != self._let_be:
            return f"{current.title} belongs to a former {self._segmenter_name}: train again?"
        return self._trigger.offer

    def dismiss(self) -> None:
        """No training now; it is offered again after half as many new images."""
        self._let_be = 0 if self.current is None else self.current.number
        self._trigger.dismiss()
        self.changed.emit()

    def begin_if_wanted(self) -> None:
        """Train, where the person chose that it begins by itself and it is time."""
        wanted = self._document.settings.train_by_itself and not self.paused
        if wanted and self._counts.is_complete and self.offer:
            self.train()

    # -- what comes from elsewhere -------------------------------------------------------------

    def opened(self, versions: Versions) -> None:
        """Another folder is shown."""
        store = self._document.store
        self.weak.forget()
        self.proposals.forget()
        self._let_be = 0
        self._trigger.forget()
        kept = store is not None and store.models_folder is not None
        accepted = self._document.accepted if kept else []
        self._counts.begin(tuple(item.image_id for item in accepted))
        super().opened(versions)

    def look(self) -> None:
        """Something happened to the shown image."""
        self._counts.look()

    def settings_changed(self) -> None:
        """Another mode, segmenter or number of images."""
        self.changed.emit()
        self.proposals.refresh()
        self.begin_if_wanted()
        self._fit_weak()

    def segmenter_is(self, model_id: str) -> None:
        """The chosen segmenter is loaded; "" as long as it is not."""
        if model_id == self._segmenter_id:
            return
        self._segmenter_id = model_id
        self._broken.clear()
        self.changed.emit()
        if model_id and self.versions:
            self.proposals.refresh()
        self._fit_weak()

    def given_up(self) -> None:
        """A training was given up or failed; it is not offered again at once."""
        self.dismiss()

    def _counted(self) -> None:
        """Other images are known to be accepted, or other classes on them."""
        self.turned()
        self.begin_if_wanted()
        self._fit_weak()

    def _used(self) -> None:
        self.proposals.refresh()
        self._fit_weak()

    def _fit_weak(self) -> None:
        """Fit the light head to what is accepted, where it is what proposes."""
        if self._segmenter_id and self._weak_is_wanted and self._counts.is_complete:
            self.weak.fit()

    def _fitted(self) -> None:
        self.changed.emit()
        self.proposals.refresh()

    def _nothing_yet(self) -> str:
        after = self._document.settings.train_after
        return f"Nothing is learnt yet: accept {after} images with a class, then train."

    def _of_another(self, current: ModelVersion) -> str:
        if not self._segmenter_id or current.base == self._segmenter_id:
            return ""
        if self._is_former(current):
            return (
                f"{current.title} belongs to a former {self._segmenter_name} ({current.base}; this "
                f"one is {self._segmenter_id}): train again on this one."
            )
        return (
            f"{current.title} was trained on {current.base}, not on {self._segmenter_id}: choose "
            "that segmenter, or train again on this one."
        )

    @property
    def _segmenter_name(self) -> str:
        """Of the chosen segmenter, without the hash of its weights."""
        return self._segmenter_id.rpartition("-")[0]

    def _is_former(self, current: ModelVersion) -> bool:
        """Whether a version is of other weights of the chosen segmenter's name."""
        former = current.base.rpartition("-")[0] == self._segmenter_name
        return bool(self._segmenter_id) and former and current.base != self._segmenter_id


def is_untouched(proposal: ImageProposal) -> bool:
    """True where a person has no part in a proposal: it is empty, or a prompt predictor's own."""
    return all(item.ppn and item.prompts.is_empty and not item.by_hand for item in proposal.objects)


class Proposals:
    """``session.prompt_predictor.proposals``: on the image that is shown, and on those around it.

    None of it is an edit: nobody did it. It is shown on images that nobody has begun with, and made
    anew (or taken away) there when another version, or none, comes into use.
    """

    def __init__(
        self, document: AnnotationDocument, predictor: PromptPredictor, prefetch: Prefetch
    ) -> None:
        self._document, self._predictor, self._prefetch = document, predictor, prefetch
        self._nothing: dict[str, int] = {}

    def forget(self) -> None:
        """Another folder is shown."""
        self._nothing.clear()

    def shown(self) -> None:
        """Bring the image that is shown up to date."""
        document = self._document
        document.flush()
        if document.record is None or document.loaded is None or document.labels is None:
            return
        image_id = document.record.image_id
        if not self._is_free(image_id, document.proposal, document.labels):
            return
        number = self._number
        if number is None:
            asked_for = document.undo_stack.has_steps_of(image_id)
            if document.proposal.objects and not asked_for:
                self._stand(image_id, ImageProposal(), {})
        elif not document.proposal.objects or any(
            o.ppn != number for o in document.proposal.objects
        ):
            self._ask()

    def refresh(self) -> None:
        """Another version, mode or segmenter: look at the shown image and those around it again."""
        document = self._document
        document.jobs.cancel("propose")
        self._nothing.clear()
        self.shown()
        if document.loaded is not None and document.store is not None:
            self._prefetch.begin()

    def now(self) -> None:
        """The person wants the shown image segmented; what they pointed at or made stays."""
        if self._document.loaded is not None and self._predictor.learned() is not None:
            self._ask(by_person=True)

    def prefetch(self, loaded: Loaded) -> bool:
        """Have an image segmented before it is shown; False where nothing is to be proposed."""
        document, number = self._document, self._number
        image_id, proposal = loaded.record.image_id, loaded.proposal
        learned = self._predictor.learned()
        if (
            number is None
            or learned is None
            or document.read_only
            or self._nothing.get(image_id) == number
            or not self._is_free(image_id, proposal, loaded.labels)
            or (proposal.objects and all(item.ppn == number for item in proposal.objects))
        ):
            return False
        document.ask(
            inference.segment_learned,
            document.source(loaded),
            document.settings.segmenter,
            learned,
            document.settings.cleaning,
            lane=Lane.PREFETCH,
            scope=Scope.PREFETCH,
            done=lambda found: self._take_prefetched(image_id, found),
            failed=self._predictor.is_broken,
        )
        return True

    # -- the parts -----------------------------------------------------------------------------

    @property
    def _number(self) -> int | None:
        """The number of what proposes by itself now, or None."""
        return self._predictor.number or None if self._predictor.shows_by_itself else None

    def _is_free(self, image_id: str, proposal: ImageProposal, labels: LabelMap) -> bool:
        """True where nothing is left of what a person decided, labelled or began.

        Nor has a person taken away, since the folder was opened, what this version proposed there.
        """
        document, number = self._document, self._number

        def is_refusal(edit: Edit) -> bool:
            before = () if edit.proposal is None else edit.proposal[0].objects
            return edit.image_id == image_id and any(item.ppn == number for item in before)

        return (
            document.image_queue.decided(image_id) is ImageState.UNTOUCHED
            and is_untouched(proposal)
            and not labels.any()
            and not any(is_refusal(edit) for edit in document.undo_stack.recent())
        )

    def _ask(self, by_person: bool = False) -> None:
        """Have the shown image segmented; what the person did not ask for is no edit."""
        document, learned = self._document, self._predictor.learned()
        if learned is None:
            return
        document.ask(
            inference.segment_learned,
            document.source(),
            document.settings.segmenter,
            learned,
            document.settings.cleaning,
            lane=Lane.PHRASES,
            key="propose",
            scope=Scope.PROPOSAL,
            text="Proposing...",
            kind=MODEL,
            done=lambda found: self._take(found, by_person),
            failed=self._predictor.is_broken,
        )

    def _take(self, found: Found, by_person: bool) -> None:
        """Show what a prompt predictor proposes on the image that is shown."""
        document = self._document
        document.flush()
        if document.record is None or document.labels is None:
            return
        image_id, before = document.record.image_id, document.proposal
        if not by_person and not self._is_free(image_id, before, document.labels):
            return  # the person was quicker
        proposal = self.of(found, before)
        document.facts["model"] = found.model_id
        if by_person:
            document.edit_proposal("propose", proposal)
        elif proposal.objects or before.objects:
            self._stand(image_id, proposal, {"seconds": round(found.seconds, 4)})
        count = len(found.proposals)
        document.facts["note"] = f"{count} proposed" if count else " ".join(found.notes)

    def _take_prefetched(self, image_id: str, found: Found) -> None:
        """Keep what a prompt predictor proposes on an image that was read before it is shown."""
        loaded = self._document.image_queue.take_loaded(image_id)
        if loaded is None or not self._is_free(image_id, loaded.proposal, loaded.labels):
            return
        proposal = self.of(found, ImageProposal())
        if proposal.objects or loaded.proposal.objects:
            self._stand(image_id, proposal, {"seconds": round(found.seconds, 4)})
        if not proposal.objects and self._number is not None:
            self._nothing[image_id] = self._number

    def of(self, answer: Found, before: ImageProposal) -> ImageProposal:
        """What a version proposes on an image, beside what a person pointed at or made."""
        number = number_in(answer.model_id)
        ids = {name: value for value, name in self._predictor.classes_of(number).items()}
        taken = {item.class_id for item in kept_by_person(before)}
        found = tuple(
            ProposedObject(ids[item.phrase], Prompts(), item, ppn=number)
            for item in answer.proposals
            if self._document.table.get(ids.get(item.phrase, 0)) is not None
            and ids[item.phrase] not in taken
        )
        return beside(before, found, answer.model_id)

    def _stand(self, image_id: str, proposal: ImageProposal, body: dict[str, float]) -> None:
        """Let a proposal stand on an image, and write that down."""
        document = self._document
        here = document.record is not None and document.record.image_id == image_id
        document.note(
            EventKind.PROPOSAL,
            image_id,
            proposal=proposal,
            body={"model": proposal.model_id, **body},
        )
        if not here:
            document.image_queue.propose(image_id, proposal)
            return
        document.set_state(proposal=proposal)
        document.proposal_changed.emit()
        document.states_changed.emit()


class ClassCounts:
    """In how many accepted images each class is.

    What was accepted before the folder was opened is read a few label maps at a time; what is
    accepted since then is seen as it happens.

    Args:
        document: whose images are counted.
        counted: called when more is known.
    """

    def __init__(self, document: AnnotationDocument, counted: Callable[[], None]) -> None:
        self._document, self._counted = document, counted
        self.begin(())

    def begin(self, accepted: tuple[str, ...]) -> None:
        """Count anew: begin to read the label maps of the accepted images of another folder."""
        self._present: dict[str, tuple[int, ...]] = {}
        self._counts: Counter[int] = Counter()
        self._seen: tuple[str, ImageState, int] | None = None
        self._unread = list(accepted)
        self._read_on()

    @property
    def by_class(self) -> dict[int, int]:
        """Class id -> number of accepted images; classes that are in none have 0."""
        return {item.class_id: self.of(item.class_id) for item in self._document.table.classes}

    def of(self, class_id: int) -> int:
        """In how many accepted images a class is."""
        return self._counts[class_id]

    @property
    def is_complete(self) -> bool:
        """True once all images were counted that were accepted when the folder was opened."""
        return not self._unread

    def look(self) -> None:
        """Look at the shown image, after anything happened."""
        document = self._document
        if document.record is None or document.labels is None:
            return
        image_id = document.record.image_id
        state = document.image_queue.decided(image_id)
        seen = image_id, state, id(document.labels)
        if seen == self._seen:
            return
        self._seen = seen
        found: tuple[int, ...] = ()
        if state is ImageState.ACCEPTED:
            found = tuple(values_in(semantic(document.labels, document.settings.labelling)))
        if self._set(image_id, found):
            self._counted()

    def read_again(self, images: tuple[str, ...]) -> None:
        """One edit has changed several images: count them as they are now."""
        document, reads = self._document, bool(self._unread)
        here = None if document.record is None else document.record.image_id
        for image_id in images:
            if document.image_queue.decided(image_id) is not ImageState.ACCEPTED:
                self._set(image_id, ())
            elif image_id != here:
                self._unread.append(image_id)
        if not reads:
            self._read_on()
        self._counted()

    def _read_on(self) -> None:
        document, some = self._document, tuple(self._unread[: files.AT_ONCE])
        if document.store is not None and some:
            document.ask(
                files.classes_present,
                document.store,
                document.image_queue.records_of(some),
                lane=Lane.FILES,
                key="present",
                scope=Scope.FOLDER,
                done=lambda found: self._take(some, found),
                failed=lambda _: self._take(some, {}),
            )

    def _take(self, images: tuple[str, ...], present: dict[str, tuple[int, ...]]) -> None:
        """Count a few images that were accepted before, and read on."""
        document = self._document
        del self._unread[: len(images)]
        here = None if document.record is None else document.record.image_id
        for image_id, found in present.items():
            if document.image_queue.decided(image_id) is ImageState.ACCEPTED and image_id != here:
                self._set(image_id, found)
        self._read_on()
        self._counted()

    def _set(self, image_id: str, found: tuple[int, ...]) -> bool:
        before = self._present.pop(image_id, ())
        if found:
            self._present[image_id] = found
        self._counts.subtract(before)
        self._counts.update(found)
        return before != found


class TrainingTrigger:
    """Offers a training at ``train_after`` images of a class, and again after as many new ones.

    A dismissed offer comes again after half as many.

    Args:
        document: whose settings say how many.
        counts: of the accepted images.
        last: gives the newest version.
    """

    def __init__(
        self,
        document: AnnotationDocument,
        counts: ClassCounts,
        last: Callable[[], ModelVersion | None],
    ) -> None:
        self._document, self._counts, self._last = document, counts, last
        self._dismissed: dict[int, int] = {}

    def forget(self) -> None:
        """Another folder is shown."""
        self._dismissed.clear()

    @property
    def left(self) -> int:
        """How many more images of one class have to be accepted until a training is offered."""
        return min((self._left(value) for value in self._counts.by_class), default=0)

    @property
    def offer(self) -> str:
        """The sentence that offers a training, or ""."""
        counts = self._counts.by_class
        due = [value for value in counts if not self._left(value)]
        if not due:
            return ""
        most = max(due, key=lambda value: counts[value])
        item = self._document.table.get(most)
        images = "1 image" if counts[most] == 1 else f"{counts[most]} images"
        name = f" with '{item.name}'" if item is not None else ""
        return f"{images}{name} {'is' if counts[most] == 1 else 'are'} accepted: train?"

    def _left(self, value: int) -> int:
        after, last = self._document.settings.train_after, self._last()
        before = 0 if last is None else last.per_class.get(value, 0)
        if last is not None and value not in last.classes and before < after:
            before = 0  # too few to be learnt then
        target = after + before
        if value in self._dismissed:
            target = max(target, self._dismissed[value] + math.ceil(after / 2))
        return max(0, target - self._counts.of(value))

    def dismiss(self) -> None:
        """No training now."""
        counts = self._counts.by_class
        self._dismissed = {value: n for value, n in counts.items() if not self._left(value)}
