"""The page of a report, opened from a file in headless Chromium and driven as a reader would."""

import contextlib
import html.parser
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from urllib.error import URLError

import pytest

from t5x_like.scaling.report.analysis import analyse
from t5x_like.scaling.report.page import page_text
from t5x_like.scaling.report.sweep_runs import from_frames
from t5x_like.scaling.report.tables import all_tables

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--hide-scrollbars",
)
DESKTOP, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def page(sweeps, tmp_path_factory):
    """A file with the page of two variants, one of whose runs has a gin file to be careful with."""
    cells = sweeps.isoflop_cells({"serial": sweeps.law, "parallel": sweeps.worth(1.3)})
    texts = {name: f"# cell {name}\nNUM_LAYERS = 4\n" for name in cells["name"]}
    texts[cells["name"][0]] = "include 'a.gin'\nMODEL = @gopher.Gopher()\nTEXT = '</script><b>&'\n"
    runs = from_frames(
        cells, sweeps.curves_of(cells), name="blocks", family="gopher", gin_texts=texts
    )
    analysis = analyse(runs, bootstrap=50)
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(page_text(analysis, all_tables(analysis)), encoding="utf-8")
    return path


class Links(html.parser.HTMLParser):
    """What the elements of a page point to."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        names = ("src", "href", "srcset", "data", "poster", "action", "xlink:href")
        self.found += [value for name, value in attrs if name in names]


@pytest.mark.slow
def test_the_page_points_to_nothing_outside_of_itself(page):
    links = Links()
    links.feed(page.read_text(encoding="utf-8"))
    assert links.found
    assert all(link.startswith("#") for link in links.found)
    text = page.read_text(encoding="utf-8")
    style = "".join(re.findall(r"<style>(.*?)</style>", text, re.S))
    assert "url(" not in style and "@import" not in style
    # Nor may a script of it: the browser is told to refuse.
    assert "default-src 'none'" in text


def test_every_run_is_on_the_page_with_its_gin_file(page, sweeps):
    text = page.read_text(encoding="utf-8")
    written = re.search(r'id="runs">(.*?)</script>', text, re.S)[1]
    runs = json.loads(written)
    assert len(runs) == 70
    first = next(iter(runs.values()))
    assert first["gin"].endswith("TEXT = '</script><b>&'\n")
    assert "cell.gin" in first["summary"]


class Elements(html.parser.HTMLParser):
    """The elements of a page, in order: tag, attributes and the text within."""

    def __init__(self, text):
        super().__init__()
        self.found, self._open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "text": "", **dict(attrs)}
        self.found.append(element)
        self._open.append(element)

    def handle_endtag(self, tag):
        while self._open and self._open.pop()["tag"] != tag:
            pass

    def handle_data(self, data):
        for element in self._open:
            if element["tag"] not in ("body", "main", "html"):
                element["text"] += data

    def of(self, tag):
        return [element for element in self.found if element["tag"] == tag]


@pytest.fixture(scope="module")
def elements(page):
    return Elements(page.read_text(encoding="utf-8"))


def test_no_two_headings_are_alike(elements):
    headings = [element["text"] for tag in ("h1", "h2", "h3") for element in elements.of(tag)]
    headings = [text for text in headings if text]  # the panel's is empty before a click
    assert len(headings) > 10 and len(set(headings)) == len(headings)


def test_the_keyboard_reaches_every_heading_of_a_table_and_every_run(elements):
    buttons = [element["text"] for element in elements.of("button")]
    heads = [element["text"] for element in elements.of("th")]
    runs = [element for element in elements.of("tr") if "data-run" in element]
    assert len(runs) == 70 and all(run["data-run"] in buttons for run in runs)
    assert len(buttons) == len(heads) + len(runs) + 1  # and that which closes the panel
    tables = [element for element in elements.of("div") if element.get("class") == "table"]
    assert tables and all(element["tabindex"] == "0" for element in tables)


def test_every_plot_says_in_words_what_it_shows(elements):
    plots = [element for element in elements.of("div") if element.get("class") == "plot"]
    words = {element["id"]: element["text"] for element in elements.of("p") if "id" in element}
    assert len(plots) == 10
    for plot in plots:
        assert plot["role"] == "img" and plot["aria-label"]
        assert "x is " in words[plot["aria-describedby"]]
    spoken = words["isoflop-serial-words"]
    assert "x is parameters N, y is validation loss (nats a token)." in spoken
    assert "10¹⁶ FLOPs: line, x from " in spoken and "; 7 points, x from " in spoken


def test_numbers_of_tables_are_short_and_none_is_nan(elements):
    cells = [element["text"] for element in elements.of("td")]
    assert not [text for text in cells if re.fullmatch(r"-?\d{5,}(\.\d+)?", text)]
    assert not [text for text in cells if "nan" in text or "inf" in text]


def test_a_law_has_each_exponent_once(elements):
    cells = [element["text"] for element in elements.of("td")]
    assert "a" in cells and "coefficient" in cells and "exponent" not in cells


# -- In a browser ----------------------------------------------------------------------------


class Browser:
    """Chromium through its driver's own HTTP protocol (W3C WebDriver)."""

    def __init__(self, port, profile):
        self._address = f"http://127.0.0.1:{port}/session"
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"]}
        logs = {"browser": "ALL", "performance": "ALL"}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": logs,
        }
        session = self._post("", {"capabilities": {"alwaysMatch": wanted}})
        self._address += f"/{session['sessionId']}"
        # Chromium's own first page asks for much.
        self._post("/url", {"url": "about:blank"})
        self.requests()

    def _post(self, path, body, method="POST"):
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(self._address + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def command(self, name, **parameters):
        """A command of the DevTools protocol."""
        return self._post("/goog/cdp/execute", {"cmd": name, "params": parameters})

    def look(self, size, scheme):
        """A window of this size, whose reader prefers light or dark."""
        width, height = size
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=size == PHONE,
        )  # fmt: skip
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.command("Emulation.setEmulatedMedia", features=[feature])

    def open(self, path):
        self._post("/url", {"url": path.as_uri()})
        end = time.monotonic() + 60  # a machine with other work draws slowly
        while self.run("return document.documentElement.dataset.drawn") != "yes":
            assert time.monotonic() < end, f"{path} is not drawn"
            time.sleep(0.1)

    def run(self, script, *arguments):
        return self._post("/execute/sync", {"script": script, "args": list(arguments)})

    def move(self, x, y, *, click=False):
        pause = {"type": "pause", "duration": 50}
        actions = [{"type": "pointerMove", "x": round(x), "y": round(y), "duration": 50}, pause]
        if click:
            actions += [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        mouse = {"type": "pointer", "id": "mouse", "actions": actions}
        self._post("/actions", {"actions": [mouse]})

    def press(self, key):
        actions = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self._post("/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def complaints(self):
        """Errors and warnings that were written to the console."""
        entries = self._post("/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def requests(self):
        """The addresses that were asked for."""
        found = []
        for entry in self._post("/se/log", {"type": "performance"}):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
        return found

    def close(self):
        self._post("", {}, method="DELETE")


@contextlib.contextmanager
def started(profile):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(
        ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5).close()
                break
            except (URLError, ConnectionError):
                assert time.monotonic() < deadline, "chromedriver does not answer"
                time.sleep(0.2)
        browser = Browser(port, profile)
        try:
            yield browser
        finally:
            browser.close()
    finally:
        driver.terminate()
        driver.wait(timeout=30)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} here: Debian's packages are chromium and chromium-driver")
    with started(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


PLOTS = """
return [...document.querySelectorAll('.plot')].map(plot => ({
  id: plot.id,
  points: plot.querySelectorAll('.points path').length,
  lines: plot.querySelectorAll('path.js-line').length,
  width: plot.getBoundingClientRect().width,
}));
"""
# Where the first run's point is on the screen, after scrolling to it.
FIRST_POINT = """
const plot = document.getElementById(arguments[0]);
plot.scrollIntoView({block: 'center'});
const trace = plot.data.findIndex(t => t.customdata);
const box = plot.querySelectorAll('.trace.scatter')[trace].querySelector('.points path')
  .getBoundingClientRect();
return [box.x + box.width / 2, box.y + box.height / 2, plot.data[trace].customdata[0]];
"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_plot_is_drawn_in_either_scheme_and_no_request_is_made(page, browser, size, scheme):
    browser.look(size, scheme)
    browser.open(page)
    plots = {plot["id"]: plot for plot in browser.run(PLOTS)}
    assert plots.keys() == {
        *("isoflop-serial", "isoflop-parallel", "optimum-parameters", "optimum-tokens"),
        *("variants-loss", "variants-multiplier", "envelope-serial", "envelope-parallel"),
        *("residuals-N", "residuals-D"),
    }
    # 35 runs and 5 minima; 5 budgets' parabolas.
    assert plots["isoflop-serial"]["points"] == 40
    assert plots["isoflop-serial"]["lines"] >= 5
    assert plots["envelope-serial"]["lines"] >= 36  # the runs and their envelope
    assert plots["residuals-N"]["points"] == 70
    assert all(plot["points"] + plot["lines"] > 0 for plot in plots.values())
    # Nothing is wider than the window.
    width = browser.run("return document.documentElement.scrollWidth")
    assert width <= size[0]
    ink = browser.run("return getComputedStyle(document.querySelector('.xtick text')).fill")
    channels = [int(part) for part in re.findall(r"\d+", ink)[:3]]
    assert (max(channels) < 128) == (scheme == "light")
    assert browser.complaints() == []
    assert browser.requests() == [page.as_uri()]


@pytest.mark.slow
def test_hover_and_click_tell_the_run_its_numbers_and_its_gin_file(page, browser):
    browser.look(DESKTOP, "light")
    browser.open(page)
    x, y, name = browser.run(FIRST_POINT, "isoflop-serial")
    browser.move(x, y)
    box = browser.run(
        "return document.querySelector('#isoflop-serial .hoverlayer .hovertext').textContent"
    )
    for part in (name, "loss ", "learning rate 0.001", "cell.gin", "MODEL = @gopher.Gopher()"):
        assert part in box
    assert "</script><b>&" in box
    browser.move(x, y, click=True)
    shown = "const box = document.getElementById('run'); return [box.hidden, box.innerText]"
    hidden, text = browser.run(shown)
    assert not hidden
    assert name in text and "include 'a.gin'" in text
    assert browser.complaints() == []


ENTER, ESCAPE = "\ue007", "\ue00c"
NAMES = """
const table = [...document.querySelectorAll('table')].at(-1);
return [...table.tBodies[0].rows].map(row => row.cells[0].textContent);
"""
CUT = """
return [...document.querySelectorAll('.table')]
  .filter(table => table.scrollHeight > table.clientHeight + 20).length;
"""
SORTED = "return [...document.querySelectorAll('table')].at(-1).querySelector('th').ariaSort"


@pytest.mark.slow
def test_rows_are_whole_and_the_keyboard_sorts_them_and_shows_a_run(page, browser):
    browser.look(DESKTOP, "light")
    browser.open(page)
    assert browser.run(CUT) == 0
    browser.run("[...document.querySelectorAll('table')].at(-1).querySelector('button').focus()")
    before = browser.run(NAMES)
    browser.press(ENTER)
    browser.press(ENTER)
    assert browser.run(NAMES) == sorted(before, reverse=True) != before
    assert browser.run(SORTED) == "descending"
    browser.run("document.querySelector('tr[data-run] button').focus()")
    browser.press(ENTER)
    shown = "const box = document.getElementById('run'); return [box.hidden, box.innerText]"
    hidden, text = browser.run(shown)
    assert not hidden and browser.run("return document.activeElement.textContent") in text
    browser.press(ESCAPE)
    assert browser.run(shown)[0]
    assert browser.complaints() == []
