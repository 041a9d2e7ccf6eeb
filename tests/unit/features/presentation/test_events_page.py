"""The events page is generated from the declarations."""

from pathlib import Path

import msgspec

from features.catalog import domains
from features.contracts.predictions import Outcome
from features.presentation.events_page import events_page

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "events.md"


def test_the_page_in_the_repository_is_current() -> None:
    assert PAGE.read_text() == events_page(domains()), (
        "`eventide schemas --page > docs/reference/events.md` brings it up to date"
    )


def test_every_field_of_every_record_is_on_the_page() -> None:
    page = events_page(domains())
    records: list[type[msgspec.Struct]] = [Outcome]
    for record in records + [e.record for d in domains() for e in d.events]:
        for field in record.__struct_fields__:
            assert f"| `{field}` |" in page


def test_every_link_of_the_page_leads_to_a_file() -> None:
    for part in events_page(domains()).split("](")[1:]:
        assert (PAGE.parent / part.split(")")[0]).is_file()


def test_a_comment_in_a_declaration_is_the_note_of_its_own_field() -> None:
    page = events_page(domains())
    assert "| minutes | negative: early |" in page
    assert "| `event_id` | string | yes | 1 to 100 characters |  |  |" in page
