"""Which port each server gets."""

import socket
from collections.abc import Iterable, Mapping

import msgspec

from infra.local_stack.service import StackError

HOST = "127.0.0.1"


class PortRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A port that a server needs. `fixed` was set by the user; None leaves the choice to us."""

    name: str
    service: str
    """Which listens on it."""
    variable: str
    """The setting of `fixed`."""
    fixed: int | None
    default: int


def choose_ports(requests: Iterable[PortRequest], *, previous: Mapping[str, int]) -> dict[str, int]:
    """A free port for each request: the fixed one, else the previous, the default, or any.

    Raises:
        StackError: a fixed port is busy.
    """
    chosen: dict[str, int] = {}
    for request in requests:
        port = _choose(request, previous.get(request.name), taken=set(chosen.values()))
        chosen[request.name] = port
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


def _choose(request: PortRequest, previous: int | None, *, taken: set[int]) -> int:
    if request.fixed is not None:
        if request.fixed in taken or not is_free(request.fixed):
            raise StackError(
                f"port {request.fixed} for {request.name} is busy",
                hint=f"{request.variable} sets it: choose another port, or unset it for a free one",
            )
        return request.fixed
    for port in (previous, request.default):
        if port is not None and port not in taken and is_free(port):
            return port
    return any_port(taken)


def any_port(taken: set[int]) -> int:
    """A port that is free now, and none of those."""
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port
