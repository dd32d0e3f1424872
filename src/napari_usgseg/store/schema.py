"""The tables of ``project.sqlite``, and the way from each version to the next.

``event`` and ``blob`` are the truth; everything else is what they make, and can be made anew:

    event        the history; only ever added to
    blob         arrays and documents of the events, named by their content
    image        the image files: where, how large, which content; how their ids stay the same
    image_state  for each annotator and image: state, proposal, and which event the PNG shows
    class_table  the classes of each annotator
    setting      the settings of each annotator, and of the project (annotator "")
    step         the edits as undo and redo see them: done, undone, or gone
    project      facts about the project itself
"""

from __future__ import annotations

from collections.abc import Sequence

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

MIGRATIONS: Sequence[Sequence[str]] = (VERSION_1,)
"""The statements that lead from version n to version n + 1, each in one transaction."""
