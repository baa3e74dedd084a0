"""Several methods in one study, as a person searches them: to the frontier, and to files."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import yaml
from safetensors.torch import save_file

from atm_search.deploy.load import load

Cli = Callable[..., tuple[int, str, str]]
METHODS = ("atm", "evit", "tome")
FIRST = """
- {tau0: 0.98, alpha: 0.03, tau_min: 0.88, split_depth: 9}
- {method: tome, r: 8}
- {keep_rate: 0.7}
"""


@pytest.fixture(name="start")
def _start(cli: Cli) -> Callable[[int], tuple[int, str, str]]:
    """The same search to some number of trials, one of each method first."""
    Path("first.yaml").write_text(FIRST)
    search = ["start", "--method", "tome,evit,atm", "--images", 40, "--dtype", "float32"]
    search += ["--seed", 1, "--no-racing", "--study", "s", "--enqueue", "first.yaml"]
    return lambda trials: cli(*search, "--trials", trials)


def test_three_methods_are_searched_resumed_exported_and_measured_again(
    cli: Cli, start: Callable[[int], tuple[int, str, str]]
) -> None:
    code, out, err = start(4)
    assert (code, "sampler tpe" in err, "Queued 3 start points" in err) == (0, True, True)
    code, out, err = start(5)
    assert (code, "Queued" in err) == (0, False)
    assert "configuration" in out
    code, out, _ = cli("frontier", "--with-dominated", "--json")
    measured = json.loads(out)["measured"]
    assert len(measured) == 5
    assert {point["method"] for point in measured} == set(METHODS)
    for method in METHODS:
        point = next(item for item in measured if item["method"] == method)
        assert point["params"]["cls_only_last_block"]
        name = f"{method}.yaml"
        assert cli("export", "--pick", f"trial:{point['trial']}", "-o", name)[0] == 0
        assert yaml.safe_load(Path(name).read_text())["method"]["name"] == method
        assert load(name).method.params() == point["params"]
        code, out, _ = cli("evaluate", "--config", name, "--json")
        again = json.loads(out)
        same = ("gflops", "top1", "kl", "tokens_per_layer", "delta_ci95")
        assert [again[key] for key in same] == [point[key] for key in same]
    _, out, _ = cli("compare", "--at", 0.15, "--json")
    sides = json.loads(out)["methods"]
    assert [(each["method"], each["last_block"]) for each in sides] == [
        (method, block) for block in ("class token", "all tokens") for method in METHODS
    ]
    assert cli("report", "-o", "all.csv")[0] == 0
    heading, *lines = Path("all.csv").read_text().splitlines()
    assert {"method", "tau0", "r", "keep_rate"} <= set(heading.split(","))
    assert len(lines) == 5
    assert cli("report", "-o", "all.html")[0] == 0
    _, out, _ = cli("show", 1)
    assert "Trial 1 of s: tome r=8" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["start", "--method", "atm,tom"], "No method 'tom'"),
        (["start", "--method", "atm,atm"], "names atm twice"),
        (["start", "--method", "fixed"], "fixed has nothing to search"),
        (["start", "--method", "atm,tome", "--sampler", "gp"], "one method at a time"),
        (["evaluate", "--method", "evit", "--set", "keep_rate"], "write NAME=VALUE"),
        (["evaluate", "--method", "evit", "--set", "rate=0.7"], "evit has no parameter 'rate'"),
        (["evaluate", "--method", "evit", "--set", "keep_rate=7"], "keep_rate=7 is no share"),
        (["evaluate", "--set", "tau0=1.0", "--tau0", "1.0"], "tau0 is given already, 1.0"),
        (["evaluate", "--dense", "--set", "r=1"], "leave out --set"),
    ],
)
def test_what_cannot_be_searched_or_set_is_refused(
    cli: Cli, arguments: list[str], words: str
) -> None:
    code, _, err = cli(*arguments)
    assert (code, words in err) == (2, True), err
    assert not Path("atm-search.db").exists()


def test_a_method_that_cannot_run_in_the_model_is_refused_before_images_are_read(
    cli: Cli, tmp_path: Path
) -> None:
    network = timm.create_model("test_vit4", num_classes=10)  # averages patches: no class token
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    model = ["--model", "test_vit4", "--checkpoint", "weights.safetensors", "--data", "nowhere"]
    for command in (
        ["start", "--method", "tome,evit"],
        ["evaluate", "--method", "evit", "--set", "keep_rate=0.7"],
    ):
        code, _, err = cli(*command, *model)
        assert (code, "evit keeps what the class token attends to" in err) == (2, True), err
    code, _, err = cli("start", "--method", "tome", *model)
    assert (code, "nowhere" in err) == (2, True), err


def test_any_parameter_of_any_method_can_be_set(cli: Cli) -> None:
    code, out, _ = cli(
        *("evaluate", "--images", 20, "--method", "evit", "--json"),
        *("--set", "keep_rate=0.7", "--set", "fuse=false"),
    )
    assert code == 0
    assert json.loads(out)["params"] == {
        "prop_attn": True,
        "cls_only_last_block": False,
        "keep_rate": 0.7,
        "fuse": False,
    }
