"""A PostgreSQL of the tests' own: a cluster in a temporary folder, run by nobody of importance, gone at the end."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from support.runs import wait_for

USER = "xoron"
START_S = 60.0
ON_BOTH = pytest.mark.parametrize(
    "index", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)
"""Put above a test of `running_server` or `start_server`: it runs with either database."""


def find_binaries() -> Path | None:
    """Where `initdb` and `postgres` are; Debian keeps them off the PATH."""
    known = shutil.which("initdb")
    if known is not None:
        return Path(known).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class Cluster:
    """A server on a loopback port; `start` and `stop` may be called again and again."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._folder = folder
        self._data = folder / "data"
        self._num_databases = 0
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        account = _account()
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
        self._as_user = [] if account is None else _become(account)
        command = [*self._as_user, str(binaries / "initdb"), "-D", str(self._data), "-U", USER, "-A", "trust"]
        done = subprocess.run(
            [*command, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"], cwd="/", capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr}")

    def start(self) -> None:
        """Serve."""
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(self._folder), "fsync": "off"}
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        postgres = [str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(self.port), *settings]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*self._as_user, *postgres], cwd="/", stdout=log, stderr=log)
        wait_for(self._answers, START_S)

    def stop(self) -> None:
        """End at once; connections are cut."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_S)
            self._process = None

    def new_database(self) -> str:
        """The URL of an empty database."""
        self._num_databases += 1
        name = f"index{self._num_databases}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{name}"

    def _address(self, name: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"PostgreSQL did not start: {(self._folder / 'log').read_text()}")
        try:
            psycopg.connect(self._address("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def _account() -> pwd.struct_passwd | None:
    """Whom PostgreSQL runs as, where this process is root: it refuses to be root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return pwd.getpwnam("postgres" if "postgres" in names else "nobody")


def _become(account: pwd.struct_passwd) -> list[str]:
    ids = ["--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--clear-groups"]
    return ["setpriv", *ids, "--pdeathsig", "TERM", "--"]


def needed_binaries() -> Path:
    """Where PostgreSQL is; without it, tests are skipped, and fail where all of them are meant to run."""
    binaries = find_binaries()
    if binaries is None:
        lack = "PostgreSQL is not installed; apt-get install postgresql (.ci/run does)"
        if os.environ.get("CI") == "true":
            pytest.fail(lack)
        pytest.skip(lack)
    return binaries


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """A cluster that serves."""
    binaries = needed_binaries()
    folder = Path(tempfile.mkdtemp(prefix="xoron-postgresql-"))
    cluster = Cluster(binaries, folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)


@pytest.fixture
def index(request: pytest.FixtureRequest) -> str | None:
    """The URL of the index that servers get: null, a file in the home, unless a test asks for `postgresql`."""
    if getattr(request, "param", "sqlite") == "sqlite":  # an attribute only where a test is parametrized
        return None
    cluster: Cluster = request.getfixturevalue("postgresql")
    return cluster.new_database()
