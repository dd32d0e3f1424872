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
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import platformdirs

KEY_VARIABLE = "USGSEG_IDENTITY_KEY"
_NOBODY = (
    "anon", "anonymous", "anonymized", "anonymised", "deid", "deidentified", "dr", "md", "mr",
    "mrs", "ms", "na", "name", "noname", "none", "patient", "prof", "redacted", "removed", "test",
    "unknown",
)  # fmt: skip
"""What stands where who it is was taken out, and titles; of letters and digits alone."""
_SHORTEST = 4
"""Signs of a value that is looked for inside of words; a shorter name must be a word by itself."""
_TWO_LETTERS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe"})
_BARE = str.maketrans(
    {"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ħ": "h"}
)
"""Letters that Unicode does not take apart into a letter and its accent."""
_WITHOUT_SPACES = re.compile("[\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""Signs of scripts whose words are not parted: one of them is a name already."""


def pseudonym(value: str, kind: str = "patient") -> str:
    """A name for a value that tells nothing of it: "patient-3f9a...", the same for the same."""
    digest = hashlib.blake2b(value.encode("utf-8", "replace"), key=_key(), digest_size=8)
    return f"{kind}-{digest.hexdigest()}"


def pseudonym_uid(value: str) -> str:
    """A DICOM identifier (2.25, of a number) for another, the same for the same."""
    digest = hashlib.blake2b(value.encode("utf-8", "replace"), key=_key(), digest_size=16)
    return f"2.25.{int.from_bytes(digest.digest(), 'big')}"


@lru_cache(maxsize=1)
def _key() -> bytes:
    given = os.environ.get(KEY_VARIABLE)
    if given:
        return hashlib.blake2b(given.encode("utf-8", "replace")).digest()
    path = platformdirs.user_data_path("napari-usgseg", appauthor=False) / "identity.key"
    with suppress(OSError):
        # Written beside and linked: of two processes that begin at once both get the key of the
        # first, and none reads half a key.
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


def is_nobody(value: str) -> bool:
    """Whether a patient's name or number says nobody: empty, "Anonymous", "000", "xxx"."""
    plain = "".join(_words(value, _BARE))
    return plain in _NOBODY or not plain.strip("0x")


def is_repeated(path: Path, values: Iterable[str], names: Iterable[str] = ()) -> bool:
    """Whether a file's name or that of a folder above it repeats one of the values.

    However they are written: in capitals, with other signs between, "Müller" as "Mueller" or
    "Muller", a date with its day first.

    Args:
        path: of the file; all folders that it lies in count.
        values: numbers, dates and institutions of a patient.
        names: of persons, whose parts count by themselves.
    """
    parts = [part for name in names for part in re.split(r"[\s^=,;\\]+", name)]
    wanted = dict.fromkeys((*values, *names), False) | dict.fromkeys(parts, True)
    looked_for = {
        (plain, is_word)
        for value, is_word in wanted.items()
        if not is_nobody(value)
        for form in _orders(value)
        for plain in _plain(form)
    }
    for place in Path(os.path.abspath(path)).parts:
        inside = _plain(place)
        words = {word for table in (_BARE, _TWO_LETTERS) for word in _words(place, table)}
        for plain, is_word in looked_for:
            if len(plain) >= _SHORTEST or _WITHOUT_SPACES.search(plain):
                if any(plain in text for text in inside):
                    return True
            elif is_word and len(plain) > 1 and plain in words:
                return True
    return False


def _orders(value: str) -> list[str]:
    """A value, and where it is a date also with its day or its month first, or a short year."""
    date = re.fullmatch(r"((?:18|19|20)(\d\d))[-.]?(\d\d)[-.]?(\d\d)", value.strip())
    if date is None:
        return [value]
    year, short, month, day = date.groups()
    return [value, day + month + year, month + day + year, short + month + day]


def _plain(text: str) -> set[str]:
    """Letters and digits alone, small, without accents, in both ways to write an umlaut."""
    return {"".join(_words(text, table)) for table in (_BARE, _TWO_LETTERS)}


def _words(text: str, table: Mapping[int, str]) -> list[str]:
    """Words of letters or of digits, small, without accents: "DoeJane_03" is doe, jane, 03."""
    text = unicodedata.normalize("NFC", text)
    text = re.sub(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])", " ", text)
    text = "".join(
        f" {sign}" if sign.isupper() and text[i - 1 : i].islower() else sign
        for i, sign in enumerate(text)
    )
    text = text.casefold().translate(table).translate(_BARE)
    text = unicodedata.normalize("NFKD", text)
    kept = "".join(
        sign if sign.isalnum() else "" if unicodedata.combining(sign) else " " for sign in text
    )
    return kept.split()
