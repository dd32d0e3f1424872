"""The prompt predictors (PPNs) that were trained in a project, and which of them is in use.

    <project>/models/ppn-v0003/        one version: ppn.json, ppn.safetensors, version.json
    <project>/models/chosen.json       what the person chose last, where that was a choice
    <project>/models/training/         a training that goes on, or went on when the window closed
    <project>/models/by-<name>/...     the same of another annotator

A training writes into ``training`` only, and ``version.json`` last. `Shelf.settle` then gives the
whole folder its number by renaming it: a version is there or it is not. In use is the newest that
was promoted, unless the person chose another one, or none, since then.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, LabelWriteError, UsgsegError
from ..io.atomic import write_atomically
from ..models.ppn_card import WEIGHTS_FILE, read_card
from .ppn_versions import PpnVersion, Unfinished, Versions

TRAINING = "training"
REQUEST_FILE = "request.json"
VERSION_FILE = "version.json"
LABELS_FILE = "labels.npz"
CHOSEN_FILE = "chosen.json"
SCHEMA = 1

_FOLDER = re.compile(r"ppn-v(\d{4,})")


class Shelf:
    """The folder of an annotator's versions.

    Args:
        folder: ``<project>/models``, or ``by-<name>`` in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.training = folder / TRAINING

    def read(self) -> Versions:
        """Everything that is there; what is damaged is named in ``problems`` and left alone."""
        items: list[PpnVersion] = []
        problems: list[str] = []
        for number, folder in sorted(self._folders().items()):
            try:
                items.append(_read_version(number, folder))
            except UsgsegError as error:
                problems.append(str(error))
        promoted = [item.number for item in items if item.promoted]
        current = max(promoted, default=None)
        chosen = self._chosen(problems)
        if chosen is not None and chosen["newest"] >= (current or 0):
            current = chosen["number"]
        if current is not None and all(item.number != current for item in items):
            problems.append(
                f"{self.folder}: PPN v{current} was in use and is gone or damaged; put a copy of "
                "its folder back, or choose another version"
            )
            current = None
        return Versions(tuple(items), current, self._unfinished(problems), tuple(problems))

    def settle(self) -> Versions:
        """Give a training that is done its number.

        Raises:
            LabelWriteError: the folder cannot be written.
        """
        if (self.training / VERSION_FILE).is_file():
            number = 1 + max(self._folders(), default=0)
            place = self.folder / f"ppn-v{number:04d}"
            try:
                self.training.rename(place)
            except OSError as error:
                raise LabelWriteError(
                    place, f"cannot be written ({error}); close other programs that use it"
                ) from error
            for scrap in place.glob("fold-*"):
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
            raise CheckpointError(f"{self.folder}: no PPN v{number} here; choose another version")
        newest = max((item.number for item in versions.items if item.promoted), default=0)
        entry = {"number": number, "newest": newest}
        write_atomically(self.folder / CHOSEN_FILE, _json(entry), overwrite=True)
        return self.read()

    def begin(self, request: Mapping[str, Any]) -> Versions:
        """Write down what is to be trained on; an unfinished training is given up for it.

        Raises:
            LabelWriteError: it cannot be written.
        """
        self.settle()
        self.discard()
        entry = {"schema": SCHEMA, **request, "paused": False}
        write_atomically(self.training / REQUEST_FILE, _json(entry), overwrite=True)
        return self.read()

    def pause(self, paused: bool = True) -> Versions:
        """Let the unfinished training rest until the person goes on with it, or go on.

        Raises:
            CheckpointError: there is none.
            LabelWriteError: that cannot be written down.
        """
        entry = {**read_request(self.training), "paused": paused}
        write_atomically(self.training / REQUEST_FILE, _json(entry), overwrite=True)
        return self.read()

    def discard(self) -> Versions:
        """Give up the unfinished training.

        Raises:
            LabelWriteError: its folder cannot be removed.
        """
        if self.training.is_dir():
            aside = self.folder / f".{TRAINING}-{time.time_ns()}"
            try:
                self.training.rename(aside)  # at once, so that half of it is never taken up again
            except OSError as error:
                raise LabelWriteError(
                    self.training, f"cannot be removed ({error}); close programs that use it"
                ) from error
        for scrap in self.folder.glob(f".{TRAINING}-*"):  # an earlier one may have been killed
            shutil.rmtree(scrap, ignore_errors=True)
        return self.read()

    def _folders(self) -> dict[int, Path]:
        if not self.folder.is_dir():
            return {}
        found = ((_FOLDER.fullmatch(path.name), path) for path in self.folder.iterdir())
        return {int(match[1]): path for match, path in found if match and path.is_dir()}

    def _chosen(self, problems: list[str]) -> dict[str, Any] | None:
        path = self.folder / CHOSEN_FILE
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            number = entry["number"]
            return {"number": None if number is None else int(number), "newest": entry["newest"]}
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


def write_version(folder: Path, version: PpnVersion) -> None:
    """Write ``version.json`` of a training that is done; its number is given by `Shelf.settle`.

    Raises:
        LabelWriteError: it cannot be written.
    """
    entry = {"schema": SCHEMA, **asdict(version)}
    del entry["number"], entry["folder"]
    write_atomically(folder / VERSION_FILE, _json(entry), overwrite=True)


def _read_version(number: int, folder: Path) -> PpnVersion:
    path = folder / VERSION_FILE
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        version = PpnVersion(
            number=number,
            folder=folder,
            classes={int(value): str(name) for value, name in entry["classes"].items()},
            images=int(entry["images"]),
            per_class={int(value): int(n) for value, n in entry["per_class"].items()},
            segmenter=str(entry["segmenter"]),
            held_out_dice=float(entry["held_out_dice"]),
            measured=str(entry["measured"]),
            promoted=bool(entry["promoted"]),
            created=float(entry["created"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); PPN v{number} cannot be "
            "used, put a copy of its folder back or train again"
        ) from error
    read_card(folder)
    if not (folder / WEIGHTS_FILE).is_file():
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE}: missing; PPN v{number} cannot be used, put a copy of its "
            "folder back or train again"
        )
    return version


def _json(entry: Mapping[str, Any]) -> bytes:
    return (json.dumps(entry, indent=1) + "\n").encode()
