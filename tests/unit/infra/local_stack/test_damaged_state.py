"""State files that a power failure cut off, or another user's: a sentence, no traceback."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra import cli
from infra.local_stack import definition, secrets
from infra.local_stack.process_table import ProcessId
from infra.local_stack.state_files import (
    ProcessTable,
    ServiceStatus,
    StackFiles,
    StackStatus,
    StartRequest,
)
from infra.settings import Settings, StackSettings

COMMANDS = [
    ("status",),
    ("status", "--json"),
    ("settings",),
    ("logs",),
    ("logs", "kafka", "-n", "2"),
    ("up", "--only", "nothing"),
    ("down",),
    ("clean", "--yes"),
]
BACKFILL = ("backfill", "flight_delay", "--from", "2013-03-01", "--until", "2013-03-02")
FILES = [
    "endpoints.json",
    "stack/boot.json",
    "stack/processes.json",
    "stack/status.json",
    "secrets/airflow.json",
    "secrets/airflow_login.json",
    "secrets/mlflow_login.json",
]


def empty(file: Path) -> None:
    file.write_bytes(b"")


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def zeros(file: Path) -> None:
    """What some file systems leave of a file that was not on disk."""
    file.write_bytes(bytes(file.stat().st_size))


def garbage(file: Path) -> None:
    file.write_bytes(bytes(range(256)))


def of_another_kind(file: Path) -> None:
    file.write_bytes(b"[[1]]")


def unreadable(file: Path) -> None:
    """For root too, whom no mode keeps out."""
    file.unlink()
    file.mkdir()


DAMAGE = [empty, cut_off, zeros, garbage, of_another_kind, unreadable]


@pytest.fixture(autouse=True)
def _umask_of_this_process_stays() -> Iterator[None]:
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with every state file, as a stack leaves it that was not stopped."""
    monkeypatch.setenv("EVENTIDE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("EVENTIDE_AIRFLOW_URL", "http://127.0.0.1:9")  # nobody's
    files, gone = StackFiles(tmp_path / "state"), ProcessId(2**22 + 1, 5.0, "an earlier boot")
    ports = {request.name: request.default for request in definition.port_requests(StackSettings())}
    files.write_start_request(StartRequest(ports=ports, only=[]))
    files.write_processes(ProcessTable(reaper=gone, supervisor=gone, session_leaders=[gone]))
    service = ServiceStatus(
        name="kafka", state="healthy", pid=7, restarts=0, seconds=1.0, note="", address="here"
    )
    files.write_status(StackStatus(state="up", started_s=1.0, services=[service]))
    files.write_endpoints(definition.endpoints(StackSettings(), ports))
    for make in (secrets.airflow_secrets, secrets.airflow_login, secrets.mlflow_login):
        make(definition.secrets_folder(Settings()))
    files.logs.mkdir()
    files.log("kafka").write_text("one\ntwo\n")
    assert all((tmp_path / "state" / file).is_file() for file in FILES)
    return files.state


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs a command in this process; whatever is no exit of its own fails the test."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["eventide", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return int(ended.value.code or 0), output.out + output.err

    return run


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_state_file_ends_no_command_with_a_traceback(
    state: Path, run: Callable[..., tuple[int, str]], name: str, damage: Callable[[Path], None]
) -> None:
    for command in COMMANDS:
        if (state / name).is_file():
            damage(state / name)

        _, output = run(*command)

        if command[0] == "up":
            assert "no service is called 'nothing'" in output or "cannot be read" in output
        if "cannot be read" in output:
            assert damage is unreadable
            assert str(state / name) in output


def test_all_files_may_be_damaged_at_once(state: Path, run: Callable[..., tuple[int, str]]) -> None:
    for command in [BACKFILL, *COMMANDS]:
        for number, name in enumerate(FILES):
            if (state / name).exists():
                DAMAGE[number % 5](state / name)
        run(*command)


def test_a_damaged_file_is_taken_as_absent_and_that_is_said_once(
    state: Path, run: Callable[..., tuple[int, str]]
) -> None:
    empty(state / "stack" / "processes.json")

    code, output = run("status")

    assert code == 3
    assert "nothing runs" in output
    assert output.count(f"{state}/stack/processes.json is damaged and taken as absent") == 1


def test_a_damaged_login_is_made_anew(state: Path) -> None:
    folder = state / "secrets"
    before = secrets.mlflow_login(folder), secrets.airflow_login(folder)
    for name in ("mlflow_login.json", "airflow_login.json"):
        cut_off(folder / name)

    after = secrets.mlflow_login(folder), secrets.airflow_login(folder)

    assert {name for name, _ in after} == {"admin"}
    assert not {password for _, password in before} & {password for _, password in after}
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}


def a_folder_of_another_user(tmp_path: Path) -> Path:
    """As root any folder can be given away; anybody else finds one of root's."""
    if os.geteuid():
        return Path("/usr/lib")
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65_534, -1)
    return folder


@pytest.mark.parametrize("command", [("up",), *COMMANDS[:2], ("down",), ("clean", "--yes")])
def test_the_state_folder_of_another_user_is_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., tuple[int, str]],
    command: tuple[str, ...],
) -> None:
    folder = a_folder_of_another_user(tmp_path)
    monkeypatch.setenv("EVENTIDE_STATE_DIR", str(folder))

    code, output = run(*command)

    assert code == 1
    assert "belongs to another user" in output
    assert "EVENTIDE_STATE_DIR" in output
