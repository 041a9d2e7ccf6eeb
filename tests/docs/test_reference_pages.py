"""The pages that are generated from the code are current."""

from pathlib import Path

from tests.docs.pages import ROOT
from tests.docs.reference_pages import reference_pages


def test_the_pages_in_the_repository_are_current() -> None:
    stale = [page.name for page, text in reference_pages().items() if page.read_text() != text]
    assert stale == [], "`python -m tests.docs.reference_pages` brings them up to date"


def test_they_name_no_folder_of_this_machine() -> None:
    here = (str(ROOT), str(Path.home()))
    texts = reference_pages().values()
    assert [text for text in texts if any(folder in text for folder in here)] == []
