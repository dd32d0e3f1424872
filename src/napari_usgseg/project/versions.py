"""Model versions of a project: what was trained in it, and which version of each kind is in use.

    <project>/models/ppn-v0003/        one prompt predictor: ppn.json, ppn.safetensors, version.json
    <project>/models/lora-v0001/       one adapter: PEFT's two files, usgseg.json, version.json
    <project>/models/chosen.json       what the person chose last, where that was a choice
    <project>/models/chosen-lora.json  the same of the adapters
    <project>/models/training/         a training that goes on, or went on when the window closed
    <project>/models/tuning/           the same of an adapter
    <project>/models/by-<name>/...     all of it of another annotator

A training writes into its folder only, and ``version.json`` last. `VersionStore.register` then
gives the whole folder its number by renaming it: a version is there or it is not. In use is the
newest that was promoted, unless the person chose another one, or none, since then.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..core.errors import CheckpointError, LabelWriteError, UsgsegError
from ..io.atomic import write_atomically
from ..models.lora.card import check_adapter, read_adapter_card
from ..models.ppn.card import WEIGHTS_FILE, read_card

ModelKind = Literal["ppn", "lora"]
TITLES: dict[ModelKind, str] = {"ppn": "PPN", "lora": "Tuned"}
"""How a person reads a version: "PPN v3", "Tuned v1"."""

_PPN = re.compile(r"ppn-v(\d+)@")
_WEAK = re.compile(r"weak-([0-9a-f]{6})(?![0-9a-f])")
_TUNED = re.compile(r"\+lora-v(\d+)-")


_HASH = re.compile(r"-[0-9a-f]{8}(?![0-9a-f])")
"""Of the weights, at the end of a model's name."""


def number_in(model_id: str) -> int:
    """The number of the PPN that a proposal's ``model_id`` names; 0 where it is no PPN's.

    Below 0 where it is a light head's (``weak_number``).
    """
    found = _PPN.match(model_id)
    return int(found[1]) if found else weak_number(model_id)


def weak_number(name: str) -> int:
    """The number of a light head, "weak-" and six hex digits: below 0; 0 for any other name."""
    found = _WEAK.match(name)
    return -1 - int(found[1], 16) if found else 0


def tuned_number_in(model_id: str) -> int:
    """The number of the tuned detector in a proposal's ``model_id``; 0 where none was asked."""
    found = _TUNED.search(model_id)
    return int(found[1]) if found else 0


def model_name(model_id: str) -> str:
    """A ``model_id`` as a person reads it: versions by their numbers, each name once, no hashes."""
    text = re.sub(r"\S+\+lora-v0*(\d+)-\w+", rf"{TITLES['lora']} v\1", model_id)
    text = re.sub(r"weak-[0-9a-f]{6}@\S+", "weak proposals", text)
    text = re.sub(r"ppn-v0*(\d+)@\S+", rf"{TITLES['ppn']} v\1", text)
    return " + ".join(dict.fromkeys(_HASH.sub("", text).split(" + ")))


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One trained prompt predictor, or one adapter of the detector.

    Attributes:
        kind: which of the two.
        number: 1, 2, ...
        folder: that holds it.
        classes: label value -> name.
        images: how many it was trained on.
        per_class: label value -> on how many accepted images that class was then, learnt or not.
        base: what it belongs to: a PPN's segmenter by its ``model_id``, an adapter's detector by
            its name or folder.
        held_out_dice: mean Dice on images that were not learnt from.
        measured: the sentence that says what it was compared with, and how that ended.
        promoted: it was better.
        created: seconds since 1970, UTC.
        rival: what it was compared with ("PPN v1", "the text prompt"); "" where that is not known.
        rival_dice: of that, on the same images.
    """

    kind: ModelKind
    number: int
    folder: Path
    classes: dict[int, str]
    images: int
    per_class: dict[int, int]
    base: str
    held_out_dice: float
    measured: str
    promoted: bool
    created: float
    rival: str = ""
    rival_dice: float = 0.0

    @property
    def name(self) -> str:
        """As in the history: "ppn-v3", "lora-v1"."""
        return f"{self.kind}-v{self.number}"

    @property
    def title(self) -> str:
        """In a sentence: "PPN v3", "Tuned v1"."""
        return title_of(self.kind, self.number)

    @property
    def outcome(self) -> str:
        """What came of its training: "PPN v2 is not used: Dice 0.72, PPN v1 0.73"."""
        rival = f", {self.rival} {self.rival_dice:.2f}" if self.rival else ""
        used = "in use now" if self.promoted else "not used, for it is no better"
        return f"{self.title} is {used}: Dice {self.held_out_dice:.2f}{rival}."

    @property
    def badge(self) -> str:
        """What a person reads: "PPN v3, held-out Dice 0.84, 24 images"."""
        images = "1 image" if self.images == 1 else f"{self.images} images"
        return f"{self.title}, held-out Dice {self.held_out_dice:.2f}, {images}"


def title_of(kind: ModelKind, number: int) -> str:
    """How a person reads a version, whether it is there or not."""
    return f"{TITLES[kind]} v{number}"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A training that has no result yet.

    Attributes:
        folder: of the training.
        images: how many it learns from.
        paused: the person stopped it to go on later; it does not go on by itself.
    """

    folder: Path
    images: int
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Versions:
    """All of a kind in a project, oldest first.

    Attributes:
        items: the versions that can be used.
        current: number of the one in use, or None.
        chosen: the person chose that; otherwise it is the newest that was promoted.
        unfinished: a training to go on with, or None.
        problems: sentences about what is damaged or missing.
    """

    items: tuple[ModelVersion, ...] = ()
    current: int | None = None
    chosen: bool = False
    unfinished: Unfinished | None = None
    problems: tuple[str, ...] = ()

    def get(self, number: int | None) -> ModelVersion | None:
        """A version by its number."""
        return next((item for item in self.items if item.number == number), None)

    @property
    def last(self) -> ModelVersion | None:
        """The newest one, in use or not."""
        return self.items[-1] if self.items else None


