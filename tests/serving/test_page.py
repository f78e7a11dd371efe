"""The page at / in headless Chromium: a person picks a task, gives an input, sees the answer."""

import base64
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.serving.processes import Browser, server

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture
def browser(tmp_path):
    found = Browser(CHROMIUM, tmp_path / "profile")
    yield found
    found.close()


def shot(browser, name):
    """A picture of the page, kept where METATX_SHOTS says."""
    if "METATX_SHOTS" in os.environ:
        data = browser.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        with open(f"{os.environ['METATX_SHOTS']}/{name}.png", "wb") as file:
            file.write(base64.b64decode(data))


def pick(browser, name):
    browser.run(f"[...document.querySelectorAll('nav button')].find(b => b.firstChild.textContent == '{name}').click()")
    browser.until(f"$('name').textContent == '{name}'")


def answered(browser):
    browser.run("$('result').hidden = true; $('go').click()")
    browser.until("!$('result').hidden")
    return browser.run("$('result').innerText")


def test_a_person_picks_a_task_gives_an_input_and_sees_the_answer(trained, browser, tmp_path):
    file = tmp_path / "bright.png"
    Image.fromarray(np.full((24, 24, 3), 220, np.uint8)).save(file)
    with server(trained, METATX_TOKEN="secret") as (_, address):
        browser.call("Page.navigate", url=address)
        browser.until("document.readyState == 'complete' && !$('door').hidden")
        browser.run("$('token').value = 'secret'; $('door').querySelector('button').click()")
        browser.until("document.querySelectorAll('nav button').length == 3")
        browser.errors.clear()  # that the token was missing

        pick(browser, "kinds")
        browser.run("document.querySelector('[name=a]').value = '-2'")
        text = answered(browser)
        assert "Answer in" in text and "%" in text and ("yes" in text or "no" in text)
        shot(browser, "table")
        assert '"a":-2' in browser.run("$('curl').textContent") or browser.run("read().a") == -2

        pick(browser, "ahead")
        assert "load" in answered(browser) and browser.run("document.querySelectorAll('polyline').length") == 1
        shot(browser, "forecast")
        browser.run("document.querySelector('textarea').value = '[[null]]'")
        assert "no observed value" in answered(browser)

        pick(browser, "light")
        choose_file(browser, "#file", file)
        browser.until("!$('picture').hidden")
        assert "bright" in answered(browser)
        shot(browser, "picture")
    assert not [error for error in browser.errors if "422" not in str(error)]


def choose_file(browser, selector, file):
    document = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
    browser.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node)


def test_a_person_gives_some_inputs_of_several(houses, browser, tmp_path):
    file = tmp_path / "door.png"
    Image.fromarray(np.full((24, 24, 3), 220, np.uint8)).save(file)
    with server(houses) as (_, address):
        browser.call("Page.navigate", url=f"{address}/#house")
        browser.until("document.readyState == 'complete' && document.querySelectorAll('fieldset').length == 3")
        assert browser.run("$('about').textContent").startswith("photo (image), words (text), facts (tabular) → class")
        assert browser.run("JSON.stringify(Object.entries(read()).map(([name, value]) => [name, value === null]))") == (
            '[["photo",true],["words",false],["facts",false]]'
        )
        shot(browser, "several")
        without = answered(browser)
        assert "Answer in" in without and "%" in without
        choose_file(browser, "#file-photo", file)
        browser.until("!$('picture-photo').hidden")
        curl = browser.run("$('curl').textContent")
        assert "-F '0.photo=@door.png' -F 'inputs=[{\"words\":" in curl and '"facts":{"rooms":' in curl
        assert answered(browser).split("As JSON")[0] != without.split("As JSON")[0]
        shot(browser, "several-answered")
        browser.run("document.querySelectorAll('fieldset .empty').forEach(button => button.click())")
        assert browser.run("sent.size") == 0 and browser.run("Object.values(read()).every(value => value === null)")
        assert "all inputs are missing" in answered(browser)
        browser.run("document.querySelector('fieldset textarea').value = '[[1'")
        assert "photo: " in answered(browser)
        shot(browser, "several-refused")
    assert not [error for error in browser.errors if "422" not in str(error)]


def test_a_programmer_reads_body_and_answer_of_each_task(trained, browser):
    with server(trained) as (_, address):
        browser.call("Page.navigate", url=f"{address}/docs#kinds")
        browser.until("document.readyState == 'complete' && document.querySelectorAll('main > details').length > 8")
        text = browser.run("document.querySelector('main > details[open]').innerText")
        assert "POST /v1/tasks/kinds/predict" in text and '"inputs"' in text and '"prediction"' in text
        assert "$ref" not in browser.run("document.querySelector('main').textContent")
        shot(browser, "docs")
    assert not browser.errors


def test_what_a_task_is_called_is_shown_and_never_run(trained, browser, tmp_path):
    folder = shutil.copytree(trained / "kinds", tmp_path / "tasks" / "kinds")
    (folder / "README.md").write_text("<img src=x onerror='window.hurt = true'>")
    with server(tmp_path / "tasks") as (_, address):
        browser.call("Page.navigate", url=address)
        browser.until("document.readyState == 'complete' && $('about-card')?.textContent.includes('onerror')")
        assert browser.run("window.hurt") is None


def test_the_page_shows_the_words_and_then_the_record(writing, browser):
    with server(writing / "tasks") as (_, address):
        browser.call("Page.navigate", url=f"{address}/#say")
        browser.until("document.readyState == 'complete' && $('name').textContent == 'say'")
        browser.run("document.querySelector('textarea').value = 'one two'")
        browser.run(
            "window.seen = []; new MutationObserver(() => seen.push($('result').innerText)).observe($('result'), "
            "{childList: true, subtree: true}); $('go').click()"
        )
        browser.until("$('result').innerText.includes('As JSON')")
        seen = json.loads(browser.run("JSON.stringify(seen)"))
        assert seen[0].startswith("Answer so far") and "Answer in" in seen[-1]
    assert not browser.errors
