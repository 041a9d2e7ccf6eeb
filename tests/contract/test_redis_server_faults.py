"""The online store in Redis on failing servers: killed, hanging, full, misconfigured."""

import shutil
import signal
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from features.errors import OffsetConflict, StoreDamaged, StoreUnavailable
from features.stores.redis import evictions
from features.stores.redis.store import RedisOnlineStore
from tests.support.servers import valkey, valkey_cluster
from tests.support.shop_updates import assert_consistent, one_of_each_shop
from tests.support.stores import count, update
from tests.support.tls import tls_before

pytestmark = pytest.mark.servers


class TestServerFaults:
    """Each test has servers of its own, because it damages them."""

    def test_a_killed_server_restarts_with_all_data(self, tmp_path: Path) -> None:
        with valkey(tmp_path) as server:
            store = RedisOnlineStore(server.url)
            store.apply(update(*one_of_each_shop(), schemas={"shop_sales": 1}))
            server.kill()
            with pytest.raises(StoreUnavailable, match="failed"):
                store.positions()
            with pytest.raises(StoreUnavailable):
                store.apply(update(*one_of_each_shop(), start=100))
            server.start()
            assert store.schema_ids() == {"shop_sales": 1}
            store.apply(update(*one_of_each_shop(), start=100))
            assert assert_consistent(store) == 200

    def test_a_write_to_a_hanging_server_times_out_and_is_not_applied_twice(
        self, tmp_path: Path
    ) -> None:
        """The server executes what was sent before the time-out when it continues."""
        with valkey(tmp_path) as server:
            store = RedisOnlineStore(server.url)
            store.apply(update(*one_of_each_shop()))
            server.signal(signal.SIGSTOP)
            with pytest.raises(StoreUnavailable):
                store.apply(update(*one_of_each_shop(), start=100))
            server.signal(signal.SIGCONT)
            reached = assert_consistent(store)
            assert reached in (100, 200)
            store.apply(update(*one_of_each_shop(), start=reached))
            assert assert_consistent(store) == reached + 100

    def test_a_server_restored_from_an_earlier_backup_is_an_earlier_store(
        self, tmp_path: Path
    ) -> None:
        """As after a failover to a replica without the last writes: the writer goes back too."""
        with valkey(tmp_path) as server:
            store = RedisOnlineStore(server.url)
            store.apply(update(*one_of_each_shop()))
            shutil.copytree(server.data, tmp_path / "earlier")
            store.apply(update(*one_of_each_shop(), start=100))
            server.kill()
            shutil.rmtree(server.data)
            shutil.move(tmp_path / "earlier", server.data)
            server.start()
            with pytest.raises(OffsetConflict, match="the position 100"):
                store.apply(update(*one_of_each_shop(), start=200))
            assert assert_consistent(store) == 100
            store.apply(update(*one_of_each_shop(), start=100))
            assert assert_consistent(store) == 200

    def test_a_decided_update_waits_for_an_unreachable_master(self, tmp_path: Path) -> None:
        with valkey_cluster(tmp_path) as cluster:
            store = RedisOnlineStore(cluster.url)
            store.apply(update(*one_of_each_shop()))
            cluster.masters[2].kill()
            with pytest.raises(StoreUnavailable):
                store.apply(update(*one_of_each_shop(), start=100))
            with pytest.raises(StoreUnavailable):
                store.positions()
            cluster.masters[2].start()
            cluster.wait_until_whole()
            reached = assert_consistent(store)
            store.apply(update(*one_of_each_shop(), start=reached))
            assert assert_consistent(store) == reached + 100

    def test_a_master_that_has_lost_confirmed_writes_is_noticed(self, tmp_path: Path) -> None:
        with valkey_cluster(tmp_path) as cluster:
            store = RedisOnlineStore(cluster.url)
            store.apply(update(*one_of_each_shop()))
            cluster.masters[2].empty()
            assert store.positions() == {}
            with pytest.raises(OffsetConflict):
                store.apply(update(*one_of_each_shop()))
            with pytest.raises(StoreUnavailable, match="lost") as caught:
                store.apply(update(*one_of_each_shop(), start=100))
            assert "rebuild" in (caught.value.hint or "")
            with pytest.raises(StoreUnavailable, match="lost"):
                store.positions()
            store.clear()
            store.apply(update(*one_of_each_shop()))
            assert assert_consistent(store) == 100

    def test_a_server_that_drops_values_is_refused(self, tmp_path: Path) -> None:
        options = ("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru")
        with valkey(tmp_path, *options) as server:
            with pytest.raises(StoreUnavailable, match="allkeys-lru"):
                RedisOnlineStore(server.url).positions()
            assert RedisOnlineStore(server.url, readonly=True).positions() == {}

    def test_a_server_that_begins_to_drop_values_is_noticed_by_writer_and_reader(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(evictions, "CHECK_EVERY_S", 0.0)
        with valkey(tmp_path) as server, server.client() as client:
            store, reader = (
                RedisOnlineStore(server.url),
                RedisOnlineStore(server.url, readonly=True),
            )
            store.apply(update(*one_of_each_shop()))
            assert count(reader, "s1") == count(store, "s1")
            client.config_set("maxmemory-policy", "allkeys-lru")
            client.config_set("maxmemory", "100")
            client.set("another", "x" * 100_000) if client.dbsize() else None
            for used in (store.positions, lambda: count(reader, "s1")):
                with pytest.raises(StoreUnavailable, match="allkeys-lru"):
                    used()
            # Set back, but values are gone: that shows too, until the content is written again.
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")
            for use in (
                lambda: store.apply(update(*one_of_each_shop(), start=100)),
                RedisOnlineStore(server.url).positions,
                lambda: count(reader, "s1"),
            ):
                with pytest.raises(StoreDamaged, match="has evicted"):
                    use()
            store.clear()
            store.apply(update(*one_of_each_shop()))
            assert assert_consistent(store) == 100
            assert count(reader, "s1") == count(store, "s1")

    def test_a_full_server_applies_no_part_of_an_update(self, tmp_path: Path) -> None:
        with valkey(tmp_path) as server:
            store = RedisOnlineStore(server.url)
            store.apply(update(*one_of_each_shop()))
            with server.client() as client:
                client.config_set("maxmemory", "1mb")
                with pytest.raises(StoreUnavailable, match="maxmemory"):
                    store.apply(update(*one_of_each_shop(), start=100))
                client.config_set("maxmemory", "0")
            assert assert_consistent(store) == 100

    def test_a_server_without_persistence_is_logged(self, tmp_path: Path) -> None:
        with valkey(tmp_path) as server:
            with server.client() as client:
                client.config_set("appendonly", "no")
            with capture_logs() as logs:
                RedisOnlineStore(server.url).positions()
            assert [line["event"] for line in logs] == ["online_store_not_durable"]

    def test_a_server_that_refuses_info_commands_is_still_used(self, tmp_path: Path) -> None:
        with valkey(tmp_path) as server:
            with server.client() as client:
                client.acl_setuser(
                    "app", True, passwords=["+pw"], keys="*", commands=["+@all", "-@dangerous"]
                )
            store = RedisOnlineStore(server.url.replace("//", "//app:pw@"))
            store.apply(update(*one_of_each_shop()))
            assert assert_consistent(store) == 100

    def test_the_password_is_required_and_never_shown(self, tmp_path: Path) -> None:
        with valkey(tmp_path, "--requirepass", "right") as server:
            for password in ("", ":wrong-secret@"):
                with pytest.raises(StoreUnavailable) as caught:
                    RedisOnlineStore(server.url.replace("//", f"//{password}")).positions()
                assert "secret" not in f"{caught.value} {caught.value.hint}"
            assert RedisOnlineStore(server.url.replace("//", "//:right@")).positions() == {}

    def test_tls_connections_verify_the_certificate(self, tmp_path: Path) -> None:
        with (
            valkey(tmp_path, "--requirepass", "right") as server,
            tls_before(server.port, tmp_path) as (port, authority),
        ):
            url = f"rediss://:right@localhost:{port}/0"
            with pytest.raises(StoreUnavailable, match="certificate"):
                RedisOnlineStore(url).positions()
            store = RedisOnlineStore(f"{url}?ssl_ca_certs={authority}")
            store.apply(update(*one_of_each_shop()))
            assert assert_consistent(store) == 100
