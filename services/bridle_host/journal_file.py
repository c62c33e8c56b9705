"""The journal's file: one SQLite database, used by one thread through one connection.

Why SQLite and not an append-only file of checked records: beside the entries, the journal holds
what must change *together* with them (the answers to commands, the runs that are live) and what is
deleted in another order than it was written (an answer outlives its entry). An append-only file
would need an index and a compactor for that, and both would have to survive a cut at any byte; this
is what SQLite's write-ahead log is proven to do. It costs nothing where it counts: with group
commit the fsync is the price, and the file is no slower than the disk.

The settings, each for a reason:

- `locking_mode=EXCLUSIVE`, before the first access: the log's index lives in this process's memory,
  so there is no `-shm` file to run out of space, and a second process can't open the journal. One
  connection also keeps away from a known bug of SQLite before 3.51.3 in resetting the log, which
  needs two.
- `synchronous=FULL`: a COMMIT that returned has been fsynced.
- `temp_store=MEMORY`: nothing is put aside in a place that is not ours and may be full.
- `wal_autocheckpoint=0`: SQLite throws the errors of automatic checkpoints away. A failed fsync
  must never be retried (the kernel may have dropped the pages and say yes the second time), so
  checkpoints are made here, where the error is seen.

Every row has a checksum, which is looked at whenever the row is read: what control would be told of
a damaged journal would stand in its log for ever. A damaged journal is not used at all.

It knows nothing of asyncio, of protobuf or of what the entries mean. Only `bridle_host.journal`
uses it.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from bridle_host.crash_points import reached

#: The format that this code writes, in `PRAGMA user_version`.
FORMAT = 2
#: Marks the file as a Bridle journal, in `PRAGMA application_id` ("BRDJ").
APPLICATION_ID = 0x4252444A
#: Written since the last checkpoint, in bytes of bodies, before the next one: large enough that
#: most entries are acknowledged and gone by then, small enough that a start replays it at once.
CHECKPOINT_BYTES = 8 * 1024 * 1024
#: The size of the write-ahead log that is too much, whatever was written: each commit costs whole
#: pages, a small one a hundred times what it says.
LOG_BYTES = 16 * 1024 * 1024
#: What is asked for, in bytes, to see whether a quota leaves any.
_SAMPLE_BYTES = 64 * 1024
_WRITE_FAILED = 778  # SQLITE_IOERR_WRITE, which the module does not name

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE entries (
    sequence INTEGER PRIMARY KEY, body BLOB NOT NULL, crc INTEGER NOT NULL
);
CREATE TABLE answers (
    number INTEGER PRIMARY KEY,
    sequence INTEGER NOT NULL,
    command_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    run INTEGER NOT NULL,
    body BLOB NOT NULL,
    crc INTEGER NOT NULL
);
CREATE TABLE runs (
    session_id TEXT NOT NULL,
    run INTEGER NOT NULL,
    state BLOB NOT NULL,
    crc INTEGER NOT NULL,
    PRIMARY KEY (session_id, run)
);
"""

#: From format 1, which had no checksums: what is there is taken as it is.
_TO_FORMAT_2 = (
    "ALTER TABLE entries ADD COLUMN crc INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE answers ADD COLUMN crc INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE runs ADD COLUMN crc INTEGER NOT NULL DEFAULT 0",
    "UPDATE entries SET crc = checksum(body, sequence, '', 0)",
    "UPDATE answers SET crc = checksum(body, number, command_id || ' ' || session_id, run)",
    "UPDATE runs SET crc = checksum(state, run, session_id, 0)",
)

Connect = Callable[[Path], sqlite3.Connection]


class JournalError(Exception):
    """The journal can't be used; the text is one line for people."""


class DiskFullError(Exception):
    """There is no space; nothing was changed, and the same call may be made again."""


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """A CommandEntry, kept for repeats of its command.

    `number` counts answers and never comes again; `sequence` is that of its entry, 0 for one of an
    earlier journal_id.
    """

    number: int
    sequence: int
    command_id: str
    session_id: str
    run: int
    body: bytes


