"""Folders that only their owner may enter, and links that somebody planted."""

import os
import stat
from pathlib import Path

import pytest

from infra.folder_names import LONGEST_BYTES, unusable, unusable_for_tables
from infra.local_stack.folders import PASSABLE, close_to_others, own_folder
from infra.local_stack.preflight import check_state_folder, unusable_for_airflow
from infra.local_stack.service import StackError
from infra.local_stack.services.postgres import plan_postgres


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_is_private_and_one_of_ours_becomes_so(tmp_path: Path) -> None:
    for folder in (tmp_path / "new" / "inner", tmp_path / "old"):
        (tmp_path / "old").mkdir(mode=0o777, exist_ok=True)
        own_folder(folder)
        assert mode_of(folder) == 0o700


@pytest.mark.parametrize("target", ["theirs", "missing"])
def test_a_planted_link_is_refused_and_what_it_points_to_stays_as_it_was(
    tmp_path: Path, target: str
) -> None:
    """As root: the owner and the mode of a folder like /etc would change."""
    (tmp_path / "theirs").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(target)

    with pytest.raises(StackError, match="link or a file"):
        own_folder(tmp_path / "link", uid=os.geteuid())

    assert mode_of(tmp_path / "theirs") == 0o755
    assert not (tmp_path / "missing").exists()


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="link or a file"):
        own_folder(tmp_path / "file")


def test_links_in_a_state_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir(mode=0o755)
    state = tmp_path / "state"
    state.mkdir()
    (state / "offline").symlink_to(tmp_path / "outside")
    (state / "logs").mkdir(mode=0o777)
    (state / "endpoints.json").touch(mode=0o666)

    close_to_others(state)

    assert mode_of(tmp_path / "outside") == 0o755
    assert mode_of(state / "logs") == 0o700
    assert mode_of(state / "endpoints.json") == 0o600
    assert mode_of(state) == (PASSABLE if os.geteuid() == 0 else 0o700)


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "R&D",
        "c++",
        "100%",
        "#1",
        "a,b",
        "a;b",
        "a=b",
        "a:b",
        "'\"",
        "Müller",
        "a$b",
        "a\\b",
        "ä" * 100,
        " ",
    ],
)
def test_most_names_will_do(tmp_path: Path, name: str) -> None:
    state = tmp_path / name
    check_state_folder(state, {})
    assert list((state / "stack").iterdir()) == []
    socket = f"{plan_postgres(state / 'postgres').socket_folder}/.s.PGSQL.5432"
    assert len(os.fsencode(socket)) < 104
    assert not set(socket) & set(" ,&+%#;=:'\"\\$")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/a\nb", "control character"),
        ("/a\x7f", "control character"),
        ("/a\udcff", "not UTF-8"),
        ("/" + "ä" * (LONGEST_BYTES // 2), f"{LONGEST_BYTES} are possible"),
    ],
)
def test_a_folder_in_which_no_server_could_run_is_refused_with_the_reason(
    path: str, why: str
) -> None:
    assert why in unusable(path)
    assert why in unusable_for_tables(path)


@pytest.mark.parametrize("name", ["$HOME", "a${HOME}b"])
def test_a_folder_in_which_airflow_would_see_a_variable_is_refused(name: str) -> None:
    assert "$HOME" in unusable_for_airflow(f"/{name}", {"HOME": "/root"})
    assert not unusable_for_airflow(f"/{name}", {})
    with pytest.raises(StackError, match="Airflow would put the variable"):
        check_state_folder(Path(f"/{name}"), {"HOME": "/root"})


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="cannot be used: Not a directory"):
        check_state_folder(tmp_path / "file" / "state", {})
    with pytest.raises(StackError, match="cannot be written"):
        check_state_folder(Path("/proc/self/state"), {})
