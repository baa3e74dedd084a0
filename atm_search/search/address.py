"""Where a store is: addresses as people write them, and as they may be shown."""

import os
import re
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from atm_search.errors import StoreError

DEFAULT_STORAGE = "sqlite:///atm-search.db"

PASSWORD, PASSWORD_FILE = "ATM_SEARCH_STORAGE_PASSWORD", "ATM_SEARCH_STORAGE_PASSWORD_FILE"
"""Environment variables: the password of an address that names a user and none, or its file."""

SCHEMES = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    # Optuna takes its fast path only for an engine named mysql, which MariaDB understands.
    "mariadb": "mysql+pymysql",
}
"""What may stand before ://, and the SQLAlchemy dialect and driver that it stands for."""


def parse(storage: str) -> URL:
    """The address as SQLAlchemy has it; a bare path is a SQLite file.

    Raises:
        StoreError: it is no address, or of a kind of store that is not supported.
    """
    if "://" not in storage:
        return URL.create("sqlite", database=storage)
    try:
        url = make_url(storage)
    except (ArgumentError, ValueError):
        raise StoreError(
            f"'{shown(storage)}' is not the address of a store: give a file, or a URL such as "
            "postgresql://user@host/database."
        ) from None
    scheme, _, driver = url.drivername.partition("+")
    if scheme not in SCHEMES:
        raise StoreError(
            f"'{shown(storage)}': no store of kind '{scheme}'. Known: {', '.join(SCHEMES)}."
        )
    url = _with_password(url)
    return url if driver and scheme != "mariadb" else url.set(drivername=SCHEMES[scheme])


def _with_password(url: URL) -> URL:
    """The address with the password of the environment, if it needs one and has none."""
    if url.password is not None or url.username is None:
        return url
    secret, file = os.environ.get(PASSWORD), os.environ.get(PASSWORD_FILE)
    if secret is None and file:
        try:
            secret = Path(file).read_text().removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"{PASSWORD_FILE}={file} cannot be read: {error}") from None
    return url if secret is None else url.set(password=secret)


def full(url: URL) -> str:
    """The address with its password: for connecting, never for showing."""
    return url.render_as_string(hide_password=False)


def shown(storage: str | URL) -> str:
    """The address with its password masked, for messages and logs."""
    text = storage if isinstance(storage, str) else full(storage)
    text = re.sub(r"(://[^:@/]*:).*@", r"\1***@", text)
    return re.sub(r"([?&](?:password|passwd)=)[^&]*", r"\1***", text)
