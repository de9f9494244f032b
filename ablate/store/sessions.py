"""Separate sessions on a PostgreSQL server. A session's advisory locks last exactly as long as the session.

A pooler that gives a server's session to another client after each transaction is refused: a lock has no owner there."""

import hashlib
import secrets

import sqlalchemy as sa

from ablate.errors import BadInput
from ablate.store.database_errors import READ_ONLY, SHARED, Disconnected, explained
from ablate.store.opening import SERVER_PATIENCE, server_engine
from ablate.store.urls import without_password

# The server's time limits that could end an idle or waiting session; `lock_session` switches them off.
TIMEOUTS = (
    "idle_session_timeout",
    "idle_in_transaction_session_timeout",
    "statement_timeout",
    "lock_timeout",
)
# How often to check a session: a busy pooler may pass once by chance.
ROUNDS = 3


def lock_session(url: str) -> sa.Connection:
    """Return a separate session for advisory locks, which the server does not end for being idle.

    Raises:
        BadInput: a pooler in between shares sessions.
        Disconnected: the server does not accept writes.
    """
    with explained(url):
        engine = server_engine(url, poolclass=sa.pool.NullPool)
        engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        session = engine.connect()
        try:
            _refuse_shared(session, engine, url)
            _refuse_read_only(session, url)
            # Servers before PostgreSQL 14 do not have all of these settings.
            known = sa.text("SELECT set_config(name, '0', false) FROM pg_settings WHERE name = ANY(:names)")
            session.execute(known, {"names": list(TIMEOUTS)})
            for name in ("keepalives_idle", "keepalives_interval", "keepalives_count"):
                session.exec_driver_sql(f"SET tcp_{name} = {SERVER_PATIENCE[name]}")
        except BaseException:
            session.close()
            raise
    return session


def _refuse_shared(session: sa.Connection, engine: sa.Engine, url: str) -> None:
    """Refuse a session that does not keep its settings, or that is shared with another client.

    If a pooler gives both clients the same session, the other client sees our setting; if it alternates between sessions, or
    resets them, we do not see it ourselves. No transaction is held open meanwhile: if there is only one session, the other
    client would wait."""
    with engine.connect() as other:
        try:
            own = all(_keeps_its_settings(session, other) for _ in range(ROUNDS))
        except sa.exc.ProgrammingError:
            # The driver prepared the repeated statement in one session, and got another session.
            own = False
    if not own:
        raise BadInput(f"{without_password(url)}: {SHARED}")


def _keeps_its_settings(session: sa.Connection, other: sa.Connection) -> bool:
    word = secrets.token_hex(8)
    session.execute(sa.text("SELECT set_config('ablate.session', :word, false)"), {"word": word})
    setting = sa.text("SELECT current_setting('ablate.session', true)")
    return [asked.scalar(setting) == word for asked in (other, session, session)] == [False, True, True]


def _refuse_read_only(session: sa.Connection, url: str) -> None:
    if session.scalar(sa.text("SHOW transaction_read_only")) == "on":
        raise Disconnected(f"{without_password(url)}: does not accept writes; {READ_ONLY}")


def advisory_key(name: str) -> int:
    """Return the number of the advisory lock called `name`."""
    return int.from_bytes(hashlib.sha256(f"ablate {name}".encode()).digest()[:8], signed=True)
