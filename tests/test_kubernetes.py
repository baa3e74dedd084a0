"""ops/kubernetes, as far as it can be checked without a cluster: files, references, commands."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from atm_search.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "ops" / "kubernetes"
KUSTOMIZATIONS = sorted(path.parent for path in FOLDER.glob("*/kustomization.yaml"))
SECRET = "atm-search-database"


def kustomization(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((folder / "kustomization.yaml").read_text())
    return content


def manifests() -> list[dict[str, Any]]:
    files = [path for path in FOLDER.glob("*/*.yaml") if path.name != "kustomization.yaml"]
    return [item for path in sorted(files) for item in yaml.safe_load_all(path.read_text())]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and pod template of everything that runs."""
    for item in manifests():
        if "template" in item.get("spec", {}):
            yield item["metadata"]["name"], item["spec"]["template"]


PODS = dict(pods())


def container(name: str) -> dict[str, Any]:
    [only] = PODS[name]["spec"]["containers"]
    return dict(only)


def test_all_that_is_promised_is_there() -> None:
    assert {folder.name for folder in KUSTOMIZATIONS} == {
        "base", "postgres", "external", "gpu", "images",
    }  # fmt: skip
    assert set(PODS) == {"search", "worker", "dashboard", "postgres"}


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda folder: str(folder.name))
def test_a_kustomization_names_files_that_exist(folder: Path) -> None:
    content = kustomization(folder)
    for name in content.get("resources", []):
        assert (folder / name).exists(), name


@pytest.mark.parametrize("name", ["search", "worker", "dashboard"])
def test_a_container_runs_a_command_that_exists(name: str) -> None:
    values = {"STUDY": "s", "MODEL": "demo", "TRIALS": "5"}
    known = {entry["name"] for entry in container(name)["env"]}
    words = []
    for word in container(name)["args"]:
        for variable in re.findall(r"\$\((\w+)\)", word):
            assert variable in known
            word = word.replace(f"$({variable})", values[variable])
        words.append(word)
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert commands[words[0]].make_context(words[0], words[1:]).params


@pytest.mark.parametrize("name", PODS)
def test_what_a_container_reads_from_elsewhere_is_defined(name: str) -> None:
    [generator] = kustomization(FOLDER / "base")["configMapGenerator"]
    keys = {literal.partition("=")[0] for literal in generator["literals"]}
    for entry in container(name)["env"]:
        source = entry.get("valueFrom", {})
        if "configMapKeyRef" in source:
            assert source["configMapKeyRef"]["name"] == generator["name"]
            assert source["configMapKeyRef"]["key"] in keys
        if "secretKeyRef" in source:
            assert source["secretKeyRef"] == {"name": SECRET, "key": "password"}
    volumes = {volume["name"] for volume in PODS[name]["spec"].get("volumes", [])}
    mounted = {mount["name"] for mount in container(name)["volumeMounts"]}
    assert mounted - {"data"} <= volumes  # data is claimed by the StatefulSet


@pytest.mark.parametrize("name", PODS)
def test_nothing_runs_as_root_or_without_bounds(name: str) -> None:
    assert PODS[name]["spec"]["securityContext"]["runAsNonRoot"] is True
    assert container(name)["securityContext"]["allowPrivilegeEscalation"] is False
    assert "memory" in container(name)["resources"]["limits"]


def test_services_and_controllers_select_their_pods() -> None:
    for item in manifests():
        selector = item.get("spec", {}).get("selector", {})
        labels = selector.get("matchLabels", selector)
        if labels:
            pod = PODS[item["metadata"]["name"]]
            assert labels.items() <= pod["metadata"]["labels"].items()


def test_the_image_is_pinned_and_no_password_is_written_down() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert kustomization(FOLDER / "base")["images"] == [{"name": "atm-search", "newTag": version}]
    for path in FOLDER.glob("*/*.yaml"):
        text = path.read_text()
        assert f"kind{':'} Secret" not in text
        assert not re.search(r"postgresql://\w+:", text), path


@pytest.mark.parametrize("database", ["postgres", "external"])
def test_kustomize_renders_it_with_gpus_and_images(database: str, tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl, which renders kustomizations, is not installed")
    shutil.copytree(FOLDER, tmp_path / "ops")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kustomization.yaml").write_text(
        f"resources: [../ops/{database}]\ncomponents: [../ops/gpu, ../ops/images]\n"
    )
    done = subprocess.run(
        ["kubectl", "kustomize", tmp_path / "mine"], capture_output=True, text=True, check=True
    )
    rendered = {
        (item["kind"], item["metadata"]["name"]): item for item in yaml.safe_load_all(done.stdout)
    }
    assert (("StatefulSet", "postgres") in rendered) == (database == "postgres")
    [worker] = rendered["Job", "worker"]["spec"]["template"]["spec"]["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {"name": "ATM_SEARCH_DATA", "value": "/data"} in worker["env"]
    [settings] = [item for (kind, _), item in rendered.items() if kind == "ConfigMap"]
    host = "postgres" if database == "postgres" else "database.example.com"
    assert settings["data"]["storage"] == f"postgresql://atm@{host}/atm"
    assert worker["env"][0]["valueFrom"]["configMapKeyRef"]["name"] == settings["metadata"]["name"]
    assert {item["metadata"].get("namespace") for item in rendered.values()} == {
        None, "atm-search",
    }  # fmt: skip
