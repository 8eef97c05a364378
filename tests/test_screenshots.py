"""The README's pictures: there, small, and made by one command."""

import re
from pathlib import Path

import pytest
import screenshots
from PIL import Image
from playwright.sync_api import sync_playwright

from browser import needs_chromium

ROOT = Path(__file__).parent.parent


def test_the_pictures_of_the_readme_are_those_that_the_script_makes():
    shown = re.findall(r"\(docs/screenshots/(\w+)\.png\)", (ROOT / "README.md").read_text())
    assert len(shown) >= 2 and set(shown) <= {shot.name for shot in screenshots.SHOTS}
    files = {file.stem: file for file in screenshots.TARGET.glob("*.png")}
    assert files.keys() == {shot.name for shot in screenshots.SHOTS}
    assert sum(file.stat().st_size for file in files.values()) < screenshots.MOST_BYTES
    for shot in screenshots.SHOTS:
        with Image.open(files[shot.name]) as picture:
            assert picture.mode == "P" and picture.size == (shot.width * shot.scale, shot.height * shot.scale)


@needs_chromium
def test_a_picture_waits_for_its_charts(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("""<html data-ready="yes"><body><figure class="chart" style="height: 90px"></figure><script>
    setTimeout(() => {
      document.querySelector("figure").innerHTML = '<b class="main-svg">late</b>';
      document.body.style.background = "#0f0";
    }, 900)</script></body>""")
    shot = screenshots.Shot("x", "quick", width=200, height=100)
    with sync_playwright() as playwright:
        path, options = str(screenshots.CHROMIUM), screenshots.ARGUMENTS
        chromium = playwright.chromium.launch(executable_path=path, args=options, timeout=screenshots.WAIT)
        picture = tmp_path / "x.png"
        picture.write_bytes(screenshots.take(chromium, shot, page))
        chromium.close()
    with Image.open(picture) as image:
        assert image.convert("RGB").getpixel((190, 95)) == pytest.approx((0, 255, 0), abs=8)
