"""Where a store is: addresses as people write them, and as they may be shown."""

import re

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from atm_search.errors import StoreError

DEFAULT_STORAGE = "sqlite:///atm-search.db"

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
    return url if driver and scheme != "mariadb" else url.set(drivername=SCHEMES[scheme])


def full(url: URL) -> str:
    """The address with its password: for connecting, never for showing."""
    return url.render_as_string(hide_password=False)


def shown(storage: str | URL) -> str:
    """The address with its password masked, for messages and logs."""
    text = storage if isinstance(storage, str) else full(storage)
    text = re.sub(r"(://[^:@/]*:).*@", r"\1***@", text)
    return re.sub(r"([?&](?:password|passwd)=)[^&]*", r"\1***", text)
