"""Tables at the width of a small terminal: every number and every name is whole."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

import infra.__main__ as stack_commands
import ml.__main__ as model_commands
from features.maintenance.accounting import RequestAccount, TopicAccount
from features.maintenance.audit import Audit, OnlineAccount
from features.presentation import audit as audit_page
from infra import settings_table
from infra.local_stack.state_files import ServiceStatus
from infra.settings import Settings
from infra.tables import numbers, print_table, prose, words
from ml.results import RunOutcome

BIG = 146_123_456_789
NAME = "a.topic.with_a_long_name_of_its_own"


def printed(show: Callable[[Console], None], width: int) -> str:
    page = io.StringIO()
    show(Console(file=page, width=width, highlight=False))
    return page.getvalue()


def an_audit() -> Audit:
    counts: dict[str, Any] = dict.fromkeys(
        ("sent", "stored", "dead_lettered", "waiting", "missing", "doubled", "resent"), BIG
    )
    asked: dict[str, Any] = dict.fromkeys(
        ("asked", "predicted", "stale", "rejected", "waiting", "unanswered", "answered_twice"), BIG
    )
    return Audit(
        topics=[TopicAccount(topic=NAME, **counts)] * 2,
        requests=[RequestAccount(topic=NAME, **asked)],
        online=OnlineAccount(waiting=BIG, values_checked=BIG, values_different=0),
    )


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_an_audit_cuts_no_number(width: int) -> None:
    page = printed(lambda console: audit_page.show(an_audit(), console), width)
    assert page.count(f"{BIG:,}") >= 7 * 3
    assert page.count(NAME) == 3
    assert "…" not in page


@pytest.mark.parametrize("width", [40, 80, 300])
def test_settings_are_whole(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = printed_by(stack_commands.settings, monkeypatch, width)
    for row in settings_table.rows(Settings()):
        assert row.variable in shown
        assert row.value in shown
    assert "…" not in shown


def test_services_are_whole_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    status = ServiceStatus(
        name="dag-processor",
        state="restarting",
        pid=4_194_304,
        restarts=1_000,
        seconds=None,
        address="http://127.0.0.1:65535/an/address",
        note="a reason of many words " * 8,
    )
    shown = printed_by(lambda: stack_commands._print_services([status]), monkeypatch, 80)
    for whole in ("dag-processor", "restarting", "4194304", "1000", status.address):
        assert whole in shown
    assert shown.split().count("reason") == 8


def test_the_metrics_of_a_run_are_whole_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("log_loss", "roc_auc", "pr_auc", "ece", "bias")
    outcome = RunOutcome(
        project="p",
        day="2013-01-01",
        decision="held",
        reasons=(),
        warnings=(),
        metrics={"a_candidate_with_a_long_name_of_its_own": dict.fromkeys(names, 12_345.6789)},
    )
    shown = printed_by(lambda: model_commands._describe_outcome(outcome), monkeypatch, 80)
    assert shown.count("12345.6789") == 5
    assert "a_candidate_with_a_long_name_of_its_own" in shown


@pytest.mark.parametrize("width", [10, 30, 80])
def test_texts_are_printed_as_they_are_and_sentences_keep_their_words(width: int) -> None:
    sentence = "every word of this sentence is there"
    columns = (*words("name"), *numbers("n"), prose("meaning"))
    page = printed(lambda c: print_table(c, columns, [("[a]b[/c]", "12,345", sentence)]), width)
    assert "[a]b[/c]" in page
    assert "12,345" in page
    assert " ".join(page.split()).endswith(sentence) or set(sentence.split()) <= set(page.split())


def printed_by(command: Callable[[], object], monkeypatch: pytest.MonkeyPatch, width: int) -> str:
    """What a command prints to a terminal of that width."""
    monkeypatch.setenv("COLUMNS", str(width))
    page = io.StringIO()
    monkeypatch.setattr("sys.stdout", page)
    command()
    return page.getvalue()
