"""Addresses of stores: what people write, what is shown, where SQLite is refused."""

from pathlib import Path

import pytest

from atm_search.errors import StoreError
from atm_search.search import sqlite
from atm_search.search.address import PASSWORD, PASSWORD_FILE, full, parse, shown
from atm_search.search.sqlite import network_file_system, sqlite_file


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("atm.db", "sqlite:///atm.db"),
        ("/data/some where.db", "sqlite:////data/some where.db"),
        ("sqlite:///atm.db", "sqlite:///atm.db"),
        ("postgres://me:pw@host/db", "postgresql+psycopg://me:pw@host/db"),
        ("postgresql://host:5433/db", "postgresql+psycopg://host:5433/db"),
        ("postgresql+psycopg2://host/db", "postgresql+psycopg2://host/db"),
        ("mysql://root@host/db", "mysql+pymysql://root@host/db"),
        ("mariadb://root@host/db", "mysql+pymysql://root@host/db"),
    ],
)
def test_addresses_get_the_driver_that_we_ship(written: str, meant: str) -> None:
    assert full(parse(written)) == meant


@pytest.mark.parametrize(
    ("written", "masked"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:sec:r%40et@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:sec@ret@host/db", "postgresql://me:***@host/db"),
        (
            "postgresql://host/db?user=me&password=secret",
            "postgresql://host/db?user=me&password=***",
        ),
        ("nonsense://me:secret@host", "nonsense://me:***@host"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("sqlite:///atm.db", "sqlite:///atm.db"),
    ],
)
def test_passwords_are_masked(written: str, masked: str) -> None:
    assert shown(written) == masked


def test_a_parsed_address_is_masked_too() -> None:
    assert shown(parse("postgresql://me:secret@host/db")) == "postgresql+psycopg://me:***@host/db"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("oracle://me:secret@host/db", r"'oracle://me:\*\*\*@host/db': no store of kind 'oracle'"),
        ("postgresql://me:secret@host:port/db", "is not the address of a store"),
        ("://", "is not the address of a store"),
    ],
)
def test_other_addresses_are_refused_without_the_password(written: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as refusal:
        parse(written)
    assert "secret" not in str(refusal.value)
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize("written", ["sqlite://", "sqlite:///:memory:"])
def test_a_store_in_memory_is_refused(written: str) -> None:
    with pytest.raises(StoreError, match="in memory"):
        sqlite_file(parse(written))


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/atm.db", None),
        ("/mnt/share/atm.db", "nfs4"),
        ("/mnt/share/scratch/atm.db", None),
        ("/mnt/two words/atm.db", "cifs"),
        ("/mnt/sharename/atm.db", None),
    ],
)
def test_network_file_systems_are_found_by_the_deepest_mount(
    path: str, kind: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda / ext4 rw 0 0\n"
        "server:/x /mnt/share nfs4 rw 0 0\n"
        "tmpfs /mnt/share/scratch tmpfs rw 0 0\n"
        "//server/y /mnt/two\\040words cifs rw 0 0\n"
    )
    monkeypatch.setattr(sqlite, "MOUNTS", mounts)
    assert network_file_system(Path(path)) == kind


def test_where_mounts_cannot_be_listed_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "MOUNTS", Path("/no/such/file"))
    assert network_file_system(Path("/mnt/share/atm.db")) is None


def test_the_password_comes_from_the_environment_or_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (PASSWORD, PASSWORD_FILE):
        monkeypatch.delenv(name, raising=False)
    assert parse("postgresql://me@host/db").password is None
    file = tmp_path / "password"
    file.write_text("from a file\n")
    monkeypatch.setenv(PASSWORD_FILE, str(file))
    assert parse("postgresql://me@host/db").password == "from a file"
    monkeypatch.setenv(PASSWORD, "s3cr:t@/")
    url = parse("mariadb://me@host/db")
    assert url.password == "s3cr:t@/"
    assert "s3cr" not in shown(url)
    assert parse("postgresql://me:own@host/db").password == "own"
    assert parse("postgresql://host/db").password is None
    assert parse("atm.db").password is None


def test_a_password_file_that_cannot_be_read_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(PASSWORD, raising=False)
    monkeypatch.setenv(PASSWORD_FILE, str(tmp_path / "none"))
    with pytest.raises(StoreError, match=r"ATM_SEARCH_STORAGE_PASSWORD_FILE=.* cannot be read"):
        parse("postgresql://me@host/db")
