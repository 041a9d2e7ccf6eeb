"""Readiness has the reason why a process does no work, and reports each reason once."""

from infra.process.readiness import Readiness


def test_a_process_is_starting_until_it_is_cleared() -> None:
    readiness = Readiness()
    assert readiness.reason == "starting"

    readiness.clear()
    assert readiness.reason == ""


def test_a_repeated_reason_is_not_new() -> None:
    readiness = Readiness()

    assert readiness.block("no broker")
    assert not readiness.block("no broker")
    assert readiness.block("no features")
    assert readiness.reason == "no features"