@dataclass(slots=True)
class Change:
    """What one commit changes. Changes of a group are applied in order."""

    entries: Sequence[tuple[int, bytes]] = ()
    answers: Sequence[AnswerRow] = ()
    put_runs: Sequence[tuple[str, int, bytes]] = ()
    drop_runs: Sequence[tuple[str, int]] = ()
    #: Entries up to this one are no longer needed; 0 for none.
    trim: int = 0
    #: The numbers of answers that are no longer needed.
    drop_answers: Sequence[int] = ()
    #: The newest of the entries by which a run was taken over; 0 for none.
    adopted: int = 0
    #: How much it writes, in bytes, roughly.
    size: int = 0


@dataclass(frozen=True, slots=True)
class Loaded:
    """What is in the file when it is opened."""

    journal_id: str
    #: The newest entry ever written; 0 for none.
    last: int
    #: Entries up to this one are gone.
    trimmed: int
    #: The newest entry by which a run of a lost journal was taken over; 0 for none.
    adopted: int
    #: (last sequence, bytes) of stretches of entries, ascending.
    sizes: list[tuple[int, int]]
    answers: list[AnswerRow]
    runs: dict[tuple[str, int], bytes]


def checksum(data: bytes, number: int, name: str, run: int) -> int:
    """The checksum of a row: of its bytes, bound to what they belong to.

    Of entries (body, sequence, "", 0), of answers (body, number, "command_id session_id", run), of
    runs (state, run, session_id, 0). The sequence of an answer isn't in it: `renew` moves it.
    """
    return crc32(data, crc32(f"{number} {name} {run}".encode()))


def connect(path: Path) -> sqlite3.Connection:
    """The connection that serves in production; tests put another one in its place."""
    # It is opened by one thread and then handed over to the writer for good.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)


