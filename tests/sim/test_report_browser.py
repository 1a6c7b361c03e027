"""report.html in a real browser: no console message, nothing loaded, what is interactive works, readable by all."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_folders import fill, floored_decay, make_folder

from lavatube.sim.report.page import report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")]
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
)  # fmt: skip
OWN_HOSTS = r"https?://[\w.]*\b(google|googleapis|gstatic)\.com/"  # the browser's own look for updates
DARK = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")
PROBE = Path(__file__).with_name("report_probe.js")


def browse(page, profile, *flags):
    """(the page as it stands after its scripts, console messages, addresses that were asked for)"""
    net = profile / "net.json"
    command = [
        BROWSER,
        *FLAGS,
        *flags,
        f"--user-data-dir={profile}",
        f"--log-net-log={net}",
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    events = json.loads(net.read_text())["events"]
    urls = {e["params"]["url"] for e in events if isinstance(e.get("params"), dict) and "url" in e["params"]}
    messages = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, messages, {url for url in urls if url.startswith("http") and not re.match(OWN_HOSTS, url)}


@pytest.fixture(scope="module", params=["passing", "failing"])
def page(request, tmp_path_factory):
    folder = make_folder(tmp_path_factory.mktemp(request.param))
    if request.param == "passing":
        return report(fill(folder))
    with floored_decay():
        fill(folder, record=("u", "v"))
    return report(folder)


def test_the_page_says_nothing_on_the_console_and_asks_for_no_address(page, tmp_path):
    shown, messages, urls = browse(page, tmp_path)
    assert messages == []
    assert urls == set()
    assert shown.count('class="choice live"') == 2


SCREENS = {"wide": ("--window-size=1100,900",), "phone, dark": ("--window-size=500,900", *DARK)}


@pytest.mark.parametrize("flags", SCREENS.values(), ids=SCREENS)
def test_what_is_interactive_works_and_everybody_can_read_it(page, tmp_path, flags):
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    catch = "<script>window.pageErrors = []; addEventListener('error', (e) => pageErrors.push(e.message));</script>"
    copy = tmp_path / "copy.html"
    text = text.replace("<head>", f"<head>{catch}").replace("</body>", f"<script>{PROBE.read_text()}</script></body>")
    copy.write_text(text, encoding="utf-8")
    shown, _, _ = browse(copy, tmp_path, *flags)
    found = json.loads(html.unescape(re.search(r'data-probe="([^"]*)"', shown).group(1)))
    assert found["failed"] == []
    assert found["errors"] == []
    assert found["choices"] == 2
    assert found["boxes"] >= 2
