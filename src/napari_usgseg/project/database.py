"""One SQLite file: opening, transactions, and errors in the project's own words."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..core.errors import DatasetError, LabelWriteError

VERSION_1 = (
    """
    CREATE TABLE event (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        annotator TEXT NOT NULL,
        serial INTEGER,
        kind TEXT NOT NULL,
        image_id TEXT,
        step INTEGER,
        body TEXT NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX event_serial ON event (annotator, serial) WHERE serial IS NOT NULL",
    "CREATE INDEX event_image ON event (annotator, image_id, seq)",
    "CREATE INDEX event_step ON event (annotator, step) WHERE step IS NOT NULL",
    """
    CREATE TRIGGER event_is_not_changed BEFORE UPDATE ON event
    BEGIN SELECT RAISE(ABORT, 'the history is only added to'); END
    """,
    """
    CREATE TRIGGER event_is_not_deleted BEFORE DELETE ON event
    BEGIN SELECT RAISE(ABORT, 'the history is only added to'); END
    """,
    "CREATE TABLE blob (sha256 TEXT PRIMARY KEY, data BLOB NOT NULL)",
    """
    CREATE TRIGGER blob_is_not_changed BEFORE UPDATE ON blob
    BEGIN SELECT RAISE(ABORT, 'the history is only added to'); END
    """,
    """
    CREATE TRIGGER blob_is_not_deleted BEFORE DELETE ON blob
    BEGIN SELECT RAISE(ABORT, 'the history is only added to'); END
    """,
    """
    CREATE TABLE image (
        image_id TEXT PRIMARY KEY,
        path TEXT NOT NULL,
        frame INTEGER,
        height INTEGER NOT NULL,
        width INTEGER NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        sha256 TEXT,
        checked INTEGER NOT NULL DEFAULT 0
    )
    """,
    "CREATE INDEX image_path ON image (path)",
    """
    CREATE TABLE image_state (
        annotator TEXT NOT NULL,
        image_id TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'untouched',
        draft TEXT,
        proposed INTEGER NOT NULL DEFAULT 0,
        label_seq INTEGER NOT NULL DEFAULT 0,
        written_seq INTEGER NOT NULL DEFAULT 0,
        png_mtime_ns INTEGER,
        png_size INTEGER,
        PRIMARY KEY (annotator, image_id)
    ) WITHOUT ROWID
    """,
    "CREATE TABLE class_table (annotator TEXT PRIMARY KEY, body TEXT NOT NULL)",
    """
    CREATE TABLE setting (
        annotator TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (annotator, key)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE step (
        annotator TEXT NOT NULL,
        number INTEGER NOT NULL,
        name TEXT NOT NULL,
        image_id TEXT,
        status TEXT NOT NULL,
        PRIMARY KEY (annotator, number)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX step_status ON step (annotator, status)",
    "CREATE TABLE project (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
)

VERSION_2 = (
    "ALTER TABLE image_state ADD COLUMN blank INTEGER NOT NULL DEFAULT 1",
    # of what was erased again later it is not looked up; the next change of that image says it
    """
    UPDATE image_state SET blank = 0 WHERE EXISTS (
        SELECT 1 FROM event WHERE event.annotator = image_state.annotator
        AND event.image_id = image_state.image_id AND event.body LIKE '%"patch": {%'
    )
    """,
)

MIGRATIONS: Sequence[Sequence[str]] = (VERSION_1, VERSION_2)
"""The statements that lead from version n to version n + 1, each in one transaction."""


FILE = "project.sqlite"
WAIT_SECONDS = 20.0
"""How long a write waits for another annotator's."""

_CURES = {
    "SQLITE_FULL": "the disk is full; free some space and try again, nothing is lost until then",
    "SQLITE_READONLY": "may not be written; choose a folder that you may write to",
    "SQLITE_CANTOPEN": "may not be written; choose a folder that you may write to",
    "SQLITE_PERM": "may not be written; choose a folder that you may write to",
    "SQLITE_BUSY": "another program keeps it busy; close that one and try again",
    "SQLITE_LOCKED": "another program keeps it busy; close that one and try again",
    "SQLITE_IOERR": "the disk cannot be written or read; free some space, check the disk and try "
    "again, nothing is lost until then",
    "SQLITE_CORRUPT": "the file is damaged; move it away and open the folder again: the label "
    "maps in the folder labels are taken over",
    "SQLITE_NOTADB": "this is no project; move it away and open the folder again: the label "
    "maps in the folder labels are taken over",
}


class Database:
    """A project's tables.

    Args:
        path: of the file, which is made where it is missing; None keeps everything in memory.
        write: False opens what is there for reading; a file that cannot be read in its place (a
            read-only disk, an older version) is read from a copy.

    Raises:
        DatasetError: the file is damaged, no project, or of a newer version.
        LabelWriteError: it may not be written.
    """

    def __init__(self, path: Path | None, *, write: bool = True) -> None:
        self.path = path
        self.write = write
        self._busy = threading.RLock()
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        with self._errors(opening=True):
            if path is None:
                self._connection = self._connect(":memory:")
                self._migrate()
            elif write:
                self._connection = self._connect(str(path))
                self._prepare()
            else:
                self._connection = self._open_for_reading(path)

    def _connect(self, target: str, uri: bool = False) -> sqlite3.Connection:
        return sqlite3.connect(
            # isolation_level=None: Python's sqlite3 would otherwise begin and commit by itself.
            # check_same_thread=False: another thread than the one that works may close it, and
            # waits for ``_busy``.
            target,
            timeout=WAIT_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            uri=uri,
        )

    def _prepare(self) -> None:
        # where a write-ahead log is impossible (some network disks) SQLite keeps its older journal
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            # FULL: with NORMAL, a write-ahead log may lose the last commits at a power cut,
            # although they were answered as saved.
            self._connection.execute("PRAGMA synchronous = FULL")
            self._migrate()
        except sqlite3.Error:
            self._connection.close()
            raise

    def _open_for_reading(self, path: Path) -> sqlite3.Connection:
        connection = self._connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        with suppress(sqlite3.OperationalError):
            version = _version(connection)
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if version == len(MIGRATIONS):
                return connection
        connection.close()
        self._copy = tempfile.TemporaryDirectory(prefix="usgseg-")
        # The log is copied along: the newest events are only there until SQLite moves them into the
        # file.
        for suffix in ("", "-wal"):
            source = path.with_name(path.name + suffix)
            if source.is_file():
                shutil.copyfile(source, Path(self._copy.name) / source.name)
        copy = self._connect(str(Path(self._copy.name) / path.name))
        self._connection = copy
        self._migrate()
        return copy

    def _migrate(self) -> None:
        version = _version(self._connection)
        _refuse_newer(self.path, version)
        for number in range(version, len(MIGRATIONS)):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                if _version(self._connection) == number:  # nobody else did it meanwhile
                    for statement in MIGRATIONS[number]:
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA user_version = {number + 1}")
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise

    # -- use -----------------------------------------------------------------------------------

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._errors():
            return self._connection.execute(statement, values).fetchall()

    def row(self, statement: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The first row of a query, or None."""
        with self._errors():
            return self._connection.execute(statement, values).fetchone()

    def each(self, statement: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, a thousand at a time."""
        with self._errors():
            cursor = self._connection.execute(statement, values)
        while True:
            with self._errors():
                some = cursor.fetchmany(1000)
            if not some:
                return
            yield from some

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run a statement; gives the id of the row that it inserted."""
        with self._errors():
            return self._connection.execute(statement, values).lastrowid or 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of what is inside, or nothing; another thread that closes the file waits for it."""
        with self._busy:
            with self._errors():
                # IMMEDIATE takes the lock for writing at once. A plain BEGIN that reads first
                # cannot be upgraded while another writes, and fails without waiting.
                self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                with self._errors():
                    self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite rolls back by itself when the disk is full
                    self._connection.execute("ROLLBACK")
                raise

    def blob(self, name: str) -> bytes:
        """The bytes of a blob.

        Raises:
            DatasetError: there is no such blob.
        """
        found = self.row("SELECT data FROM blob WHERE sha256 = ?", (name,))
        if found is None:
            raise DatasetError(
                self.path or "project", f"lacks a part of its history ({name[:12]}); restore a copy"
            )
        return found[0]

    def keep_blob(self, name: str, data: bytes) -> None:
        """Keep a blob by the SHA-256 of its content, once."""
        # The name is the hash of the content, so the one that is there is the same.
        self.execute("INSERT OR IGNORE INTO blob VALUES (?, ?)", (name, data))

    @property
    def writable(self) -> bool:
        """True where rows can be added: to the file itself, to a copy, or in memory."""
        return self.write or self.path is None or self._copy is not None

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        with self._busy:
            self._connection.close()
            if self._copy is not None:
                self._copy.cleanup()
                self._copy = None

    @contextmanager
    def _errors(self, opening: bool = False) -> Iterator[None]:
        """SQLite's errors as the project's."""
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "") or ""
            base = "_".join(name.split("_")[:2])
            cure = _CURES.get(base, f"cannot be used ({error}); restore a copy of it")
            damaged = base in ("SQLITE_CORRUPT", "SQLITE_NOTADB")
            kind = DatasetError if damaged else LabelWriteError
            raise kind(self.path or "project in memory", cure) from error


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _refuse_newer(path: Path | None, version: int) -> None:
    if version > len(MIGRATIONS):
        raise DatasetError(
            path or "project",
            f"was made by a newer version of this program (its tables are version {version}, this "
            f"program knows {len(MIGRATIONS)}); update napari-usgseg",
        )
