"""Imports flow one way: every import of the package is held against the table of wings."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "atm_search"

MAY_IMPORT = {
    "errors": set(),
    # A second leaf, but for errors: search and deploy read files alike and never meet.
    "documents": {"errors"},
    "merging": {"errors"},
    "pareto": {"errors"},
    "data": {"errors"},
    "models": {"merging", "errors"},
    "measure": {"models", "data", "merging", "errors"},
    "search": {"measure", "merging", "pareto", "documents", "errors"},
    "deploy": {"measure", "models", "data", "merging", "documents", "errors"},
    "show": {"search", "deploy", "measure", "models", "data", "merging", "pareto", "errors"},
}
MAY_IMPORT["cli"] = {*MAY_IMPORT, "cli"}
# The public face: three functions, each imported at its first use.
MAY_IMPORT["__init__"] = {"deploy", "measure", "models"}
MAY_IMPORT["__main__"] = {"cli"}

FILES = sorted(PACKAGE.rglob("*.py"))


def wing(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_wings(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("atm_search.")}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_its_wing_may(path: Path) -> None:
    own = wing(path)
    assert imported_wings(path) - {own} <= MAY_IMPORT[own]


@pytest.mark.parametrize("wing_name", ["deploy", "measure", "models", "data", "merging"])
def test_production_wings_do_not_know_optuna_or_sql(wing_name: str) -> None:
    for path in (PACKAGE / wing_name).rglob("*.py"):
        text = path.read_text()
        assert "import optuna" not in text
        assert "import sqlalchemy" not in text


def test_merging_knows_no_timm() -> None:
    for path in (PACKAGE / "merging").rglob("*.py"):
        assert "timm" not in path.read_text()
