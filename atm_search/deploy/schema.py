"""The JSON Schema of configuration files, for editors and for other programs.

`python -m atm_search.deploy.schema` writes it again; a test holds it equal to the classes.
"""

import json
from pathlib import Path
from typing import Any

from atm_search.deploy.configuration import SCHEMA_VERSION, Configuration

SCHEMA_FILE = Path(__file__).parent / "schema" / f"configuration-v{SCHEMA_VERSION}.json"
"""Part of the package."""


def json_schema() -> dict[str, Any]:
    """The schema as the classes give it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Configuration.model_json_schema(),
        "title": f"atm-search configuration, schema version {SCHEMA_VERSION}",
    }


def main() -> None:
    """Write the schema file."""
    SCHEMA_FILE.parent.mkdir(exist_ok=True)
    SCHEMA_FILE.write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
