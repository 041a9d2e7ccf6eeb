"""Users of this machine."""

import pwd


def user_name(uid: int) -> str:
    """The name of a user, or its number where the machine has no name for it, as in containers."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
