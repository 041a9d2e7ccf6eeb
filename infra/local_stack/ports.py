"""Which port each server gets."""

import socket
from collections.abc import Iterable, Mapping

import msgspec

from infra.local_stack.service import StackError

HOST = "127.0.0.1"


class PortWish(msgspec.Struct, frozen=True, kw_only=True):
    """A port that a server needs. `asked` was set by the user; None leaves the choice to us."""

    name: str
    service: str
    """Which listens on it."""
    variable: str
    asked: int | None
    usual: int


def choose_ports(wishes: Iterable[PortWish], *, before: Mapping[str, int]) -> dict[str, int]:
    """A free port for each wish: the one asked for, else that of last time, the usual, or any.

    Raises:
        StackError: a port was asked for and is busy.
    """
    chosen: dict[str, int] = {}
    for wish in wishes:
        chosen[wish.name] = _choose(wish, before.get(wish.name), taken=set(chosen.values()))
    return chosen


def is_free(port: int) -> bool:
    """Whether nobody listens on the port here. One of a server that just ended is free."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        if probe.connect_ex((HOST, port)) == 0:
            return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _choose(wish: PortWish, before: int | None, *, taken: set[int]) -> int:
    if wish.asked is not None:
        if wish.asked in taken or not is_free(wish.asked):
            raise StackError(
                f"port {wish.asked} for {wish.name} is busy",
                hint=f"{wish.variable} asks for it: set another, or unset it to take a free one",
            )
        return wish.asked
    for port in (before, wish.usual):
        if port is not None and port not in taken and is_free(port):
            return port
    return _any_port(taken)


def _any_port(taken: set[int]) -> int:
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port