REQUEST_FILE = "request.json"
VERSION_FILE = "version.json"
LABELS_FILE = "labels.npz"
SCHEMA = 1

_TRAININGS: dict[ModelKind, str] = {"ppn": "training", "lora": "tuning"}
_CHOICES: dict[ModelKind, str] = {"ppn": "chosen.json", "lora": "chosen-lora.json"}


class VersionStore:
    """An annotator's versions of one kind.

    Args:
        folder: ``<project>/models``, or ``by-<name>`` in it.
        kind: of the versions.
    """

    def __init__(self, folder: Path, kind: ModelKind = "ppn") -> None:
        self.folder, self.kind = folder, kind
        self.training = folder / _TRAININGS[kind]
        self._choice = folder / _CHOICES[kind]

    def read(self) -> Versions:
        """Everything that is there; what is damaged is named in ``problems`` and left alone."""
        items: list[ModelVersion] = []
        problems: list[str] = []
        for number, folder in sorted(self._folders().items()):
            try:
                items.append(_read_version(self.kind, number, folder))
            except UsgsegError as error:
                problems.append(str(error))
        items = _measured_last(items)
        promoted = [item.number for item in items if item.promoted]
        current = max(promoted, default=None)
        choice = self._chosen(problems)
        # A choice holds until a newer version is promoted than the newest at the time of choosing.
        chosen = choice is not None and choice["newest"] >= (current or 0)
        if choice is not None and chosen:
            current = choice["number"]
        if current is not None and all(item.number != current for item in items):
            problems.append(
                f"{self.folder}: {title_of(self.kind, current)} was in use and is gone or damaged; "
                "put a copy of its folder back, or choose another version"
            )
            current = None
        unfinished = self._unfinished(problems)
        return Versions(tuple(items), current, chosen, unfinished, tuple(problems))

    def register(self) -> Versions:
        """Give a training that is done its number.

        Raises:
            LabelWriteError: the folder cannot be written.
        """
        if (self.training / VERSION_FILE).is_file():
            number = 1 + max(self._folders(), default=0)
            place = version_folder(self.folder, self.kind, number)
            try:
                # One rename: a version is there with all its files or not at all, wherever the
                # program is killed.
                self.training.rename(place)
            except OSError as error:
                raise LabelWriteError(
                    place, f"cannot be written ({error}); close other programs that use it"
                ) from error
            # What only a resumed training would need. Left behind after a kill, it costs space and
            # nothing else.
            for scrap in (*place.glob("fold-*"), place / "last"):
                shutil.rmtree(scrap, ignore_errors=True)
            with contextlib.suppress(OSError):
                (place / LABELS_FILE).unlink(missing_ok=True)
        return self.read()

    def choose(self, number: int | None) -> Versions:
        """Have another version in use, or none, until a newer one is promoted.

        Raises:
            CheckpointError: there is no such version.
            LabelWriteError: the choice cannot be written down.
        """
        versions = self.read()
        if number is not None and versions.get(number) is None:
            raise CheckpointError(
                f"{self.folder}: no {title_of(self.kind, number)} here; choose another version"
            )
        newest = max((item.number for item in versions.items if item.promoted), default=0)
        entry = {"number": number, "newest": newest}
        write_atomically(self._choice, _json(entry), overwrite=True)
        return self.read()

    def begin(self, request: Mapping[str, Any]) -> Versions:
        """Write down what is to be trained on; an unfinished training is given up for it.

        Raises:
            LabelWriteError: it cannot be written.
        """
        self.register()
        self.discard()
        entry = {"schema": SCHEMA, **request, "paused": False}
        write_atomically(self.training / REQUEST_FILE, _json(entry), overwrite=True)
        return self.read()

    def pause(self) -> Versions:
        """Let the unfinished training rest until the person goes on with it.

        Raises:
            CheckpointError: there is none.
            LabelWriteError: that cannot be written down.
        """
        return self._rewrite(paused=True)

    def resume(self, in_use: Mapping[str, Any]) -> Versions:
        """Go on with the unfinished training.

        Args:
            in_use: what it is compared with, as in a request: another version than when it began
                may be in use. Passed over where other models are chosen now.

        Raises:
            CheckpointError: there is none.
            LabelWriteError: that cannot be written down.
        """
        entry = read_request(self.training)
        same = all(entry.get(key) == in_use.get(key) for key in ("segmenter", "detector"))
        return self._rewrite(**(in_use if same else {}), paused=False)

    def _rewrite(self, **values: Any) -> Versions:
        entry = {**read_request(self.training), **values}
        write_atomically(self.training / REQUEST_FILE, _json(entry), overwrite=True)
        return self.read()

    def discard(self) -> Versions:
        """Give up the unfinished training.

        Raises:
            LabelWriteError: its folder cannot be removed.
        """
        if self.training.is_dir():
            aside = self.folder / f".{self.training.name}-{time.time_ns()}"
            try:
                self.training.rename(aside)  # at once, so that half of it is never taken up again
            except OSError as error:
                raise LabelWriteError(
                    self.training, f"cannot be removed ({error}); close programs that use it"
                ) from error
        # what an earlier one that was killed has left goes too
        for scrap in self.folder.glob(f".{self.training.name}-*"):
            shutil.rmtree(scrap, ignore_errors=True)
        return self.read()

    def _folders(self) -> dict[int, Path]:
        if not self.folder.is_dir():
            return {}
        pattern = re.compile(rf"{self.kind}-v(\d{{4,}})")
        found = ((pattern.fullmatch(path.name), path) for path in self.folder.iterdir())
        return {int(match[1]): path for match, path in found if match and path.is_dir()}

    def _chosen(self, problems: list[str]) -> dict[str, Any] | None:
        path = self._choice
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            number, newest = entry["number"], int(entry["newest"])
            return {"number": None if number is None else int(number), "newest": newest}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            problems.append(f"{path}: cannot be read ({error}); choose a version again")
            return None

    def _unfinished(self, problems: list[str]) -> Unfinished | None:
        if not self.training.is_dir() or (self.training / VERSION_FILE).is_file():
            return None
        try:
            entry = read_request(self.training)
        except CheckpointError as error:
            problems.append(str(error))
            return None
        return Unfinished(self.training, len(entry["images"]), bool(entry["paused"]))


