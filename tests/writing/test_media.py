"""Pictures, sound and data inside a page: read back as what they were."""

import base64
import io
import json
import wave

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from metatx.writing.media import jpeg_uri, packed, page, script_json, tile_sheet, wav_uri


def content(address):
    return base64.b64decode(address.partition(";base64,")[2])


@given(st.recursive(st.text() | st.integers(), lambda part: st.lists(part) | st.dictionaries(st.text(), part)))
def test_no_text_ends_a_script(value):
    text = script_json({"x": value, "end": "</script><!--"})
    assert "<" not in text and json.loads(text)["x"] == value


def test_parts_are_not_looked_through_for_marks(tmp_path):
    (tmp_path / "a.html").write_text("<!--policy--><p><!--a--></p><script><!--script--></script>")
    (tmp_path / "a.js").write_text("run()")
    text = page(tmp_path / "a.html", {"a": "<!--script-->"}, tmp_path / "a.js")
    assert "<p><!--script--></p><script>run()</script>" in text
    assert "script-src 'sha256-" in text and "unsafe-inline'; img" in text.replace("; img", "; img")
    assert "script-src 'none'" in page(tmp_path / "a.html", {"a": ""})


def test_tiles_lie_in_rows_of_32():
    colours = [(250, 0, 0)] * 32 + [(0, 0, 250), (0, 250, 0)]
    sheet, sizes = tile_sheet([Image.new("RGB", (80, 40), colour) for colour in colours], 16)
    image = Image.open(io.BytesIO(content(sheet)))
    assert image.size == (512, 32) and set(sizes) == {(16, 8)}
    assert image.getpixel((24, 20))[1] > 200 and image.getpixel((8, 20))[2] > 200 and image.getpixel((500, 4))[0] > 200


def test_a_picture_is_bounded_and_keeps_its_form():
    assert Image.open(io.BytesIO(content(jpeg_uri(Image.new("L", (900, 300)), 90)))).size == (90, 30)


def test_sound_is_cut_and_resampled():
    tone = np.sin(np.arange(96_000) / 48_000 * 2 * np.pi * 440)
    with wave.open(io.BytesIO(content(wav_uri(tone, 48_000, 0.5)))) as file:
        assert (file.getframerate(), file.getnframes(), file.getnchannels()) == (16_000, 8_000, 1)
        heard = np.frombuffer(file.readframes(8_000), "<i2") / 32767
    np.testing.assert_allclose(heard[100:-100], tone[:24_000:3][100:-100], atol=0.02)


def test_numbers_are_packed_little_endian():
    assert base64.b64decode(packed(np.array([[1, -2]]), "<i2")) == b"\x01\x00\xfe\xff"
