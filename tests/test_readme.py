"""The README under test: its commands and options exist, its files and imports too."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import typer.main

from atm_search.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    return [text for name, text in fenced if name == language]


def test_every_command_line_of_the_readme_parses() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    seen = 0
    for line in "\n".join(blocks("sh")).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words or words[0] != "atm-search":
            continue
        command = commands[words[1]]
        known = {name for param in command.params for name in param.opts}
        assert {word for word in words if word.startswith("-")} <= known, line
        seen += 1
    assert seen >= 6


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?make (\w+)", README)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_imports_of_the_readme_work() -> None:
    for block in blocks("python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names)


def test_the_folders_and_files_of_the_readme_exist() -> None:
    for path in re.findall(r"^(\w[\w/.]+)\s{2,}", "".join(blocks("")), flags=re.MULTILINE):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / link).exists(), link
