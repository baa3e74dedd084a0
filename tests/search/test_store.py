"""Opening stores of every kind, and refusing what cannot be used."""

import importlib.util
import os
import sqlite3
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import optuna
import pytest

from atm_search.errors import StoreError
from atm_search.search import address, sqlite, store
from atm_search.search.store import open_store, store_errors

SECRET = "a-password"
CREATE = """
import os, sys
from atm_search.search.store import open_store
children = []
for _ in range(4):
    children.append(os.fork())
    if not children[-1]:
        open_store(sys.argv[1], create=True)
        os._exit(0)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
"""


def open_and_close(storage: str, *, create: bool) -> None:
    opened = open_store(storage, create=create)
    opened.remove_session()
    opened.engine.dispose()


def test_a_store_is_created_once_and_opened_again(store_url: str) -> None:
    with pytest.raises(StoreError, match=r"No store at .*: start a search first"):
        open_store(store_url, create=False)
    open_and_close(store_url, create=True)
    open_and_close(store_url, create=True)
    opened = open_store(store_url, create=False)
    assert opened.get_all_studies() == []
    opened.engine.dispose()


def test_a_store_that_optuna_made_is_used_as_it_is(store_url: str) -> None:
    theirs = optuna.storages.RDBStorage(address.full(address.parse(store_url)))
    optuna.create_study(storage=theirs, study_name="theirs")
    theirs.engine.dispose()
    opened = open_store(store_url, create=False)
    assert [study.study_name for study in opened.get_all_studies()] == ["theirs"]
    opened.engine.dispose()


def test_sqlite_gets_a_write_ahead_log_and_a_patient_lock(tmp_path: Path) -> None:
    opened = open_store(str(tmp_path / "atm.db"), create=True)
    with opened.engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout")
        }
    opened.engine.dispose()
    assert pragmas == {"journal_mode": "wal", "synchronous": 1, "busy_timeout": 30_000}


def test_reading_leaves_the_journal_of_a_foreign_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "theirs.db"
    optuna.storages.RDBStorage(f"sqlite:///{file}").engine.dispose()
    before = file.read_bytes()
    open_and_close(str(file), create=False)
    assert file.read_bytes() == before


def test_four_processes_may_create_a_store_at_once(store_url: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(store.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", CREATE, store_url], env=environment, check=True)
    open_and_close(store_url, create=False)


def test_missing_files_and_folders_are_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No store at"):
        open_store(str(tmp_path / "none.db"), create=False)
    with pytest.raises(StoreError, match=f"No folder {tmp_path}/none for the store"):
        open_store(str(tmp_path / "none" / "atm.db"), create=True)
    with pytest.raises(StoreError, match="is a folder"):
        open_store(str(tmp_path), create=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_refused_and_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database, whatever its name\n" * 50)
    before = file.read_bytes()
    with pytest.raises(StoreError, match=r"notes\.txt cannot be used: file is not a database"):
        open_store(str(file), create=True)
    assert file.read_bytes() == before


def test_a_database_of_another_program_is_refused_and_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "bookmarks.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(StoreError, match="is a database of another program"):
        open_store(str(file), create=True)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("version", "todo"),
    [("v2.6.0.a", "optuna storage upgrade --storage"), ("v9.0.0.a", "pip install -U optuna")],
)
def test_a_schema_of_another_version_is_refused_and_unchanged(
    version: str, todo: str, tmp_path: Path
) -> None:
    file = tmp_path / "atm.db"
    open_and_close(str(file), create=True)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
    connection.close()
    before = file.read_bytes()
    with pytest.raises(StoreError, match=f"another version of Optuna: .*{todo}"):
        open_store(str(file), create=True)
    assert file.read_bytes() == before


@pytest.mark.parametrize("read_only", ["file", "folder"])
def test_a_read_only_store_is_refused(
    read_only: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "atm.db"
    open_and_close(str(file), create=True)
    locked = file if read_only == "file" else tmp_path
    access = os.access  # root may write everything, so the answer is made up

    def denied(path: Path, mode: int) -> bool:
        return access(path, mode) and not (path == locked and mode == os.W_OK)

    monkeypatch.setattr(os, "access", denied)
    with pytest.raises(StoreError, match=r"atm\.db is read-only"):
        open_store(str(file), create=True)
    open_and_close(str(file), create=False)


def test_sqlite_on_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("server:/x / nfs rw 0 0\n")
    monkeypatch.setattr(sqlite, "MOUNTS", mounts)
    with pytest.raises(StoreError, match=r"network file system \(nfs\)"):
        open_store(str(tmp_path / "atm.db"), create=True)


@pytest.mark.parametrize(("scheme", "extra"), [("postgresql", "postgres"), ("mysql", "mysql")])
def test_a_missing_driver_names_the_extra(
    scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for driver in ("psycopg", "pymysql"):
        monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(StoreError, match=rf"pip install 'atm-search\[{extra}\]'"):
        open_store(f"{scheme}://me:secret@host/db", create=True)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_an_unreachable_server_is_refused_without_the_password(scheme: str) -> None:
    if importlib.util.find_spec({"postgresql": "psycopg", "mysql": "pymysql"}[scheme]) is None:
        pytest.skip(f"no driver for {scheme}")
    with pytest.raises(
        StoreError, match=r"://me:\*\*\*@127.0.0.1:9/db cannot be used: .*"
    ) as refusal:
        open_store(f"{scheme}://me:{SECRET}@127.0.0.1:9/db", create=True)
    assert SECRET not in "".join(traceback.format_exception(refusal.value))


@pytest.mark.parametrize("store_url", ["postgresql", "mysql"], indirect=True)
def test_a_missing_database_is_refused(store_url: str) -> None:
    with pytest.raises(StoreError, match=r"cannot be used: .*atm_nowhere"):
        open_store(f"{store_url.rpartition('/')[0]}/atm_nowhere", create=True)


@pytest.mark.parametrize("store_url", ["mysql"], indirect=True)  # PostgreSQL trusts us here
def test_a_wrong_password_is_refused_and_not_shown(store_url: str) -> None:
    wrong = store_url.replace("root@", f"root:{SECRET}@")
    with pytest.raises(StoreError, match="Access denied") as refusal:
        open_store(wrong, create=True)
    assert SECRET not in "".join(traceback.format_exception(refusal.value))


def test_a_store_known_to_be_right_is_tried_again_for_a_while(tmp_path: Path) -> None:
    file = tmp_path / "atm.db"
    making = threading.Timer(0.3, lambda: open_and_close(str(file), create=True))
    making.start()
    opened = open_store(str(file), create=False, wait_s=20)
    assert opened.get_all_studies() == []
    opened.remove_session()
    opened.engine.dispose()
    making.join()


def test_what_a_database_reports_during_work_becomes_a_store_error(tmp_path: Path) -> None:
    opened = open_store(str(tmp_path / "atm.db"), create=True)
    with (
        pytest.raises(StoreError, match="no such table: nowhere"),
        store_errors(opened),
        opened.engine.connect() as connection,
    ):
        connection.exec_driver_sql("SELECT * FROM nowhere")
    opened.engine.dispose()
