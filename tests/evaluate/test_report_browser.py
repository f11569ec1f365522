"""The report in a real browser: hostile texts run nothing and reach nothing, and a phone needs no sideways scrolling.

Every claim has its counterpart, a page without the defence, to show that the test would notice.
"""

from __future__ import annotations

import http.server
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from graft.evaluate.report import Cell, Page, Prediction, Section, Table, html, predictions_section, write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here: install the package chromium to run this")

OPTIONS = [
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=2000",
    "--dump-dom",
]


class Canary(http.server.ThreadingHTTPServer):
    """Serves the files it was given and writes down every request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.files: dict[str, str] = {}
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Answering(http.server.BaseHTTPRequestHandler):
    server: Canary

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path, "").encode()
        self.send_response(200 if content else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def canary():
    server = Canary()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def browse(url: str, profile: Path) -> str:
    """Open a page, let its clock run two seconds on, and give back what it has become."""
    unconfined = ["--no-sandbox"] if os.geteuid() == 0 else []
    command = [BROWSER, *OPTIONS, *unconfined, f"--user-data-dir={profile}", url]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    return done.stdout.decode("utf-8")


def hostile(url: str) -> list[str]:
    act = f"document.title='owned';fetch('{url}/fetched')"
    return [
        f"<script>{act}</script>",
        f'<img src="{url}/image" onerror="{act}">',
        f"</td></table></section><iframe src='{url}/frame'></iframe>",
        f"<link rel=stylesheet href='{url}/sheet.css'><style>@import '{url}/import.css';</style>",
        f'<a href="javascript:{act}" autofocus onfocus="{act}">click</a><svg onload="{act}">',
        f'<meta http-equiv="refresh" content="0;url={url}/refresh"><base href="{url}/">',
        f'=HYPERLINK("{url}/formula","x")',
        f'" style="background:url({url}/style)" onmouseover="{act}" x="',
    ]


def raw(texts: list[str], *, policy: str = "") -> str:
    """What a report without escaping would be."""
    return f"<!doctype html><html><head>{policy}<title>raw</title></head><body>{''.join(texts)}</body></html>"


def title_of(dom: str) -> str:
    found = re.search(r"<title>([^<]*)</title>", dom)
    assert found
    return found[1]


def test_hostile_texts_run_nothing_and_reach_nothing(build_page, canary, tmp_path):
    texts = hostile(canary.url)
    page = html(build_page([*texts[:5], "plain"], n=120, texts=texts))
    canary.files["/report.html"] = page
    dom = browse(f"{canary.url}/report.html", tmp_path / "profile")
    assert title_of(dom).startswith("Support tickets &lt;script&gt;")
    assert canary.asked == ["/report.html"]
    assert "&lt;img src=" in dom


def test_escaping_alone_is_enough(build_page, canary, tmp_path):
    texts = hostile(canary.url)
    page = html(build_page([*texts[:5], "plain"], n=120, texts=texts))
    canary.files["/report.html"] = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    assert canary.files["/report.html"] != page
    dom = browse(f"{canary.url}/report.html", tmp_path / "profile")
    assert title_of(dom).startswith("Support tickets &lt;script&gt;")
    assert canary.asked == ["/report.html"]


def test_the_policy_alone_keeps_scripts_and_requests_out(canary, tmp_path):
    policy = re.search(
        r'<meta http-equiv="Content-Security-Policy"[^>]*>', html(Page(title="", summary={}, sections=[]))
    )
    assert policy
    texts = [text for text in hostile(canary.url) if "refresh" not in text]  # no policy stops a page from leaving
    canary.files["/report.html"] = raw(texts, policy=policy[0])
    dom = browse(f"{canary.url}/report.html", tmp_path / "profile")
    assert title_of(dom) == "raw"
    assert set(canary.asked) <= {"/report.html", "/favicon.ico"}


def test_the_canary_sings_where_nothing_is_defended(canary, tmp_path):
    canary.files["/report.html"] = raw(hostile(canary.url)[:5])
    dom = browse(f"{canary.url}/report.html", tmp_path / "profile")
    assert title_of(dom) == "owned"
    assert {"/fetched", "/image", "/frame", "/sheet.css", "/import.css"} <= set(canary.asked)


def test_a_report_opens_as_a_file(build_page, canary, tmp_path):
    texts = hostile(canary.url)
    write_report(tmp_path / "report.html", build_page([*texts[:2], "plain"], n=60, texts=texts))
    dom = browse((tmp_path / "report.html").as_uri(), tmp_path / "profile")
    assert title_of(dom).startswith("Support tickets")
    assert canary.asked == []


FRAME = """<!doctype html><iframe width="360" height="800" src="/report.html"></iframe><p>unmeasured</p><script>
onload = () => { const inner = document.querySelector("iframe").contentDocument.documentElement;
document.querySelector("p").textContent = "beyond " + (inner.scrollWidth - inner.clientWidth); };</script>"""


def beyond_a_phone(page: str, canary: Canary, profile: Path) -> int:
    """Pixels by which a page is wider than a screen of 360."""
    canary.files |= {"/report.html": page, "/frame.html": FRAME}
    found = re.search(r"<p>beyond (\d+)</p>", browse(f"{canary.url}/frame.html", profile))
    assert found
    return int(found[1])


def test_a_phone_needs_no_sideways_scrolling(build_page, canary, tmp_path):
    labels = ["W" * 90, "a_very_long_label_name_of_many_words_" * 3, *(f"label_{place}" for place in range(18))]
    page = html(build_page(labels, n=200, texts=["W" * 400, "https://example.org/" + "path/" * 60]))
    assert beyond_a_phone(page, canary, tmp_path / "profile") == 0


def test_sideways_scrolling_would_be_noticed(canary, tmp_path):
    table = Table(columns=["W" * 200], rows=[[Cell(text="a")]])
    page = Page(title="t", summary={}, sections=[Section(title="s", blocks=[table])])
    spoiled = html(page).replace("overflow-x: auto", "overflow-x: visible")
    assert beyond_a_phone(spoiled, canary, tmp_path / "profile") > 0


def test_texts_arrive_in_the_browser_as_they_are(canary, tmp_path):
    text = "a < b && c > d \"quoted\" 'single' 受け取り مشكلة ✓"
    canary.files["/report.html"] = html(
        Page(title="t", summary={}, sections=[predictions_section([Prediction(text=text, answer="x")])])
    )
    dom = browse(f"{canary.url}/report.html", tmp_path / "profile")
    assert "a &lt; b &amp;&amp; c &gt; d \"quoted\" 'single' 受け取り مشكلة ✓</blockquote>" in dom
