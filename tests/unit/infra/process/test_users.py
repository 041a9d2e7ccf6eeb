"""Users have names, and containers have users without one."""

import os
import pwd

from infra.process.users import user_name

NOBODY_HAS_IT = 3_999_999_999


def test_a_user_is_named() -> None:
    assert user_name(os.geteuid()) == pwd.getpwuid(os.geteuid()).pw_name


def test_a_user_that_this_machine_does_not_know_is_its_number() -> None:
    assert user_name(NOBODY_HAS_IT) == str(NOBODY_HAS_IT)
