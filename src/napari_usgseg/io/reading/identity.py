"""Identity of a patient: pseudonyms for groups, and values that a file's name must not repeat.

Of what identifies a person nothing but a pseudonym leaves this package: a keyed hash, for the
number of a patient is short enough to be guessed from a plain one. The key is made once for a user
(``identity.key`` in the folder of the user's data), or given to a team or a cluster in
``USGSEG_IDENTITY_KEY``, so that all of them name a patient alike.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import platformdirs

KEY_VARIABLE = "USGSEG_IDENTITY_KEY"
_GENERIC = {
    "patient",
    "name",
    "anonymous",
    "anonymized",
    "anonymised",
    "anon",
    "deid",
    "test",
    "unknown",
}
_SHORTEST = 4
"""Signs of a value that is looked for in a path: "Li" is part of too many names."""


def pseudonym(value: str, kind: str = "patient") -> str:
    """A name for a value that tells nothing of it: "patient-3f9a...", the same for the same."""
    digest = hashlib.blake2b(value.encode("utf-8", "replace"), key=_key(), digest_size=8)
    return f"{kind}-{digest.hexdigest()}"


@lru_cache(maxsize=1)
def _key() -> bytes:
    given = os.environ.get(KEY_VARIABLE)
    if given:
        return hashlib.blake2b(given.encode("utf-8", "replace")).digest()
    path = platformdirs.user_data_path("napari-usgseg", appauthor=False) / "identity.key"
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        if not path.exists():
            fresh.touch(mode=0o600)
            fresh.write_bytes(secrets.token_bytes(32))
            try:
                os.link(fresh, path)  # whoever is first
            except OSError:
                if not path.exists():  # a disk without links
                    os.replace(fresh, path)
            fresh.unlink(missing_ok=True)
        if key := path.read_bytes():
            return key[:64]
    return secrets.token_bytes(32)  # nothing can be kept: good for this process


def is_repeated(path: Path, values: Iterable[str], names: Iterable[str] = ()) -> bool:
    """Whether a file's name or that of its folder repeats one of the values, however it is written.

    Args:
        path: of the file.
        values: numbers, dates and institutions of a patient.
        names: of persons, whose parts count by themselves.
    """
    places = [_plain(part) for part in (path.name, path.parent.name)]
    parts = [part for name in names for part in re.split(r"[\s^=,;\\]+", name)]
    wanted = {_plain(value) for value in (*values, *names, *parts)} - _GENERIC
    return any(len(one) >= _SHORTEST and one in place for one in wanted for place in places)


def _plain(text: str) -> str:
    """Letters and digits alone, small, without accents."""
    text = unicodedata.normalize("NFKD", text).casefold()
    return "".join(sign for sign in text if sign.isalnum())
