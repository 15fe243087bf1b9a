"""The lease table: order of reuse, one owner per address, and what survives."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dhcp.leases import Lease, LeaseError, LeaseTaken, SqliteLeases
from dhcp.subnets import Pool
from tests.dhcp.conversation import NOW, subnet

A, B, C = "52:54:00:00:00:0a", "52:54:00:00:00:0b", "52:54:00:00:00:0c"


@pytest.fixture
def leases(tmp_path: Path) -> Iterator[SqliteLeases]:
    store = SqliteLeases(tmp_path / "leases.sqlite")
    yield store
    store.close()


def pool(count: int = 3) -> Pool:
    return subnet(ranges=(("10.20.0.10", f"10.20.0.{9 + count}"),)).pool


def take(store: SqliteLeases, mac: str, where: Pool, now: float = NOW, seconds: float = 100) -> str | None:
    """DISCOVER and REQUEST as the responder does them."""
    known = store.lease_of(mac, where.subnet)
    offer = store.offer(mac, where, (known.address,) if known else (), now, 30)
    if offer is None:
        return None
    lease = Lease(
        address=offer.address, subnet=where.subnet, mac=mac, state="bound", starts=now, expires=now + seconds
    )
    store.bind(lease, now)
    store.commit()
    return offer.address


def test_never_used_addresses_come_first_then_the_longest_unused(leases: SqliteLeases) -> None:
    where = pool(3)
    assert [take(leases, mac, where, NOW + i) for i, mac in enumerate((A, B, C))] == [
        "10.20.0.10",
        "10.20.0.11",
        "10.20.0.12",
    ]
    assert take(leases, "d", where, NOW + 50) is None  # exhausted
    assert leases.release(B, "10.20.0.11", NOW + 60)
    assert leases.release(A, "10.20.0.10", NOW + 70)
    assert take(leases, "d", where, NOW + 80) == "10.20.0.11"  # given back first
    assert take(leases, "e", where, NOW + 81) == "10.20.0.10"
    assert take(leases, "f", where, NOW + 5000) == "10.20.0.12"  # expired first of all that are left


def test_a_machine_keeps_its_address_over_expiry_and_restart(leases: SqliteLeases, tmp_path: Path) -> None:
    where = pool()
    take(leases, A, where)
    take(leases, B, where)
    leases.close()
    again = SqliteLeases(tmp_path / "leases.sqlite")
    assert take(again, B, where, NOW + 10_000) == "10.20.0.11"
    assert again.owner_of("10.20.0.10") == again.lease_of(A)
    assert {lease.mac for lease in again.all()} == {A, B}
    again.close()
    leases.__init__(tmp_path / "leases.sqlite")  # type: ignore[misc]  # for the fixture's close


def test_an_offer_keeps_the_address_for_a_while_only(leases: SqliteLeases) -> None:
    where = pool(1)
    assert leases.offer(A, where, (), NOW, 30) is not None
    assert leases.offer(B, where, (), NOW + 1, 30) is None
    offer = leases.offer(B, where, (), NOW + 31, 30)
    assert offer is not None
    assert offer.address == "10.20.0.10"
    assert leases.lease_of(A) is None


def test_a_second_offer_elsewhere_gives_the_first_back(leases: SqliteLeases) -> None:
    where = pool(2)
    leases.offer(A, where, (), NOW, 30)
    leases.offer(A, where, ("10.20.0.11",), NOW, 30)
    offer = leases.offer(B, where, (), NOW, 30)
    assert offer is not None
    assert offer.address == "10.20.0.10"


def test_an_address_left_for_another_is_free_again(leases: SqliteLeases) -> None:
    where = pool(2)
    take(leases, A, where)
    lease = Lease(
        address="10.20.0.11", subnet=where.subnet, mac=A, state="bound", starts=NOW, expires=NOW + 100
    )
    leases.bind(lease, NOW)
    leases.commit()
    assert take(leases, B, where) == "10.20.0.10"
    assert take(leases, C, where) is None


def test_an_offer_never_shortens_a_running_lease(leases: SqliteLeases) -> None:
    where = pool()
    take(leases, A, where, seconds=1000)
    offer = leases.offer(A, where, ("10.20.0.10",), NOW + 1, 30)
    assert offer is not None
    assert offer.expires == NOW + 1000


def test_a_declined_address_rests(leases: SqliteLeases, tmp_path: Path) -> None:
    where = pool(1)
    take(leases, A, where)
    assert not leases.decline(B, "10.20.0.10", NOW, 600)  # not its own
    assert leases.decline(A, "10.20.0.10", NOW, 600)
    leases.commit()
    assert leases.lease_of(A) is None
    assert take(leases, A, where, NOW + 599) is None
    leases.close()
    leases.__init__(tmp_path / "leases.sqlite")  # type: ignore[misc]
    assert take(leases, A, where, NOW + 599) is None  # also after a restart
    assert take(leases, A, where, NOW + 600) == "10.20.0.10"


def test_binding_another_machines_address_is_refused(leases: SqliteLeases) -> None:
    where = pool(1)
    take(leases, A, where)
    theft = Lease(
        address="10.20.0.10", subnet=where.subnet, mac=B, state="bound", starts=NOW, expires=NOW + 9
    )
    with pytest.raises(LeaseTaken, match=A):
        leases.bind(theft, NOW)


def test_the_database_refuses_two_owners_by_itself(leases: SqliteLeases, tmp_path: Path) -> None:
    """Another writer (a restored backup, an administrator) gave the address away behind our back."""
    where = pool(2)
    behind = sqlite3.connect(tmp_path / "leases.sqlite")
    with behind:
        behind.execute(
            "INSERT INTO lease (address, subnet, mac, state, starts, expires) VALUES (?, ?, ?, ?, ?, ?)",
            ("10.20.0.10", where.subnet, B, "bound", NOW, NOW + 100),
        )
    behind.close()
    with pytest.raises(LeaseError, match="another owner"):
        take(leases, A, where)
    # The table in memory went back to what the disk says: B is known, A gets the next address.
    assert leases.owner_of("10.20.0.10") == leases.lease_of(B)
    assert take(leases, A, where) == "10.20.0.11"


def test_of_many_bindings_the_refused_one_is_named_and_none_is_kept(
    leases: SqliteLeases, tmp_path: Path
) -> None:
    where = pool(100)
    behind = sqlite3.connect(tmp_path / "leases.sqlite")
    with behind:
        behind.execute(
            "INSERT INTO lease (address, subnet, mac, state, starts, expires) VALUES (?, ?, ?, ?, ?, ?)",
            ("10.20.0.87", where.subnet, A, "bound", NOW, NOW + 100),
        )
    for number, address in enumerate(where):
        mac = f"52:54:00:00:01:{number:02x}"
        leases.bind(
            Lease(address=address, subnet=where.subnet, mac=mac, state="bound", starts=NOW, expires=NOW + 9),
            NOW,
        )
    with pytest.raises(LeaseError, match=r"^10\.20\.0\.87 has another owner"):
        leases.commit()
    assert behind.execute("SELECT mac FROM lease").fetchall() == [(A,)]
    behind.close()


def test_every_one_of_many_bindings_is_kept(leases: SqliteLeases, tmp_path: Path) -> None:
    where = pool(101)  # statements of 64, 32, 4 and 1 rows
    for number in range(101):
        known = leases.offer(f"52:54:00:00:01:{number:02x}", where, (), NOW, 30)
        assert known is not None
        leases.bind(replace(known, state="bound", host_name=f"pc-{number}"), NOW)
    leases.commit()
    kept = sqlite3.connect(tmp_path / "leases.sqlite")
    rows = kept.execute("SELECT address, mac, host_name FROM lease ORDER BY mac").fetchall()
    kept.close()
    assert rows == [
        (f"10.20.0.{10 + number}", f"52:54:00:00:01:{number:02x}", f"pc-{number}") for number in range(101)
    ]


def test_a_failed_commit_promises_nothing(leases: SqliteLeases, tmp_path: Path) -> None:
    where = pool(2)
    take(leases, A, where)
    pages = leases._database.execute("PRAGMA page_count").fetchone()[0]
    leases._database.execute(f"PRAGMA max_page_count = {pages}")  # a full disk
    leases._database.execute("PRAGMA busy_timeout = 10")
    big = Lease(
        address="10.20.0.11", subnet=where.subnet, mac=B, state="bound", starts=NOW, expires=NOW + 9,
        host_name="x" * 100_000,
    )  # fmt: skip
    leases.bind(big, NOW)
    with pytest.raises(LeaseError, match="full"):
        leases.commit()
    assert [lease.mac for lease in leases.all()] == [A]
    leases.commit()  # nothing is left over


def test_one_process_at_a_time(leases: SqliteLeases, tmp_path: Path) -> None:
    with pytest.raises(LeaseError, match="another process"):
        SqliteLeases(tmp_path / "leases.sqlite")


def test_files_that_cannot_be_our_table_are_refused_with_what_to_do(tmp_path: Path) -> None:
    rubbish, foreign, newer, odd = (tmp_path / name for name in ("rubbish", "foreign", "newer", "odd"))
    rubbish.write_bytes(b"not a database at all" * 100)
    made(foreign, "CREATE TABLE songs (title TEXT)")
    made(newer, "CREATE TABLE lease (address TEXT)", "PRAGMA user_version = 99")
    SqliteLeases(odd).close()
    made(
        odd,
        "INSERT INTO lease (address, subnet, state, starts, expires) VALUES ('010.1', 's', 'bound', 1, 2)",
    )
    for path, why in (
        (rubbish, "not a database"),
        (foreign, "another program's database"),
        (newer, "newer version .* schema is 99"),
        (odd, "a lease that is none .'010.1'"),
    ):
        with pytest.raises(LeaseError, match=f"{path}.*{why}.*mv {path} {path}.bad"):
            SqliteLeases(path)
    with pytest.raises(LeaseError, match=r"cannot be made: No such file.*mend the folder"):
        SqliteLeases(tmp_path / "nowhere" / "leases.sqlite")


def test_a_damaged_page_is_noticed_at_start_not_in_the_middle_of_a_storm(
    leases: SqliteLeases, tmp_path: Path
) -> None:
    where = pool(200)
    for number in range(200):
        take(leases, f"52:54:00:00:01:{number:02x}", where)
    leases.close()
    path = tmp_path / "leases.sqlite"
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 3] = b"\xa5" * 4096
    path.write_bytes(content)
    with pytest.raises(LeaseError, match=rf"{path}.*mv {path}"):
        SqliteLeases(path)
    path.unlink()
    leases.__init__(path)  # type: ignore[misc]  # for the fixture's close


def made(path: Path, *statements: str) -> None:
    database = sqlite3.connect(path)
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()


def test_a_file_of_the_first_version_is_upgraded_in_place(tmp_path: Path) -> None:
    path = tmp_path / "leases.sqlite"
    made(
        path,
        "CREATE TABLE lease (address TEXT PRIMARY KEY, subnet TEXT NOT NULL, mac TEXT, state TEXT NOT NULL"
        " CHECK (state IN ('bound', 'released', 'declined')), starts REAL NOT NULL, expires REAL NOT NULL,"
        " host_name TEXT NOT NULL DEFAULT '', client_id TEXT NOT NULL DEFAULT '', UNIQUE (subnet, mac))"
        " WITHOUT ROWID",
        f"INSERT INTO lease VALUES ('10.20.0.10', '10.20.0.0/24', '{A}', 'bound', {NOW}, {NOW}, 'pc', '')",
    )
    store = SqliteLeases(path)
    (kept,) = store.all()
    assert (kept.mac, kept.host_name, kept.agent) == (A, "pc", "")
    relayed = Lease(
        address="10.20.0.11",
        subnet=kept.subnet,
        mac=B,
        state="bound",
        starts=NOW,
        expires=NOW,
        agent="0104ff",
    )
    store.bind(relayed, NOW)
    store.close()
    again = SqliteLeases(path)  # up to date now
    assert [lease.agent for lease in again.select()] == ["", "0104ff"]
    again.close()


def test_pages_select_leases_without_the_disk(leases: SqliteLeases) -> None:
    where = pool()
    take(leases, A, where, NOW, seconds=10)
    take(leases, B, where, NOW, seconds=100)
    leases.release(B, "10.20.0.11", NOW + 5)
    assert [lease.mac for lease in leases.select()] == [A, B]
    assert [lease.mac for lease in leases.select(state="released")] == [B]
    assert [lease.mac for lease in leases.select(now=NOW + 6)] == [A]
    assert [lease.mac for lease in leases.select(text="00:0A")] == [A]
    assert leases.select(subnet="10.99.0.0/24") == []


def test_a_machine_moved_by_an_offer_leaves_one_row_in_the_file(leases: SqliteLeases, tmp_path: Path) -> None:
    """Bound to one address, offered another, bound to that: the file must forget the first."""
    where = pool(3)
    take(leases, A, where)
    leases.offer(A, where, ("10.20.0.12",), NOW + 1, 30)
    moved = Lease(
        address="10.20.0.12", subnet=where.subnet, mac=A, state="bound", starts=NOW + 2, expires=NOW + 99
    )
    leases.bind(moved, NOW + 2)
    leases.commit()
    with sqlite3.connect(tmp_path / "leases.sqlite") as other:
        assert other.execute("SELECT address, mac FROM lease").fetchall() == [("10.20.0.12", A)]


def test_leases_of_one_machine_in_two_subnets(leases: SqliteLeases) -> None:
    network = IPv4Network("10.30.0.0/24")
    here, there = pool(), subnet(network=network, ranges=(("10.30.0.10", "10.30.0.20"),)).pool
    take(leases, A, here, NOW)
    take(leases, A, there, NOW + 5)
    newest = leases.lease_of(A)
    assert newest is not None
    assert newest.subnet == there.subnet
    assert leases.lease_of(A, here.subnet) is not None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "offer", "release", "decline", "restart"]),
        st.sampled_from([A, B, C, "d"]),
        st.sampled_from(["10.20.0.10", "10.20.0.11", "10.20.0.12"]),
        st.integers(0, 60),
    ),
    max_size=30,
)


@given(STEPS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_nobody_shares_an_address(
    tmp_path: Path, steps: list[tuple[str, str, str, int]]
) -> None:
    path = tmp_path / "random.sqlite"
    for leftover in tmp_path.glob("random.sqlite*"):
        leftover.unlink()
    where, now = pool(3), NOW
    store = SqliteLeases(path)
    promised: dict[str, tuple[str, float]] = {}  # address -> (mac, until): what an ACK told a machine
    try:
        for what, mac, address, wait in steps:
            now += wait
            if what == "take":
                got = take(store, mac, where, now, seconds=50)
                if got:
                    other = promised.get(got)
                    assert other is None or other[0] == mac or other[1] <= now
                    promised = {key: value for key, value in promised.items() if value[0] != mac}
                    promised[got] = (mac, now + 50)
            elif what == "offer":
                offer = store.offer(mac, where, (address,), now, 30)
                holder = promised.get(offer.address) if offer else None
                assert holder is None or holder[0] == mac or holder[1] <= now
            elif what in ("release", "decline"):
                done = (
                    store.release(mac, address, now)
                    if what == "release"
                    else store.decline(mac, address, now, 40)
                )
                if done:
                    promised.pop(address, None)
                store.commit()
            else:
                store.close()
                store = SqliteLeases(path)
            for known, (owner, until) in promised.items():
                if until > now:
                    held = store.owner_of(known)
                    assert held is not None
                    assert held.mac == owner
    finally:
        store.close()


def test_a_subnet_that_was_made_larger_and_smaller_again_mixes_nobody_up(leases: SqliteLeases) -> None:
    small = pool(3)
    large = subnet(network=IPv4Network("10.20.0.0/23"), ranges=(("10.20.0.10", "10.20.0.12"),)).pool

    def hold(mac: str, address: str, where: Pool, now: float) -> None:
        leases.bind(
            Lease(
                address=address, subnet=where.subnet, mac=mac, state="bound", starts=now, expires=now + 100
            ),
            now,
        )
        leases.commit()

    hold(A, "10.20.0.10", small, NOW)
    hold(A, "10.20.0.10", large, NOW + 50)  # it renews after the change ...
    hold(A, "10.20.0.11", large, NOW + 60)  # ... and moves, to a new reservation say
    hold(B, "10.20.0.10", large, NOW + 200)
    hold(A, "10.20.0.12", small, NOW + 210)  # the change is taken back
    held = leases.owner_of("10.20.0.10")
    assert held is not None
    assert held.mac == B


def test_a_subnet_that_was_resized_loses_no_address(leases: SqliteLeases) -> None:
    """Leases of its old name, whose ends change after its pool was walked: refused, given back, pardoned."""
    small = pool(3)
    assert [take(leases, mac, small) for mac in (A, B, C)] == ["10.20.0.10", "10.20.0.11", "10.20.0.12"]
    large = subnet(network=IPv4Network("10.20.0.0/23"), ranges=(("10.20.0.10", "10.20.0.12"),)).pool
    assert take(leases, "d", large, NOW + 10) is None
    assert leases.decline(A, "10.20.0.10", NOW + 20, 600)
    assert leases.release(B, "10.20.0.11", NOW + 20)
    assert leases.decline(C, "10.20.0.12", NOW + 30, 600)
    assert take(leases, "d", large, NOW + 101) == "10.20.0.11"
    assert leases.pardon(large, NOW + 120, 60)
    assert take(leases, "e", large, NOW + 120) == "10.20.0.10"
    assert take(leases, "f", large, NOW + 630) == "10.20.0.11"
    assert take(leases, "g", large, NOW + 630) == "10.20.0.10"
    assert take(leases, "h", large, NOW + 630) == "10.20.0.12"
