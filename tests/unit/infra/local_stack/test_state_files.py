"""The state files of the stack keep their format, so that an upgrade sees a running stack."""

from pathlib import Path

import msgspec

from infra.local_stack.process_table import ProcessId
from infra.local_stack.state_files import ProcessTable, StackFiles, StartRequest

PROCESSES = ProcessTable(
    reaper=ProcessId(10, 1.5),
    supervisor=ProcessId(11, 2.5),
    session_leaders=[ProcessId(12, 3.5)],
    descendants=[ProcessId(13, 4.5)],
)
ON_DISK = {
    "guard": {"pid": 10, "started": 1.5},
    "supervisor": {"pid": 11, "started": 2.5},
    "leaders": [{"pid": 12, "started": 3.5}],
    "others": [{"pid": 13, "started": 4.5}],
}


def test_a_process_table_keeps_its_fields_on_disk(tmp_path: Path) -> None:
    files = StackFiles(tmp_path)
    files.write_processes(PROCESSES)

    content = (tmp_path / "stack" / "processes.json").read_bytes()
    assert msgspec.json.decode(content) == ON_DISK


def test_the_process_table_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    files = StackFiles(tmp_path)
    (tmp_path / "stack").mkdir()
    (tmp_path / "stack" / "processes.json").write_bytes(msgspec.json.encode(ON_DISK))

    assert files.processes() == PROCESSES
    assert files.processes().all()[-2:] == [ProcessId(11, 2.5), ProcessId(10, 1.5)]


def test_a_start_request_is_read_back(tmp_path: Path) -> None:
    request = StartRequest(ports={"kafka": 9092}, only=["kafka"])
    StackFiles(tmp_path).write_start_request(request)

    assert StackFiles(tmp_path).start_request() == request
    assert (tmp_path / "stack" / "boot.json").is_file()


def test_without_files_the_state_is_empty(tmp_path: Path) -> None:
    files = StackFiles(tmp_path)

    assert (files.status(), files.start_request()) == (None, None)
    assert files.processes().all() == []
