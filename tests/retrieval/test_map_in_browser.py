"""The map and the hits in headless Chromium: a person hovers, clicks, searches, filters, by mouse, touch and keys."""

import shutil

import pytest

from metatx.retrieval.hits_page import Shown, write_hits
from metatx.retrieval.picture import write_picture
from tests.retrieval.points import coloured
from tests.serving.processes import Browser

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
EVIL = "</script><script>window.hurt = 1</script><img src=x onerror='window.hurt = 2'><!--"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(CHROMIUM, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    out = tmp_path_factory.mktemp("map") / "map.html"
    write_picture(out, coloured(60, note=[EVIL, *["fine"] * 119]), colour="kind", title=EVIL)
    return out


def opened(browser, path, width=1200, height=800):
    mobile = width < 500
    browser.errors.clear()
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
    browser.call("Page.navigate", url=path.as_uri())
    browser.until("document.readyState == 'complete' && typeof selected != 'undefined' && width > 0")


def mouse(browser, kind, at):
    box = browser.run(
        f"(() => {{ const b = canvas.getBoundingClientRect(), p = place({at}); return [b.x + p[0], b.y + p[1]] }})()"
    )
    browser.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)


def key(browser, name):
    for kind in ("keyDown", "keyUp"):
        text = {"text": name} if len(name) == 1 and kind == "keyDown" else {}
        browser.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, **text)


def test_a_person_hovers_clicks_and_walks_to_a_neighbour(browser, page):
    opened(browser, page)
    # A point that nothing covers: the highest.
    top = "Array.from({length: count}, (_, i) => i).reduce((a, b) => Y(b) > Y(a) ? b : a)"
    mouse(browser, "mouseMoved", top)
    browser.until("!$('tip').hidden")
    assert browser.run(f"$('tip').innerText.includes(label({top}))")
    mouse(browser, "mousePressed", top)
    mouse(browser, "mouseReleased", top)
    assert (
        browser.run(f"selected == {top} && !$('item').hidden && document.querySelectorAll('#item ol button').length")
        == 10
    )
    first = browser.run("nearest(selected)[0]")
    browser.run("document.querySelector('#item ol button').click()")
    assert browser.run("selected") == first
    before = browser.run("view.k")
    browser.run("$('in').click()")
    assert browser.run("view.k") > before
    assert not browser.errors


def test_neighbours_lie_in_their_own_colour(browser, page):
    opened(browser, page)
    same = browser.run(
        "Array.from({length: count}, (_, i) => nearest(i).every(j => group[j] == group[i])).filter(Boolean).length"
    )
    assert same > 100, "items of a colour are near one another in these vectors"


def test_search_and_legend_choose_and_colours_change(browser, page):
    opened(browser, page)
    assert browser.run("$('state').textContent") == "120 points"
    browser.run("$('search').value = 'GREEN 1'; $('search').oninput()")
    texts = browser.run("[...document.querySelectorAll('#hits ol button')].map(b => b.innerText).join('|')")
    assert "green thing 1" in texts and "red" not in texts and "of 120" in browser.run("$('state').textContent")
    browser.run("$('search').value = 'nothing such'; $('search').oninput()")
    assert "No item" in browser.run("$('hits').innerText")
    browser.run("$('search').value = ''; $('search').oninput(); document.querySelector('#legend button').click()")
    assert browser.run("$('state').textContent") == "40 of 120 points"
    assert browser.run("new Set(matches.map(i => cell(column, i))).size") == 1
    price = browser.run("data.columns.findIndex(part => part.name == 'price')")
    browser.run(f"$('colour').value = {price}; $('colour').onchange()")
    assert "≤" in browser.run("$('legend').innerText") and browser.run("$('state').textContent") == "120 points"
    assert not browser.errors


def test_words_are_found_by_their_beginnings_and_within_only_if_none_begins_so(browser, page):
    opened(browser, page)
    kinds = "[...new Set(matches.map(i => label(i).split(' ')[0]))].join()"
    for words, expected in (("re", "red"), ("RED-thi", "red"), ("een", "green"), ("een re", "")):
        browser.run(f"$('search').value = '{words}'; $('search').oninput()")
        assert browser.run(kinds) == expected, words
    assert not browser.errors


def test_all_can_be_done_by_keys(browser, page):
    opened(browser, page)
    key(browser, "/")
    assert browser.run("document.activeElement.id") == "search"
    browser.run("$('search').value = 'blue thing 5'; $('search').oninput()")
    key(browser, "Enter")
    assert browser.run("label(selected)").startswith("blue thing 5")
    key(browser, "Escape")
    assert browser.run("selected == -1 && document.activeElement.id") == "canvas"
    browser.run("$('search').value = ''; $('search').oninput()")
    key(browser, "ArrowRight")
    start = browser.run("selected")
    key(browser, "ArrowRight")
    assert browser.run(f"selected != {start} && X(selected) > X({start})")
    key(browser, "ArrowUp")
    key(browser, "Enter")
    assert browser.run("document.activeElement.closest('#item ol') != null")
    key(browser, "ArrowDown")
    assert browser.run("[...document.querySelectorAll('#item ol button')].indexOf(document.activeElement)") == 1
    assert not browser.errors


def test_a_narrow_screen_shows_all_without_scrolling_sideways(browser, page):
    opened(browser, page, 390, 844)
    browser.run("select(3)")
    assert browser.run("document.documentElement.scrollWidth") <= 390
    assert browser.run("canvas.getBoundingClientRect().width") > 350
    box = browser.run(
        "(() => { const b = canvas.getBoundingClientRect(), p = place(7); return [b.x + p[0], b.y + p[1]] })()"
    )
    point = [{"x": box[0], "y": box[1]}]
    browser.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=point)
    browser.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    browser.until("selected >= 0 && selected != 3 && !$('tip').hidden")
    assert not browser.errors


def test_thumbnails_are_the_items_own(browser, page):
    opened(browser, page)
    browser.until("sheets.every(sheet => sheet.complete)")
    pixel = "(i => [...thumb(i, 40).getContext('2d').getImageData(20, 20, 1, 1).data])"
    assert (
        browser.run(f"{pixel}(0)")[0] > 180
        and browser.run(f"{pixel}(1)")[1] > 120
        and browser.run(f"{pixel}(2)")[2] > 180
    )
    assert browser.run("thumb(100, 40)") is None


def test_words_of_a_user_are_shown_and_never_run(browser, page, tmp_path):
    opened(browser, page)
    browser.run("select(0)")
    assert "</script><script>" in browser.run("$('item').innerText") and browser.run("document.title").startswith(
        "</script>"
    )
    assert browser.run("window.hurt") is None and browser.run("document.querySelectorAll('script').length") == 2
    hits = tmp_path / "hits.html"
    write_hits(hits, [Shown("text", EVIL)], [[Shown("text", EVIL, 0.5, {EVIL: EVIL})]], title=EVIL)
    browser.call("Page.navigate", url=hits.as_uri())
    browser.until("document.readyState == 'complete' && document.querySelectorAll('li').length == 1")
    assert browser.run("window.hurt") is None and EVIL in browser.run("document.querySelector('h2').textContent")
    assert not browser.errors


def test_a_page_that_is_tampered_with_runs_nothing(browser, page, tmp_path):
    """The content security policy allows the page's own script alone."""
    changed = tmp_path / "changed.html"
    changed.write_text(page.read_text().replace("<main>", "<script>window.hurt = 3</script><main>"))
    opened(browser, changed)
    assert browser.run("window.hurt") is None and browser.run("count") == 120