def _measured_last(items: list[ModelVersion]) -> list[ModelVersion]:
    """The versions, each with its Dice as it was measured last: of a later one's rival, then.

    So a list of them and the sentence on the newest give the same figures.
    """
    newest = {item.rival: item.rival_dice for item in items}
    return [replace(i, held_out_dice=newest.get(i.title, i.held_out_dice)) for i in items]


def version_folder(folder: Path, kind: ModelKind, number: int) -> Path:
    """Where a version is, in the folder that the versions are in."""
    return folder / f"{kind}-v{number:04d}"


def read_request(folder: Path) -> dict[str, Any]:
    """What an unfinished training was asked for.

    Raises:
        CheckpointError: it is gone or damaged.
    """
    path = folder / REQUEST_FILE
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        if entry["schema"] != SCHEMA or not isinstance(entry["images"], list):
            raise ValueError(f"schema {entry['schema']!r}")
        return {"paused": False, **entry}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: not the request of a training ({error}); train again"
        ) from error


def write_version(folder: Path, version: ModelVersion) -> None:
    """Write ``version.json`` of a training that is done; `VersionStore.register` numbers it.

    Raises:
        LabelWriteError: it cannot be written.
    """
    entry = {"schema": SCHEMA, **asdict(version)}
    del entry["number"], entry["folder"]
    write_atomically(folder / VERSION_FILE, _json(entry), overwrite=True)


def _read_version(kind: ModelKind, number: int, folder: Path) -> ModelVersion:
    path = folder / VERSION_FILE
    cure = f"{title_of(kind, number)} cannot be used, put a copy of its folder back or train again"
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        version = ModelVersion(
            kind=kind,
            number=number,
            folder=folder,
            classes={int(value): str(name) for value, name in entry["classes"].items()},
            images=int(entry["images"]),
            per_class={int(value): int(n) for value, n in entry["per_class"].items()},
            base=str(entry["base"] if "base" in entry else entry["segmenter"]),  # its former name
            held_out_dice=float(entry["held_out_dice"]),
            measured=str(entry["measured"]),
            promoted=bool(entry["promoted"]),
            created=float(entry["created"]),
            rival=str(entry.get("rival", "")),
            rival_dice=float(entry.get("rival_dice", 0.0)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); {cure}"
        ) from error
    if kind == "lora":
        check_adapter(folder)
        read_adapter_card(folder)
        return version
    read_card(folder)
    if not (folder / WEIGHTS_FILE).is_file():
        raise CheckpointError(f"{folder / WEIGHTS_FILE}: missing; {cure}")
    return version


def _json(entry: Mapping[str, Any]) -> bytes:
    return (json.dumps(entry, indent=1) + "\n").encode()
