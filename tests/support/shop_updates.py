"""Updates with one sale of each of a hundred shops, and a check that all of them were applied."""

from features.stores.ports import OnlineStore
from tests.support.data.sales import Sale, sale
from tests.support.stores import count

SHOPS = ["a", *(str(i) for i in range(1, 100))]


def one_of_each_shop() -> list[Sale]:
    """One sale of each shop: 100 sales."""
    return [sale(str(i), shop=shop) for i, shop in enumerate(SHOPS)]


def assert_consistent(store: OnlineStore) -> int:
    """Assert that each shop has one sale per hundred positions; return the sum of the positions."""
    stored = sum(store.positions().values())
    counts = {shop: count(store, shop) * 100 for shop in SHOPS}
    assert counts == dict.fromkeys(SHOPS, stored)
    return stored
