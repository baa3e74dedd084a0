"""Whether the process of a trial is certainly gone."""

import json
import os
import signal
import subprocess
import sys

import pytest

from atm_search.search import owner
from atm_search.search.owner import is_dead, signature

SIGN = """
import json
from atm_search.search.owner import signature
print(json.dumps(signature()), flush=True)
input()
"""


def test_a_process_is_alive_while_it_runs_or_is_stopped_and_dead_when_killed() -> None:
    if signature()["host"] is None:
        pytest.skip("no /proc here")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", SIGN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        theirs = json.loads(process.stdout.readline())
        assert theirs["pid"] == process.pid
        assert not is_dead(theirs)
        process.send_signal(signal.SIGSTOP)
        assert not is_dead(theirs)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_dead(theirs)  # a zombie: nobody has waited for it
    assert is_dead(theirs)


def test_another_process_of_the_same_number_is_not_the_owner() -> None:
    mine = signature()
    assert not is_dead(mine)
    assert is_dead(mine | {"started": "1"}) == (mine["host"] is not None)


def test_what_cannot_be_known_is_taken_for_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_dead(None)
    assert not is_dead({})
    assert not is_dead(signature() | {"host": "elsewhere/1/pid:[1]", "pid": 2**22 + 1})
    monkeypatch.setattr(owner, "_host", lambda: None)
    assert not is_dead({"host": None, "pid": 2**22 + 1, "started": "5"})
