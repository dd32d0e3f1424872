"""Who segments: the prompt predictor by itself, together with the person, or the person alone."""

from __future__ import annotations

from functools import partial

from qtpy.QtWidgets import QButtonGroup, QLabel, QWidget

from ...annotation.session import AnnotationSession
from ...annotation.settings import Mode
from ...models.grounding.phrases import as_phrase
from ...project.records import ProposedObject
from ...project.versions import tuned_number_in
from ..keys import tip
from ..parts import OneLine, Section, button, heading, row, toggle
from .prompt_panels import tuned

NAMES = {
    Mode.AUTONOMOUS: "Autonomous",
    Mode.SEMI: "Semi",
    Mode.MANUAL: "Manual",
}
TIPS = {
    Mode.AUTONOMOUS: "Images segment themselves as they open; prompts correct what is there.",
    Mode.SEMI: "Nothing appears by itself; your prompts are joined by what was learned.",
    Mode.MANUAL: "Your prompts only, as the segmenter is.",
}
NOBODY = "No prompt predictor in use"
BY_PHRASE = "Found by the phrase '{phrase}'"
BY_HAND = "By hand"
BY_PERSON = "From your own prompts"


class ModePanel(Section):
    """The switch of the three modes, a badge that says who proposed what is shown, and an offer.

    Args:
        session: whose ``predictor`` is switched.
    """

    def __init__(self, session: AnnotationSession) -> None:
        super().__init__("")
        self._session = session
        self.modes = {
            mode: toggle(name, "", partial(session.prompt_predictor.set_mode, mode))
            for mode, name in NAMES.items()
        }
        group = QButtonGroup(self)
        for control in self.modes.values():
            group.addButton(control)
        self.badge = OneLine()
        self.offer = QLabel()
        self.offer.setWordWrap(True)
        self.train = button(
            "Train",
            "Learn from all accepted images, in the background.",
            session.prompt_predictor.train,
        )
        self.later = button(
            "Not now", "Ask again after some more images.", session.prompt_predictor.dismiss
        )
        self.offer_line = QWidget()
        line = row(self.offer, self.train, self.later, stretch=0)
        line.setContentsMargins(0, 0, 0, 0)
        self.offer_line.setLayout(line)
        self.body.addLayout(row(heading("Assist"), *self.modes.values()))
        self.body.addWidget(self.badge)
        self.body.addWidget(self.offer_line)
        self._room = True
        session.prompt_predictor.changed.connect(self.refresh)
        session.proposal_changed.connect(self.refresh)
        session.settings_changed.connect(self.refresh)
        session.opened.connect(self.refresh)
        self.refresh()

    def set_room(self, room: bool) -> None:
        """Whether there is room for badge and offer, or for the switch alone."""
        self._room = room
        self.refresh()

    def cycle(self) -> None:
        """Go on to the next mode that can be used."""
        if not self._session.prompt_predictor.why_not:
            modes = list(Mode)
            at = modes.index(self._session.prompt_predictor.mode)
            self._session.prompt_predictor.set_mode(modes[(at + 1) % len(modes)])

    def refresh(self) -> None:
        """Say how it is."""
        predictor = self._session.prompt_predictor
        why_not = predictor.why_not
        shown = Mode.MANUAL if why_not else predictor.mode
        for mode, control in self.modes.items():
            control.setChecked(mode is shown)
            control.setEnabled(mode is Mode.MANUAL or not why_not)
            sentence = why_not if why_not and mode is not Mode.MANUAL else TIPS[mode]
            control.setToolTip(tip(sentence, "mode of assistance"))
        text = self._badge()
        self.badge.setText(text)
        self.badge.setToolTip(text)
        self.badge.setVisible(self._room)
        offer = predictor.offer
        self.offer.setText(offer)
        self.offer_line.setVisible(bool(offer) and self._room)

    def _badge(self) -> str:
        """Who made what is proposed; where nothing is, who will."""
        session = self._session
        predictor = session.prompt_predictor
        shown = [item for item in session.proposal.objects if item.has_mask]
        if not shown:
            version = predictor.current
            if predictor.why_not or version is None or predictor.mode is Mode.MANUAL:
                return NOBODY
            return f"Ready: {version.badge}"
        parts = [self._maker(item) for item in shown]
        return "; ".join(dict.fromkeys(parts))

    def _maker(self, item: ProposedObject) -> str:
        session = self._session
        prompted = not item.prompts.is_empty
        if item.ppn:
            version = session.prompt_predictor.get(item.ppn)
            learned = version.badge if version else f"PPN v{item.ppn}, not here any more"
            return f"{learned}, with your prompts" if prompted else learned
        if item.by_hand:
            return BY_HAND
        phrase = "" if item.proposal is None else item.proposal.phrase
        if not phrase or prompted:
            return BY_PERSON
        return BY_PHRASE.format(phrase=phrase) + self._tuned(phrase)

    def _tuned(self, phrase: str) -> str:
        """Which tuned detector was asked; it answers for what it was taught only."""
        tuner = self._session.tuning
        version = tuner.get(tuned_number_in(self._session.proposal.model_id))
        if version is None:
            return ""
        taught = {as_phrase(name) for name in version.classes.values()}
        return f", {tuned(version)}" if as_phrase(phrase) in taught else ""
