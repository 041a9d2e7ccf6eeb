"""The columns and functions of views, run on made-up events."""

from collections.abc import Iterator

from features.catalog_check.batches import Found, batches_of, found_in
from features.catalog_check.formulas import Formula
from features.catalog_check.functions import function_mistakes
from features.definitions import CalendarView, FeatureView, PythonView, View


def view_mistakes(view: View) -> Iterator[Found]:
    """What is wrong with the formulas that a view runs on events."""
    if isinstance(view, PythonView):
        yield from function_mistakes(view)
    elif isinstance(view, FeatureView | CalendarView):
        batches = batches_of(view.source) if view.columns else []
        for column in view.columns:
            formula = Formula(
                who=f"view {view.name}: column {column.name!r}",
                compute=column.compute,
                gives="numbers",
                reads=column.reads,
            )
            yield from found_in(column, formula, batches)
