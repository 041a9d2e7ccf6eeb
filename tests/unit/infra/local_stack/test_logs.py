"""Reading the logs of the services."""

from pathlib import Path

import pytest

from infra.local_stack.logs import read_logs, trim
from infra.local_stack.service import StackError
from infra.local_stack.state_files import StackFiles


@pytest.fixture
def files(tmp_path: Path) -> StackFiles:
    files = StackFiles(tmp_path)
    files.logs.mkdir()
    files.log("kafka").write_text("".join(f"line {n}\n" for n in range(100)))
    files.log("mlflow").write_text("hello\n")
    return files


def test_one_log_is_shown_as_it_is(files: StackFiles) -> None:
    shown = list(read_logs(files, "kafka", lines=2, follow=False))

    assert shown == ["line 98", "line 99"]


def test_all_logs_are_shown_with_their_names(files: StackFiles) -> None:
    shown = [line.split() for line in read_logs(files, None, lines=1, follow=False)]

    assert shown == [["kafka", "|", "line", "99"], ["mlflow", "|", "hello"]]


def test_following_goes_on_with_whole_lines_and_with_logs_that_come_later(
    files: StackFiles,
) -> None:
    shown = read_logs(files, None, lines=1, follow=True)
    assert [next(shown).split()[0] for _ in range(2)] == ["kafka", "mlflow"]

    files.log("serving").write_text("half a li")
    later = (line.split(" | ")[1] for line in shown)
    with files.log("serving").open("a") as log:
        log.write("ne\n")
    assert next(later) == "half a line"
    with files.log("kafka").open("a") as log:
        log.write("line 100\n")
    assert next(later) == "line 100"


def test_a_log_that_is_not_there_is_named_with_those_that_are(files: StackFiles) -> None:
    with pytest.raises(StackError, match="nosuch") as raised:
        list(read_logs(files, "nosuch", lines=1, follow=False))

    assert "kafka, mlflow" in str(raised.value.hint)


def test_a_log_that_grew_too_large_moves_aside_under_its_writer(files: StackFiles) -> None:
    with files.log("kafka").open("a") as writer:
        trim(files.logs, limit_bytes=100)
        writer.write("after\n")

    assert files.log("kafka").read_text() == "after\n"
    assert (files.logs / "kafka.log.1").read_text().startswith("line 0\n")
    assert files.log("mlflow").read_text() == "hello\n"
