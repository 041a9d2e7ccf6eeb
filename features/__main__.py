"""Assembles the commands of `features`, in the order of the help page."""

import typer

from features.commands import declarations, events, stores, training_sets
from features.commands.replay import replay

app = typer.Typer()
app.command()(stores.ingest)
app.command()(stores.audit)
topics = typer.Typer()
app.add_typer(topics, name="topics", invoke_without_command=True, callback=events.topics)
topics.command()(events.accept_gap)
app.command()(events.recording)
app.command()(events.schemas)
app.command()(replay)

declared = typer.Typer(
    no_args_is_help=True, help="The declared features, and the stores that hold them."
)
app.add_typer(declared, name="features")
declared.command("list")(declarations.list_features)
declared.command()(declarations.describe)
declared.command()(declarations.check)
declared.command()(training_sets.export)
declared.command()(stores.rebuild)
declared.command()(stores.maintain)
declared.command()(stores.pins)
