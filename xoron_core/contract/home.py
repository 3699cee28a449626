"""The home folder: where runs live, who may serve it."""

import errno
import fcntl
import os
import shutil
from pathlib import Path

from xoron_core.contract.errors import RunDirectoryError
from xoron_core.contract.run_directory import RUN_ID, RunDirectory


class Home:
    """`HOME/`: `runs/`, `server.lock`, and the index that can be rebuilt."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.runs = self.path / "runs"
        self.trash = self.path / "trash"
        self.database = self.path / "index.sqlite3"

    def prepare(self) -> None:
        """Create the folders.

        Raises: RunDirectoryError when the home cannot be written, saying what to do.
        """
        try:
            for folder in (self.path, self.runs, self.trash):
                folder.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise RunDirectoryError(
                f"home {self.path} cannot be written ({error.strerror}); set XORON_HOME or --home to a folder that can"
            ) from error

    def run_directories(self) -> list[RunDirectory]:
        """Every run there is, oldest id first; one that may not be looked into counts, and reading it will say why."""
        if not self.runs.exists():
            return []
        return [RunDirectory(path) for path in sorted(self.runs.iterdir()) if _may_be_run(path)]

    def run(self, run_id: str) -> RunDirectory:
        """The run of that id.

        Raises: RunDirectoryError when there is none.
        """
        run = RunDirectory(self.runs / run_id)
        if not RUN_ID.match(run_id) or not run.run_file.exists():
            raise RunDirectoryError(f"there is no run {run_id!r}")
        return run

    def free_gib(self) -> float:
        """Free space on the disk that holds the runs, in GiB."""
        return shutil.disk_usage(self.path).free / 2**30


def _may_be_run(path: Path) -> bool:
    try:
        return (path / "run.json").exists()
    except OSError:
        return True


class ServerLock:
    """`HOME/server.lock`, held while a server serves the home; a second one is kept off.

    Raises: RunDirectoryError naming the holder when the home is served already.
    """

    def __init__(self, home: Home) -> None:
        self.path = home.path / "server.lock"
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = self.path.read_text(encoding="ascii").strip() or "unknown"
            os.close(self._fd)
            if error.errno not in {errno.EAGAIN, errno.EACCES}:
                raise
            raise RunDirectoryError(
                f"home {home.path} is served already, by process {holder}; stop that server or choose another --home"
            ) from error
        os.ftruncate(self._fd, 0)
        os.write(self._fd, f"{os.getpid()}\n".encode("ascii"))

    def release(self) -> None:
        """Let another server in."""
        os.close(self._fd)
