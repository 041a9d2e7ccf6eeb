"""Declarations are found by their module and looked up by their name."""

import pytest

import ml.projects
from infra.discovery import by_name, declared_in
from infra.errors import EventideError


def test_every_module_of_a_package_is_a_declaration_and_they_are_sorted_by_name() -> None:
    names = [d.name for d in declared_in(ml.projects, "PROJECT")]

    assert {"flight_delay", "repeat_purchase"} <= set(names)
    assert names == sorted(names)


def test_a_module_without_a_declaration_is_an_error() -> None:
    with pytest.raises(AttributeError, match="MODEL"):
        declared_in(ml.projects, "MODEL")


def test_an_unknown_name_is_an_error_that_lists_the_known_ones() -> None:
    projects = ml.projects.projects()

    with pytest.raises(EventideError, match="no project 'nope'") as caught:
        by_name(projects, "nope", kind="project", error=EventideError)

    assert "flight_delay" in str(caught.value.hint)
