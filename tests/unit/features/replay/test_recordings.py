"""A source is found under the name that its registry gives it, and a failure has a reason."""

from pathlib import Path

import pytest

from features.definitions.recordings import Source
from features.errors import DeclarationError
from features.replay.recordings import RecordingMissing, name_as_declared

SOURCE = Source(package="complete-journey", version="1.0", sha256="0" * 64, licence="MIT")


@pytest.mark.parametrize("name", ["complete_journey-1.0.tar.gz", "complete-journey-1.0.tar.gz"])
def test_an_archive_with_a_normalized_name_is_the_declared_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"content")
    (tmp_path / "requirements.txt").touch()
    name_as_declared(SOURCE, tmp_path)
    assert (tmp_path / SOURCE.file_name).read_bytes() == b"content"


@pytest.mark.parametrize(
    ("names", "reason"),
    [((), "pip brought no file"), (("a.tar.gz", "b.zip"), r"pip brought a.tar.gz, b.zip")],
)
def test_without_one_archive_the_reason_is_said(
    tmp_path: Path, names: tuple[str, ...], reason: str
) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(RecordingMissing, match=reason):
        name_as_declared(SOURCE, tmp_path)


@pytest.mark.parametrize(
    ("package", "sha256", "mistake"),
    [("a b", "0" * 64, "package 'a b' is none of a registry"), ("a", "12", "has 64 digits")],
)
def test_a_source_that_no_registry_has_is_refused(package: str, sha256: str, mistake: str) -> None:
    with pytest.raises(DeclarationError, match=mistake):
        Source(package=package, version="1.0", sha256=sha256, licence="MIT")
