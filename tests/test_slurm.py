"""ops/slurm/search.sbatch, run by bash as Slurm runs it; `srun` runs its command right here."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import typer.main

from atm_search.cli.main import app

SCRIPT = Path(__file__).resolve().parents[1] / "ops" / "slurm" / "search.sbatch"


@pytest.fixture(name="bin_folder")
def _bin_folder(tmp_path: Path) -> Path:
    """`srun`, and an `atm-search` that writes down how it is called and gives CODES in turn."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "srun").write_text('#!/bin/bash\nexec "$@"\n')
    (folder / "atm-search").write_text(
        f'#!/bin/bash\necho "$@" >> {tmp_path}/calls\n'
        f'exit $(sed -n "$(wc -l < {tmp_path}/calls)p" {tmp_path}/codes)\n'
    )
    for file in folder.iterdir():
        file.chmod(0o755)
    return folder


def run(
    bin_folder: Path, *arguments: str, codes: list[int], **environment: str
) -> tuple[int, list[str]]:
    """The script's exit code, and the commands that it ran."""
    (bin_folder.parent / "codes").write_text("\n".join(map(str, codes)) + "\n")
    done = subprocess.run(
        ["bash", SCRIPT, *arguments],
        env={
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "ATM_SEARCH_STORAGE": "postgresql://me@db/atm",
            "ATM_SEARCH_WAIT_S": "0",
            **environment,
        },
        capture_output=True,
        text=True,
    )
    calls = bin_folder.parent / "calls"
    return done.returncode, calls.read_text().splitlines() if calls.exists() else []


def test_the_first_task_begins_the_study_with_what_follows_the_script(bin_folder: Path) -> None:
    words = ["--model", "deit_b", "--trials", "500"]
    code, calls = run(bin_folder, *words, codes=[0], SLURM_ARRAY_TASK_ID="0")
    assert (code, calls) == (0, ["start --study slurm --model deit_b --trials 500"])


def test_the_others_join_as_soon_as_there_is_a_study(bin_folder: Path) -> None:
    code, calls = run(bin_folder, codes=[2, 2, 0], SLURM_ARRAY_TASK_ID="3", ATM_SEARCH_STUDY="mine")
    assert (code, calls) == (0, ["worker --study mine"] * 3)


@pytest.mark.parametrize(("codes", "expected"), [([1], 1), ([130], 130), ([2] * 4, 2)])
def test_what_ends_a_worker_ends_the_task(
    bin_folder: Path, codes: list[int], expected: int
) -> None:
    code, calls = run(
        bin_folder, codes=codes, SLURM_ARRAY_TASK_ID="1", ATM_SEARCH_ATTEMPTS=str(len(codes))
    )
    assert (code, len(calls)) == (expected, len(codes))


def test_a_task_without_a_database_says_so(bin_folder: Path) -> None:
    code, calls = run(bin_folder, codes=[0], ATM_SEARCH_STORAGE="")
    assert code != 0
    assert calls == []


def test_the_commands_exist() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, option in re.findall(r"srun atm-search (\w+) (--\w+)", SCRIPT.read_text()):
        assert option in {name for param in commands[name].params for name in param.opts}


def test_a_worker_is_told_before_its_time_ends() -> None:
    settings = re.findall(r"^#SBATCH --(\S+?)(?:=(\S+))?$", SCRIPT.read_text(), re.MULTILINE)
    assert dict(settings)["signal"] == "TERM@120"
    assert "array" in dict(settings)
