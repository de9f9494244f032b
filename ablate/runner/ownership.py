"""Ownership of trials and parts: one lock each, held by the kernel or the database server for a living process. A dead owner is
detected at once, and a frozen one keeps its locks; nothing depends on clocks.

One host: `lockf` on a file. Not `flock`, which a forked data-loader child would keep alive. A POSIX lock is released when its
process closes *any* descriptor of the file, so each lock file is opened once, here, and nowhere else. Its holder removes it.
Several hosts: `pg_try_advisory_lock` in a separate database session. A process that loses the session loses all its locks; it
continues if it gets them back and nobody has begun its part meanwhile."""

import contextlib
import errno
import fcntl
import os
import resource
import secrets
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ablate.contract import Stopped
from ablate.errors import BadInput, StoreError
from ablate.files import sync, write_file
from ablate.store.places import HOME_MARKER, Place
from ablate.store.reading import has_run
from ablate.store.retrying import lasting
from ablate.store.sessions import advisory_key, lock_session
from ablate.store.urls import sqlite_file
from ablate.store.writing import Store

# Between queries, since a proxy may drop an idle session.
ASK_S = 10.0


class Lost(Stopped):
    """Raised by `Context.checkpoint`, which then saves nothing, when this process does not own its trial any more."""


class FileLocks:
    """Kernel locks on files, for the processes of one host. Keys are safe as file names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}  # key -> file descriptor
        folder.mkdir(parents=True, exist_ok=True)

    def acquire(self, key: str) -> bool:
        """Take the lock if no living process has it.

        Raises:
            StoreError: the file cannot be locked at all: another user's, a full disk, a file system without locks.
        """
        if key in self._held:
            return False
        while (descriptor := self._lock(key)) is not None:
            # Otherwise its holder removed it after we opened and before we locked it; somebody else may have made a new one.
            if os.fstat(descriptor).st_nlink:
                self._held[key] = descriptor
                return True
            os.close(descriptor)
        return False

    def _lock(self, key: str) -> int | None:
        file = self._folder / f"{key}.lock"
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno == errno.EMFILE:
                raise StoreError(
                    f"{file}: {error.strerror}: each waiting trial needs an open lock file; allow more open files: "
                    "ulimit -n 100000"
                ) from error
            raise StoreError(
                f"{file}: {error.strerror}; whoever runs the study must be able to write its lock files"
            ) from error
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return None
            raise StoreError(f"{file}: {error.strerror}; keep the home on a local disk") from error
        return descriptor

    def release(self, key: str) -> None:
        """Release a lock, and remove its file unless another process owns the file by now."""
        if key in self._held:
            descriptor = self._held.pop(key)
            with contextlib.suppress(OSError):
                if os.fstat(descriptor).st_nlink:
                    (self._folder / f"{key}.lock").unlink()
            os.close(descriptor)

    def lost(self) -> bool:
        """Return whether somebody removed a lock's file, so that another process could make and lock a new one."""
        return any(os.fstat(descriptor).st_nlink == 0 for descriptor in self._held.values())

    def held(self) -> list[str]:
        """Return the keys of all locks."""
        return list(self._held)

    def renew(self, stopping: Callable[[], bool] = lambda: False) -> None:
        """Release every lock; make the folder again."""
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Release every lock."""
        for key in list(self._held):
            self.release(key)


class ServerLocks:
    """Advisory locks of a PostgreSQL server, for processes of several hosts."""

    def __init__(self, url: str, study: str) -> None:
        self._url, self._study = url, study
        self._open()
        # Forked children of a trainer may outlive it; while they have the socket, the server keeps the session.
        os.register_at_fork(after_in_child=lambda: None if self._socket is None else let_go(self._socket))

    def _open(self) -> None:
        self._held: set[str] = set()
        self._broken = False
        self._asked = time.monotonic()
        self._session = lock_session(self._url)
        # In an idle session the server sends nothing, except when it ends the session.
        self._news = select.poll()
        self._socket: int | None = self._driver().pgconn.socket
        self._news.register(self._socket, select.POLLIN)

    def _driver(self) -> Any:  # psycopg.Connection, installed only where it is used
        return self._session.connection.driver_connection

    def acquire(self, key: str) -> bool:
        """Take the lock if no living process has it; not while the session is lost."""
        if key in self._held or not self._ask("pg_try_advisory_lock", key):
            return False
        self._held.add(key)
        return True

    def release(self, key: str) -> None:
        """Give a held lock back."""
        if key in self._held:
            self._held.remove(key)
            self._ask("pg_advisory_unlock", key)

    def _ask(self, function: str, key: str) -> bool:
        if self.lost():
            return False
        number = advisory_key(f"{self._study} {key}")
        return bool(self._scalar(sa.select(getattr(sa.func, function)(number))))

    def _scalar(self, question: sa.Select[Any]) -> Any:
        self._asked = time.monotonic()
        try:
            return self._session.scalar(question)
        except sa.exc.DBAPIError:
            self._broken = True
            return None

    def lost(self) -> bool:
        """Return whether the session is gone, and all locks with it."""
        if not self._broken and self._news.poll(0):
            try:
                self._driver().pgconn.consume_input()
            except Exception:
                self._broken = True
        if not self._broken and time.monotonic() > self._asked + ASK_S:
            self._scalar(sa.select(1))
        return self._broken

    def held(self) -> list[str]:
        """Return the keys of all locks."""
        return list(self._held)

    def renew(self, stopping: Callable[[], bool] = lambda: False) -> None:
        """Open a new session once the server answers.

        Raises:
            StoreError: it did not answer in time, or before a stop was requested.
        """
        self.close()
        lasting(self._open, stopping)

    def close(self) -> None:
        """End the session, and with it all locks."""
        self._socket = None
        self._session.invalidate()
        self._session.close()


def regain(locks: FileLocks | ServerLocks, stopping: Callable[[], bool]) -> bool:
    """Try to get lost locks back; return whether it got all of them.

    Raises:
        StoreError: the server did not answer in time, or before a stop was requested.
    """
    keys = locks.held()
    locks.renew(stopping)
    return all([locks.acquire(key) for key in keys])


def open_locks(place: Place) -> FileLocks | ServerLocks:
    """Return the locks that fit the database: files in the study's folder, or the server's."""
    if sqlite_file(place.url) is None:
        return ServerLocks(place.url, place.study)
    return FileLocks(place.folder / "locks")


@contextlib.contextmanager
def nobody_works_on(store: Store) -> Iterator[None]:
    """Keep everybody else from working on a study's trials.

    Raises:
        BadInput: somebody is working on one.
    """
    with contextlib.closing(open_locks(store.place)) as locks:
        queue = store.queue()
        _allow_open_files(len(queue))
        for queued in queue:
            if not locks.acquire(f"trial-{queued.trial_id}"):
                raise BadInput(
                    f"STUDY: {store.place.study!r} is running (trial {queued.number}); stop it or wait for it"
                )
        yield


def _allow_open_files(more: int) -> None:
    """Raise the limit on this process's open files, as far as it may, so that it can hold `more` locks beside its files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = more + 1000
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def let_go(descriptor: int) -> None:
    """In a forked child: redirect a descriptor to /dev/null, so that its other end depends only on the parent."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, descriptor)
    os.close(nothing)


def share_home(store: Store) -> None:
    """Make sure that all workers of a study keep its files in the same folder.

    Raises:
        BadInput: its trials' files are in a different folder.
    """
    refuse_other_home(store, store.home() or store.agree_on_home(_marker(store.place.folder)))


def refuse_anothers_files(place: Place) -> None:
    """Raise BadInput if a study is new in its database, but its folder has the files of one of this name in another database."""
    if has_run(place):
        return
    if not place.is_in_folder and (place.folder / "study.db").exists():
        where, how = "the study.db beside them", "leave out --storage and ABLATE_STORAGE"
    elif (place.folder / HOME_MARKER).exists():
        where, how = "another database", "set ABLATE_STORAGE to its address"
    else:
        return
    raise BadInput(
        f"--home: {place.folder} has the files of a study of this name, whose results are in {where}; {how} to go on with it, or "
        "name another --home (if those results are gone, remove the folder)"
    )


def refuse_other_home(store: Store, agreed: str) -> None:
    """Raise BadInput unless the study's files are in this folder, which the database knows as `agreed`."""
    folder = store.place.folder
    file, marker = folder / HOME_MARKER, marker_in(folder)
    if marker != agreed:
        raise BadInput(
            f"--home: {folder} is not where the files of {store.place.study!r} are ({HOME_MARKER}: found {marker or 'nothing'}, "
            f"its database says {agreed}); name the folder that `ablate run` uses, shared between the hosts. "
            f"If those files are gone: mkdir -p '{folder}' && echo {agreed} > '{file}'"
        )


def marker_in(folder: Path) -> str | None:
    """Return the name that a folder has; None if it has none."""
    file = folder / HOME_MARKER
    return file.read_text().strip() if file.is_file() else None


def _marker(folder: Path) -> str:
    """Return this folder's name. Two processes that ask at the same time get the same one."""
    file = folder / HOME_MARKER
    if not file.is_file():
        proposed = folder / f".{HOME_MARKER}.{secrets.token_hex(4)}"
        write_file(proposed, secrets.token_hex(8).encode() + b"\n")
        with contextlib.suppress(FileExistsError):
            os.link(proposed, file)
        proposed.unlink()
        sync(folder)
    return file.read_text().strip()
