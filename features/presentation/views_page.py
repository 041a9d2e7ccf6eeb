"""The reference page of all views, generated from the declarations.

`eventide features list --page` prints it; a test holds `docs/reference/views.md` to it.
"""

from collections.abc import Iterator, Sequence

from features.definitions import Domain, FeatureService, View
from features.presentation.views import check_lines, counted_events, feature_meanings

_INTRODUCTION = """\
# Views

Generated from the declarations by `eventide features list --page`; do not edit. The exact meaning
of windows, ties and nulls is in [features.md](../explanation/features.md).
"""


def views_page(domains: Sequence[Domain]) -> str:
    """The whole page, in Markdown."""
    parts = [_INTRODUCTION]
    for domain in domains:
        parts.append(f"## {domain.name}\n")
        parts += ["\n".join(_service(service)) for service in domain.services]
        parts += ["\n".join(_view(view)) for view in domain.views]
    return "\n".join(parts).rstrip() + "\n"


def _service(service: FeatureService) -> Iterator[str]:
    own = ", ".join(f"`{c.name}`" for c in service.request_columns)
    views = ", ".join(f"[{v.name}](#{v.name})" for v in service.views)
    count = len(service.categories) + len(service.numbers)
    yield (
        f"**Service `{service.name}`**: {count} features, of the request {own}, and of the views"
        f" {views}."
    )
    if service.refused:
        fields = ", ".join(f"`{f}`" for f in service.refused)
        yield f"Refused, because they leak the label: {fields}."
    yield ""


def _view(view: View) -> Iterator[str]:
    keys = ", ".join(f"`{k}`" for k in view.entity.keys)
    sources = ", ".join(f"`{e.name}`" for e in view.sources)
    yield f"### {view.name}\n"
    yield f"About {keys}, from {sources}: {counted_events(view)}."
    yield from (f"{line[0].upper()}{line[1:]}." for line in check_lines(view))
    yield "\n| feature | meaning |\n| --- | --- |"
    yield from (f"| `{name}` | {meaning} |" for name, meaning in feature_meanings(view))
    yield ""
