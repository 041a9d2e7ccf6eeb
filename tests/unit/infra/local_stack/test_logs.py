"""Reading the logs of the services."""

from pathlib import Path

import pytest

from infra.local_stack.logs import last_lines, read_logs, trim
from infra.local_stack.service import StackError
from infra.local_stack.state_files import StackFiles


@pytest.fixture
def files(tmp_path: Path) -> StackFiles:
    files = StackFiles(tmp_path)
    files.logs.mkdir()
    files.log("kafka").write_text("".join(f"line {n}\n" for n in range(100)))
    files.log("mlflow").write_text("hello\n")
    return files


def test_a_single_log_is_shown_unchanged(files: StackFiles) -> None:
    lines = list(read_logs(files, "kafka", lines=2, follow=False))

    assert lines == ["line 98", "line 99"]


def test_all_logs_are_shown_with_their_names(files: StackFiles) -> None:
    words = [line.split() for line in read_logs(files, None, lines=1, follow=False)]

    assert words == [["kafka", "|", "line", "99"], ["mlflow", "|", "hello"]]


def test_following_shows_complete_lines_and_new_logs(
    files: StackFiles,
) -> None:
    lines = read_logs(files, None, lines=1, follow=True)
    assert [next(lines).split()[0] for _ in range(2)] == ["kafka", "mlflow"]

    files.log("serving").write_text("half a li")
    texts = (line.split(" | ")[1] for line in lines)
    with files.log("serving").open("a") as log:
        log.write("ne\n")
    assert next(texts) == "half a line"
    with files.log("kafka").open("a") as log:
        log.write("line 100\n")
    assert next(texts) == "line 100"


def test_a_missing_log_is_an_error_that_lists_the_existing_logs(files: StackFiles) -> None:
    with pytest.raises(StackError, match="nosuch") as raised:
        list(read_logs(files, "nosuch", lines=1, follow=False))

    assert "kafka, mlflow" in str(raised.value.hint)


def test_a_log_that_is_too_large_is_rotated_while_it_is_written(files: StackFiles) -> None:
    with files.log("kafka").open("a") as writer:
        trim(files.logs, limit_bytes=100)
        writer.write("after\n")

    assert files.log("kafka").read_text() == "after\n"
    assert (files.logs / "kafka.log.1").read_text().startswith("line 0\n")
    assert files.log("mlflow").read_text() == "hello\n"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]52;c;cm0gLXJm\x1b\\\\text", "\\text"),
        ("\x1b]8;;http://evil.example\x1b\\link", "link"),
        ("\x1bP+q544e\x1b\\text", "text"),
        ("\x1bctext", "text"),
        ("a\x1b[2J\x1b[Hb", "ab"),
        ("\x9b31mtext", "text"),
        ("be\x07ll, del\x7f, \x9d", "be\ufffdll, del\ufffd, \ufffd"),
        ("\u202etxet", "\ufffdtxet"),
        ("tab\tand ümlaut €", "tab\tand ümlaut €"),
        ("unfinished \x1b[", "unfinished "),
    ],
)
def test_what_a_terminal_would_obey_is_not_shown(
    files: StackFiles, written: str, shown: str
) -> None:
    files.log("ingest").write_text(written + "\n")

    assert list(read_logs(files, "ingest", lines=1, follow=False)) == [shown]
    assert last_lines(files, "ingest", 1) == [shown]
