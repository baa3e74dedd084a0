"""The dashboard in a real browser, while a search runs."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE_MS = 120_000
"""On a machine that is busy with other things."""


@pytest.fixture(scope="module", name="browser")
def _browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(name="artifacts")
def _artifacts(tmp_path: Path) -> Path:
    """Where screenshots go: to be looked at, in the folder that the environment names."""
    folder = Path(os.environ.get("ATM_TEST_ARTIFACTS", tmp_path / "artifacts"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def start(*arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "atm_search", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def stop(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def until(page: Any, expression: str) -> Any:
    """What JavaScript says once it is true; the page forbids the eval by which Playwright waits."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not (value := page.evaluate(expression)):
        assert time.monotonic() < deadline, f"never true: {expression}"
        time.sleep(0.2)
    return value


def test_the_frontier_gains_points_while_a_search_runs_and_shows_what_merges(
    browser: Any, store: Path, tmp_path: Path, artifacts: Path
) -> None:
    copy = tmp_path / "live.db"
    shutil.copy(store, copy)
    dashboard = start("dashboard", "--storage", copy, "--port", 0)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    asked: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    search = None
    try:
        assert dashboard.stdout is not None
        address = dashboard.stdout.readline().strip()
        page.goto(f"{address}?study=demo")
        trials = "part('frontier').data.find((trace) => trace.name === 'trials').x.length"
        before = until(page, f"part('frontier').data && {trials} >= 9 && {trials}")
        search = start(
            *("start", "--model", "demo", "--images", 40, "--study", "demo"),
            *("--trials", 500, "--storage", copy),
        )
        until(page, f"{trials} > {before}")
        assert "live" in page.inner_text("#state")
        stock = browser.new_page(viewport={"width": 1280, "height": 1400})
        stock.set_default_timeout(PATIENCE_MS)
        stock.on("request", lambda request: asked.append(request.url))
        stock.on("pageerror", lambda error: problems.append(str(error)))
        stock.goto(f"{address.replace('/frontier', '')}/dashboard/studies/1/note")
        stock.wait_for_selector("text=Knee (where the frontier bends most)")
        stock.screenshot(path=artifacts / "note.png", full_page=True)
        stock.goto(f"{address.replace('/frontier', '')}/dashboard/studies/1")
        stock.wait_for_selector("text=top-1 and compute on 40 images")
        stock.screenshot(path=artifacts / "history.png", full_page=True)
        stop(search)
        page.screenshot(path=artifacts / "frontier.png", full_page=True)

        marker = page.evaluate(_MARKER)
        page.mouse.click(marker["x"], marker["y"])
        page.wait_for_selector("#picture img")
        assert until(page, "document.querySelector('#picture img').naturalWidth") > 1000
        assert f"Trial {marker['trial']}" in page.inner_text("#trial")
        page.screenshot(path=artifacts / "tokens.png", full_page=True)

        page.goto(address.replace("/frontier", "/dashboard"))
        page.wait_for_selector("text=demo")
        page.screenshot(path=artifacts / "optuna.png")
    finally:
        if search is not None:
            stop(search)
        stop(dashboard)
        page.close()
    hosts = {urlsplit(url).hostname for url in asked if url.startswith("http")}
    assert hosts == {"127.0.0.1"}
    assert not problems


_MARKER = """() => {
  const plot = part("frontier");
  const line = plot.data.find((trace) => trace.name.startsWith("frontier"));
  const last = line.x.length - 1;
  plot.scrollIntoView();
  const box = plot.getBoundingClientRect();
  const {xaxis, yaxis} = plot._fullLayout;
  return {
    trial: line.customdata[last],
    x: box.x + xaxis._offset + xaxis.d2p(line.x[last]),
    y: box.y + yaxis._offset + yaxis.d2p(line.y[last]),
  };
}"""


def test_a_report_opens_from_a_file_without_a_network(
    browser: Any, store: Path, tmp_path: Path, artifacts: Path
) -> None:
    file = tmp_path / "report.html"
    writing = start("report", "--storage", store, "--study", "demo", "-o", file, "--pictures")
    writing.communicate(timeout=300)
    assert writing.returncode == 0
    context = browser.new_context(offline=True)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector("#frontier .scatterlayer .trace")
    page.click("#table tbody tr:has(td.pick:not(:empty))")
    page.wait_for_selector("#picture img")
    page.screenshot(path=artifacts / "report.png", full_page=True)
    context.close()
    assert {urlsplit(url).scheme for url in asked} <= {"file", "data", "blob"}
