"""A process says why it does no work, and each reason once."""

from infra.process.readiness import Readiness


def test_a_process_is_starting_until_it_is_cleared() -> None:
    readiness = Readiness()
    assert readiness.reason == "starting"

    readiness.clear()
    assert readiness.reason == ""


def test_a_reason_is_new_once() -> None:
    readiness = Readiness()

    assert readiness.block("no broker")
    assert not readiness.block("no broker")
    assert readiness.block("no features")
    assert readiness.reason == "no features"
