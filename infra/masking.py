"""Texts without their secrets: what goes to a screen, a log, a page or an error passes here."""

import re

MASK = "***"

_WORDS = r"passw(?:or)?d|passphrase|pwd|secret|token|credential|jaas|oauthbearer|signature"
_KEY = r"(?:api|access|account|private|sas)[._-]?key|key[._-]pem|\bsig\b"
# Greedy up to the last @: a password may hold a slash, a colon or an @ that nobody escaped, and
# the scheme before it may be mistyped.
_USER_AND_PASSWORD = re.compile(r"((?:[\w+.-]+:+/{1,3})?[^\s:/@'\"]*):(?!/)([^\s'\"]+)@")
_TOKEN = re.compile(r"(://)[^\s:/@'\"]+@")
_PROPERTY = re.compile(
    rf"""([\w.-]*(?:{_WORDS}|{_KEY})[\w.-]*["']?\s*(?:=|:)\s*)("[^"]*"|'[^']*'|[^\s,;&'"}}]+)""",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """`text` with `***` for each password of a URL and each value of a property with a secret.

    A property is a name like `sasl.password`, `AWS_WORDS_ACCESS_KEY` or `?token`, and a value
    behind = or a colon. Rather too much is masked than too little.
    """
    if "@" in text:
        text = _USER_AND_PASSWORD.sub(rf"\1:{MASK}@", text)
        text = _TOKEN.sub(rf"\1{MASK}@", text)
    return _PROPERTY.sub(_without_value, text)


def _without_value(match: re.Match[str]) -> str:
    value = match[2]
    quote = value[0] if value[0] in "\"'" else ""
    return f"{match[1]}{quote}{MASK}{quote}"


class Address(str):
    """A URL or a folder that may hold a password: `repr` does not show it, `str` is the value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(masked(str(self)))
