"""HTTP to our own servers. An address of this machine is never asked through a proxy."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import msgspec

from infra.errors import EventideError

if TYPE_CHECKING:
    import httpx

Login = tuple[str, str]
"""A user name and a password."""

Answer = TypeVar("Answer")

_SCHEMES = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy")
PROXY_NAMES = tuple(form for name in _SCHEMES for form in (name, name.upper()))
NO_PROXY_NAMES = ("no_proxy", "NO_PROXY")
_LOCAL = ("127.0.0.1", "localhost", "::1")


class ProxyUnusable(EventideError):
    """The environment names a proxy that our HTTP client cannot use."""

    hint = "unset the variable, or name an http:// proxy; NO_PROXY does not help"


class UnexpectedAnswer(EventideError):
    """The content of an answer is not in the form that the server gives it in."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason[:200])


def host_of(url: str) -> str:
    """The host that a URL names, in lower case; empty when it names none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def is_http_url(url: str) -> bool:
    """Whether a client can ask it: http or https, a host that can have an address, and a port."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:  # of an IPv6 address, a port or a name
        return False
    plain = url.isprintable() and not any(letter.isspace() for letter in url)
    return plain and parts.scheme in ("http", "https") and bool(host) and port != 0


def is_local(url: str) -> bool:
    """Whether the URL is one of this machine, by its name or its loopback address."""
    host = host_of(url)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def http_client(url: str, *, timeout_s: float, login: Login | None = None) -> httpx.Client:
    """A client of the server at `url`, with its login; it connects at the first call.

    Raises:
        ProxyUnusable: the server is elsewhere, behind a proxy of a kind that needs a package more.
    """
    import httpx

    try:
        return httpx.Client(
            base_url=url, timeout=timeout_s, auth=login, trust_env=not is_local(url)
        )
    except (ImportError, ValueError) as error:
        raise ProxyUnusable(f"the proxy for {host_of(url)} cannot be used") from error


def content_of(response: httpx.Response, kind: type[Answer]) -> Answer:
    """The JSON of an answer as a record; fields that the record lacks are ignored.

    Raises:
        UnexpectedAnswer: it is of another form. Something else may answer in the server's place.
    """
    try:
        # Numbers may come as text and the other way round: releases of the servers differ.
        return msgspec.convert(msgspec.json.decode(response.content), type=kind, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnexpectedAnswer(str(error)) from error


def local_without_proxy(env: Mapping[str, str]) -> dict[str, str]:
    """The environment in which every client library asks this machine's addresses directly."""
    listed = next((env[name] for name in NO_PROXY_NAMES if env.get(name)), "")
    names = [name.strip() for name in listed.split(",") if name.strip()]
    value = ",".join([*names, *(name for name in _LOCAL if name not in names)])
    return {**env, **dict.fromkeys(NO_PROXY_NAMES, value)}
