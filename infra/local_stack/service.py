"""What the supervisor knows of a server: how to start it, when it is healthy, how it ends."""

import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from infra.errors import EventideError


class StackError(EventideError):
    """The local stack cannot do what a command wants."""


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One process of the stack. A `once` service is done when it exits with 0."""

    name: str
    command: tuple[str, ...]
    healthy: Callable[[float], bool] = lambda _: True
    """Checks the server itself, given for how many seconds its process has run: what a former
    process left behind does not count. Blocks for seconds at most. An OSError means "not yet"."""
    after: tuple[str, ...] = ()
    """Services that must be healthy before this one starts, and end after it."""
    prepare: Callable[[], None] = lambda: None
    """Creates what the command needs, before each start. Safe to repeat."""
    is_done: Callable[[], bool] = lambda: False
    """For a `once` service: whether it has nothing to do, so that it need not start."""
    env: Mapping[str, str] = {}
    """Variables of its own."""
    inherits: tuple[str, ...] = ()
    """Names and patterns of the operator's variables that it gets, beside those that all get."""
    cwd: Path | None = None
    uid: int | None = None
    """Run as this user; None: as ourselves."""
    once: bool = False
    stop_signal: signal.Signals = signal.SIGTERM
    stop_limit_s: float = 20.0
    """After it the whole process group is killed."""
    address: str = ""
    """Where people and other programs find it."""


def with_dependencies(services: Iterable[Service], names: Iterable[str]) -> list[Service]:
    """The named services and all that they need, in the order given.

    Raises:
        StackError: no such service.
    """
    known = {service.name: service for service in services}
    wanted: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in known:
            raise StackError(f"no service is called {name!r}", hint="there are " + ", ".join(known))
        if name not in wanted:
            wanted.add(name)
            todo.extend(known[name].after)
    return [service for service in known.values() if service.name in wanted]