class JournalFile:
    """The open file. Raises JournalError, DiskFullError, or sqlite3.Error (which is fatal)."""

    def __init__(self, path: Path, connect: Connect = connect) -> None:
        self._path = path
        self._unsaved = 0
        is_new = not path.exists()
        try:
            # SQLite gives its side files the mode of the main one.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise JournalError(f"{path} can't be opened: {error.strerror}") from None
        self._db = connect(path)
        try:
            self._prepare()
            self.loaded = self._load()
            if is_new:
                self._sync_directory()
        except sqlite3.Error as error:
            self._db.close()
            raise JournalError(self._explain(error)) from None
        except (KeyError, ValueError):
            # What is text or a number there is none; SQLite's module stumbles over it.
            self._db.close()
            raise JournalError(self._damaged()) from None
        except JournalError:
            self._db.close()
            raise

    # --- opening ---

    def _prepare(self) -> None:
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        application = int(self._db.execute("PRAGMA application_id").fetchone()[0])
        tables = int(self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
        if tables and application != APPLICATION_ID:
            raise JournalError(f"{self._path} is not a journal of bridle-host")
        if version > FORMAT:
            raise JournalError(
                f"{self._path} was written by a newer bridle-host (format {version}, "
                f"this one knows {FORMAT}); upgrade, or use another state directory"
            )
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA wal_autocheckpoint=0")
        self._db.execute("PRAGMA temp_store=MEMORY")
        if not tables:
            self._create()
        elif version < FORMAT:
            self._upgrade()

    def _create(self) -> None:
        # One transaction: a cut leaves an empty file, which the next start fills.
        self._db.execute("BEGIN IMMEDIATE")
        for statement in filter(str.strip, _SCHEMA.split(";")):
            self._db.execute(statement)
        self._db.executemany(
            "INSERT INTO meta VALUES (?, ?)",
            [("journal_id", str(uuid.uuid4())), ("last", 0), ("trimmed", 0)],
        )
        self._db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version={FORMAT}")
        self._db.execute("COMMIT")

    def _upgrade(self) -> None:
        self._db.create_function("checksum", 4, checksum, deterministic=True)
        self._db.execute("BEGIN IMMEDIATE")
        for statement in _TO_FORMAT_2:
            self._db.execute(statement)
        self._db.execute(f"PRAGMA user_version={FORMAT}")
        self._db.execute("COMMIT")

    def _load(self) -> Loaded:
        problem = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise JournalError(self._damaged())
        meta = dict(self._db.execute("SELECT key, value FROM meta").fetchall())
        last, trimmed = int(meta["last"]), int(meta["trimmed"])
        count = int(self._db.execute("SELECT count(*) FROM entries").fetchone()[0])
        if count != last - trimmed:
            raise JournalError(f"{self._path} has gaps; move it away to start with an empty one")
        answers = self._db.execute(
            "SELECT number, sequence, command_id, session_id, run, body, crc "
            "FROM answers ORDER BY number"
        ).fetchall()
        for number, _, command_id, session_id, run, body, crc in answers:
            self._verify(body, number, f"{command_id} {session_id}", run, crc)
        runs = self._db.execute(
            "SELECT session_id, run, state, crc FROM runs ORDER BY rowid"
        ).fetchall()
        for session_id, run, state, crc in runs:
            self._verify(state, run, session_id, 0, crc)
        sizes = self._load_sizes()
        return Loaded(
            journal_id=str(meta["journal_id"]),
            last=last,
            trimmed=trimmed,
            adopted=int(meta.get("adopted", 0)),
            sizes=sizes,
            answers=[AnswerRow(*row[:-1]) for row in answers],
            runs={(session_id, run): state for session_id, run, state, _ in runs},
        )

    def _load_sizes(self) -> list[tuple[int, int]]:
        sizes: list[tuple[int, int]] = []
        size = 0
        # At most what the journal's cap allows, one by one.
        for sequence, body, crc in self._db.execute(
            "SELECT sequence, body, crc FROM entries ORDER BY sequence"
        ):
            self._verify(body, sequence, "", 0, crc)
            size += len(body)
            if sequence % 1000 == 0:
                sizes.append((sequence, size))
                size = 0
        if size:
            sizes.append((sequence, size))
        return sizes

    def _verify(self, data: bytes, number: int, name: str, run: int, crc: int) -> None:
        try:
            if checksum(data, number, name, run) == crc:
                return
        except TypeError:
            pass  # a damaged row may say that its bytes are none
        raise JournalError(self._damaged())

    def _damaged(self) -> str:
        return f"{self._path} is damaged; move it away to start with an empty one"

    def _sync_directory(self) -> None:
        descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _explain(self, error: sqlite3.Error) -> str:
        code = error.sqlite_errorcode & 0xFF if hasattr(error, "sqlite_errorcode") else 0
        if code == sqlite3.SQLITE_BUSY:
            return f"{self._path} is used by another process"
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return self._damaged()
        if code == sqlite3.SQLITE_FULL:
            return f"{self._path}: no space is left on the disk"
        return f"{self._path} can't be opened ({error})"

    # --- writing ---

    def commit(self, changes: Sequence[Change]) -> None:
        """Applies all or nothing; when it returns, the changes are on the disk."""
        trims = any(change.trim for change in changes)
        with self._transaction():
            for change in changes:
                self._apply(change)
            if trims:
                reached("journal.before-trim")
            reached("journal.before-commit")
        reached("journal.after-commit")
        if trims:
            reached("journal.after-trim")
        self._unsaved += sum(change.size for change in changes)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing. Raises DiskFullError, or what is fatal."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise self._full(error) from error

    def _apply(self, change: Change) -> None:
        run = self._db.executemany
        if change.entries:
            run(
                "INSERT INTO entries VALUES (?, ?, ?)",
                [(number, body, checksum(body, number, "", 0)) for number, body in change.entries],
            )
            last = change.entries[-1][0]
            self._db.execute("UPDATE meta SET value = ? WHERE key = 'last'", (last,))
        if change.adopted:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('adopted', ?)", (change.adopted,))
        if change.answers:
            run(
                "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        *(a.number, a.sequence, a.command_id, a.session_id, a.run, a.body),
                        checksum(a.body, a.number, f"{a.command_id} {a.session_id}", a.run),
                    )
                    for a in change.answers
                ],
            )
        if change.put_runs:
            run(
                "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?)",
                [
                    (session_id, number, state, checksum(state, number, session_id, 0))
                    for session_id, number, state in change.put_runs
                ],
            )
        if change.drop_runs:
            run("DELETE FROM runs WHERE session_id = ? AND run = ?", change.drop_runs)
        if change.trim:
            self._db.execute("DELETE FROM entries WHERE sequence <= ?", (change.trim,))
            self._db.execute("UPDATE meta SET value = ? WHERE key = 'trimmed'", (change.trim,))
        if change.drop_answers:
            run("DELETE FROM answers WHERE number = ?", [(n,) for n in change.drop_answers])

    def wants_checkpoint(self) -> bool:
        """Whether enough was written since the last checkpoint."""
        return self._unsaved >= CHECKPOINT_BYTES or self.log_bytes >= LOG_BYTES

    @property
    def log_bytes(self) -> int:
        """The size of the write-ahead log."""
        try:
            return os.stat(f"{self._path}-wal").st_size
        except FileNotFoundError:
            return 0

    def checkpoint(self) -> None:
        """Moves the write-ahead log into the file. Raises DiskFullError, or what is fatal."""
        reached("journal.before-checkpoint")
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise self._full(error) from error
        reached("journal.after-checkpoint")
        self._unsaved = 0

    def renew(self, journal_id: str, restamp: Callable[[int, bytes], bytes]) -> int:
        """Gives the journal another id and numbers its entries from 1, keeping their order.

        `restamp(sequence, body)` is the body under its new number. Returns the newest number.
        Raises DiskFullError, and has done nothing then, or what is fatal.
        """
        meta = dict(self._db.execute("SELECT key, value FROM meta").fetchall())
        last, trimmed = int(meta["last"]), int(meta["trimmed"])
        rows = [
            (old - trimmed, restamp(old - trimmed, body))
            for old, body in self.read(0, max_bytes=sys.maxsize, max_entries=sys.maxsize)
        ]
        with self._transaction():
            self._db.execute("DELETE FROM entries")
            self._db.executemany(
                "INSERT INTO entries VALUES (?, ?, ?)",
                [(number, body, checksum(body, number, "", 0)) for number, body in rows],
            )
            self._db.execute("UPDATE answers SET sequence = max(0, sequence - ?)", (trimmed,))
            self._db.execute(
                "UPDATE meta SET value = max(0, value - ?) WHERE key = 'adopted'", (trimmed,)
            )
            self._db.executemany(
                "UPDATE meta SET value = ? WHERE key = ?",
                [(journal_id, "journal_id"), (last - trimmed, "last"), (0, "trimmed")],
            )
        return last - trimmed

    # --- reading ---

    def read(self, after: int, max_bytes: int, max_entries: int) -> list[tuple[int, bytes]]:
        """Entries after `after`, ascending: as many as fit, but at least one where there is one.

        Raises JournalError for one that doesn't read back as it was written.
        """
        found: list[tuple[int, bytes]] = []
        size = 0
        cursor = self._db.execute(
            "SELECT sequence, body, crc FROM entries WHERE sequence > ? ORDER BY sequence LIMIT ?",
            (after, max_entries),
        )
        try:
            for sequence, body, crc in cursor:
                self._verify(body, sequence, "", 0, crc)
                size += len(body)
                if found and size > max_bytes:
                    break
                found.append((sequence, body))
        finally:
            cursor.close()
        return found

    def close(self) -> None:
        """Closes the file; what was committed stays."""
        self._db.close()

    def _full(self, error: sqlite3.Error) -> Exception:
        """DiskFullError where the error is that; the error itself where it isn't."""
        code = getattr(error, "sqlite_errorcode", 0)
        if code & 0xFF == sqlite3.SQLITE_FULL:
            return DiskFullError()
        # SQLite takes a used-up quota for a failed write.
        if code == _WRITE_FAILED and self._is_quota_used_up():
            return DiskFullError()
        return error

    def _is_quota_used_up(self) -> bool:
        sample = self._path.with_name(f"{self._path.name}.sample")
        try:
            descriptor = os.open(sample, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, _SAMPLE_BYTES)
            finally:
                os.close(descriptor)
        except OSError as error:
            return error.errno == errno.EDQUOT
        finally:
            sample.unlink(missing_ok=True)
        return False
