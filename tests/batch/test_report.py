"""report.html: what it holds, and how it opens in a browser."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tav_batch.driver import Batch
from tav_batch.log import Log
from tav_core import write_video
from tests.batch.tables import edits, rows_of
from tests.comfyui.browser import CHROMIUM
from tests.pages import check_page

pytest.importorskip("pyarrow")
STRANGE = "<script>alert(1)</script> 'a' & \"b\" --> é"


def finished(folder: Path, number: int, gain: float = 0.0, compare: str | None = None) -> Batch:
    """A batch whose rows have records: one in ten failed."""
    rows = edits(number, clips=5, name="")
    rows[0]["prompt"] = STRANGE
    batch = Batch(rows_of(folder, rows), str(folder / "out"), Log(), compare=compare)
    for row in range(number):
        record: dict[str, Any] = {"status": "done", "file": f"{row + 1}.mp4", "seconds": {"all": float(row)}}
        record["metrics"] = {"psnr": gain + 20 + (7 * row) % number, "ssim": None, "warp_error": float("inf")}
        if row % 10 == 9:
            record = {"status": "failed", "error": f"Row {row} failed: {STRANGE}"}
        batch.results.add(row, {"number": row, "name": str(row + 1), **record})
    batch.results.write()
    batch._write_report()
    return batch


def data_of(folder: Path) -> dict[str, Any]:
    page = (folder / "out" / "report.html").read_text()
    return json.loads(re.search(r'id="data">\n(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_holds_all_rows_and_no_row_can_end_its_script(tmp_path: Path) -> None:
    finished(tmp_path, 12)
    data = data_of(tmp_path)
    assert [row["status"] for row in data["rows"]] == ["done"] * 9 + ["failed"] + ["done"] * 2
    assert data["rows"][0]["prompt"] == STRANGE and data["rows"][0]["source"] == "../0.mp4"
    assert data["rows"][1]["figures"] == {"psnr": 27, "seconds": 1.0}, "what is not defined or finite is left out"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "alert(1)</script>" not in page and not re.search(r"https?://", page), "nothing is loaded from elsewhere"


def test_two_runs_are_compared_by_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    finished(tmp_path / "a", 4)
    finished(tmp_path / "b", 5, gain=1.5, compare=str(tmp_path / "a" / "out"))
    rows = data_of(tmp_path / "b")["rows"]
    assert rows[2]["figures"]["psnr"] - rows[2]["other"]["psnr"] == pytest.approx(1.5 + 14 % 5 - 14 % 4)
    assert rows[2]["other_file"] == "../../a/out/3.mp4" and "other" not in rows[4]
    with pytest.raises(FileNotFoundError, match=r"There is no results.parquet in .*--compare"):
        finished(tmp_path / "b", 5, compare=str(tmp_path))


@pytest.mark.slow
def test_the_page_is_for_everybody(tmp_path: Path) -> None:
    finished(tmp_path, 1)
    for clip in (tmp_path / "0.mp4", tmp_path / "out" / "1.mp4"):
        write_video(clip, torch.rand(4, 32, 32, 3), 8)
    check_page(tmp_path / "out" / "report.html")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="There is no Chromium.")
def test_it_opens_from_the_disk_sorts_filters_and_plays(tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed.")
    finished(tmp_path, 500)
    write_video(tmp_path / "out" / "1.mp4", torch.rand(4, 32, 32, 3), 8)
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--headless=new"])
        page = browser.new_page()
        page.set_default_timeout(180_000)
        page.context.set_offline(True)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        clock = page.context.new_cdp_session(page)
        clock.send("Performance.enable", {"timeDomain": "threadTicks"})
        began = time.monotonic()
        page.goto((tmp_path / "out" / "report.html").as_uri(), wait_until="commit")
        page.wait_for_selector("body[data-ready=yes]")
        seconds = time.monotonic() - began
        spent = {entry["name"]: entry["value"] for entry in clock.send("Performance.getMetrics")["metrics"]}
        busy = spent["TaskDuration"]  # of the page's thread, which other programs on the machine do not lengthen
        print(f"500 rows after {seconds:.2f} s, in {busy:.2f} s of the page's thread")  # noqa: T201
        assert 0 < busy < 2
        assert page.locator("article").count() == 500
        first = "article:first-child h2"
        assert page.inner_text(first) == "1" and STRANGE in page.inner_text("article:first-child")
        page.wait_for_function("() => document.querySelector('video[data-src=\"1.mp4\"]').currentTime > 0")
        page.select_option("#sort", "psnr")
        page.check("#down")
        best = max((row for row in data_of(tmp_path)["rows"] if row["figures"]), key=lambda row: row["figures"]["psnr"])
        assert page.inner_text(first) == best["name"]
        page.select_option("#measure", "psnr")
        page.fill("#low", "500")
        few = page.locator("article").count()
        assert few == sum(row["figures"].get("psnr", 0) >= 500 for row in data_of(tmp_path)["rows"]) > 0
        page.select_option("#measure", "")
        page.select_option("#status", "failed")
        assert page.locator("article").count() == 50
        browser.close()
    assert errors == []
