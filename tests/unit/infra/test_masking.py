"""Passwords, keys and tokens are not shown, however they are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.masking import Address, masked

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"redis://:{SECRET}@host:6379/0", "redis://:***@host:6379/0"),
        (f"rediss+cluster://app:se:{SECRET}@host", "rediss+cluster://app:***@host"),
        (f"redis://:with/{SECRET}@host/0", "redis://:***@host/0"),
        (f"redis://:with@{SECRET}@host/0", "redis://:***@host/0"),
        (f"redis://:with?{SECRET}#1@host/0", "redis://:***@host/0"),
        (f"redis:/:{SECRET}@host", "redis:/:***@host"),
        (f"redis//:{SECRET}@host", "redis//:***@host"),
        (f"reids:://u:{SECRET}@host", "reids:://u:***@host"),
        (f"https://{SECRET}@mlflow.example/x", "https://***@mlflow.example/x"),
        (f"redis://host:6379/0?password={SECRET}&db=1", "redis://host:6379/0?password=***&db=1"),
        (f"https://x/y?access_token={SECRET}", "https://x/y?access_token=***"),
        (f"az://c/p?sig={SECRET}&se=1", "az://c/p?sig=***&se=1"),
        (f"sasl.password={SECRET},group.id=a", "sasl.password=***,group.id=a"),
        (f"{{'sasl.password': '{SECRET}', 'a': 'b'}}", "{'sasl.password': '***', 'a': 'b'}"),
        (f'{{"ssl.key.password":"{SECRET}"}}', '{"ssl.key.password":"***"}'),
        (f"AWS_SECRET_ACCESS_KEY={SECRET}", "AWS_SECRET_ACCESS_KEY=***"),
        (f'sasl.jaas.config="x password={SECRET};"', 'sasl.jaas.config="***"'),
        (f"host=h password={SECRET} user=u", "host=h password=*** user=u"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("/var/lib/eventide/online", "/var/lib/eventide/online"),
        ("127.0.0.1:9092,127.0.0.1:9093", "127.0.0.1:9092,127.0.0.1:9093"),
        ("2026-11-27T10:00:00Z topic flights.departed-3: offset 5", None),
        ("the key is not the field 'flight_id'", None),
    ],
)
def test_a_secret_is_not_shown_and_the_rest_is(text: str, shown: str | None) -> None:
    assert masked(text) == (text if shown is None else shown)
    assert SECRET not in masked(text)


PASSWORDS = st.text(
    st.characters(codec="ascii", categories=["L", "N", "P", "S"], exclude_characters="'\""),
    min_size=4,
).map(lambda text: f"q{text}q")


@given(PASSWORDS, st.sampled_from(["redis", "postgresql+psycopg2", "https", "reids"]))
def test_no_password_of_a_url_is_shown(password: str, scheme: str) -> None:
    text = f"no answer from {scheme}://user:{password}@host:1/0: refused"
    assert masked(text) == f"no answer from {scheme}://user:***@host:1/0: refused"


def test_an_address_is_its_text_and_shows_no_password() -> None:
    address = Address("redis://:hunter2@host")
    assert address == "redis://:hunter2@host"
    assert f"{address}" == "redis://:hunter2@host"
    assert repr(address) == "'redis://:***@host'"
