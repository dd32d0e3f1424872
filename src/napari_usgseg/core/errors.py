"""The one error tree of napari-usgseg.

    UsgsegError
    ├── ImageReadError        an image could not be read
    ├── LabelWriteError       a label map could not be written
    ├── DatasetError          a data set folder is not in the documented layout
    ├── PromptError           a prompt that cannot be used (no phrase, box outside the image, ...)
    ├── ClusterError          other machines that cannot be reached or used
    └── ModelError
        ├── ModelNotFoundError    no such model name, file or cached download
        └── CheckpointError       a model file is damaged or of another model

    Cancelled                 the person stopped the work; never a fault, and so none of these

Every message names what was given, what was expected and the cure.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")


def readable(name: object) -> str:
    """A file's name or path on one line that every terminal and file takes.

    Line breaks, control characters and bytes that are no UTF-8 become backslash escapes.
    """

    def shown(sign: str) -> str:
        if unicodedata.category(sign) not in _UNPRINTABLE:
            return sign
        code = ord(sign)
        if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that it could not decode
            return f"\\x{code - 0xDC00:02x}"
        return sign.encode("unicode_escape", "surrogatepass").decode("ascii")

    return "".join(map(shown, str(name)))


class UsgsegError(Exception):
    """Base of all errors that the project raises on purpose."""


class FileError(UsgsegError):
    """A fault of one file; ``path`` names it so that a batch can go on with the others."""

    def __init__(self, path: str | Path, cause: str) -> None:
        super().__init__(f"{readable(path)}: {cause}")
        self.path = Path(path)
        self.cause = cause

    # Exception's own pickling calls the class with the finished message alone, which FileError
    # refuses.
    def __reduce__(self) -> tuple[type[FileError], tuple[Path, str]]:
        """As one that comes from another process."""
        return type(self), (self.path, self.cause)


class ImageReadError(FileError):
    """An image could not be read."""


class LabelWriteError(FileError):
    """A label map could not be written (it exists, the folder is read-only, the disk is full)."""


class DatasetError(FileError):
    """A data set folder is not in the documented layout."""


class PromptError(UsgsegError):
    """A prompt that cannot be used."""


class ClusterError(UsgsegError):
    """Other machines that cannot be reached or used."""


class ModelError(UsgsegError):
    """A model could not be found, loaded or used."""


class ModelNotFoundError(ModelError):
    """No such model name, file or cached download."""


class CheckpointError(ModelError):
    """A model file is damaged, or belongs to another model."""


class Cancelled(BaseException):
    """The person stopped the work.

    As KeyboardInterrupt, it passes through whatever goes on after the fault of one file.
    """
