"""docker-compose.yml, as far as it can be checked without Docker: its shape and its commands."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from atm_search.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]


def test_the_database_is_healthy_before_anything_uses_it() -> None:
    assert SERVICES["postgres"]["healthcheck"]["test"]
    for name, service in SERVICES.items():
        if name != "postgres":
            assert service["depends_on"]["postgres"]["condition"] == "service_healthy"


@pytest.mark.parametrize("name", ["search", "worker", "dashboard"])
def test_a_service_runs_a_command_that_exists(name: str) -> None:
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", SERVICES[name]["command"])
    command, *words = shlex.split(text)
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    context = commands[command].make_context(command, words)  # raises for what does not parse
    assert context.params


def test_passwords_come_from_the_environment_and_ports_stay_on_this_machine() -> None:
    assert "${POSTGRES_PASSWORD:?" in COMPOSE
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


def test_volumes_and_build_files_exist() -> None:
    volumes = yaml.safe_load(COMPOSE)["volumes"]
    assert "postgres" in volumes
    build = SERVICES["search"]["build"]
    dockerfile = (ROOT / build["dockerfile"]).read_text()
    assert "USER atm" in dockerfile
    for source in re.findall(r"^COPY (.+) \S+$", dockerfile, flags=re.MULTILINE):
        for path in source.split():
            assert (ROOT / path).exists(), path
