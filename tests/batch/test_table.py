"""Tables of edits: rows, their checks, and the layouts of data sets."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tav_batch.jobs import Rows, parse_settings
from tav_batch.table import TableError, read_table
from tests.batch.tables import edits, rows_of, write_csv

GOOD = {"video": "c.mp4", "source_prompt": "a", "prompt": "b"}


@pytest.fixture(autouse=True)
def clip(tmp_path: Path) -> None:
    (tmp_path / "c.mp4").touch()


def checked(tmp_path: Path, row: dict[str, Any], **options: Any) -> Any:
    rows = rows_of(tmp_path, [GOOD | {"name": "good"}, row], **options)
    assert rows.check()[0].fault == ""
    return rows.check()[1]


def test_csv_jsonl_and_parquet_are_the_same_rows(tmp_path: Path) -> None:
    parquet, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    cells = [GOOD | {"num_frames": 4, "denoise": 0.5, "propagate": True, "shot": "x"}, GOOD | {"num_frames": None}]
    write_csv(tmp_path / "t.csv", cells)
    (tmp_path / "t.jsonl").write_text("".join(f"{json.dumps(row)}\n\n" for row in cells))
    parquet.write_table(pa.Table.from_pylist(cells), tmp_path / "t.parquet")
    jobs = []
    for kind in ("csv", "jsonl", "parquet"):
        found, folder = read_table(str(tmp_path / f"t.{kind}"))
        rows = Rows(found, folder)
        jobs.append([rows.job(number, Path("o.mp4")) for number in range(2)])
        assert "shot" in rows.columns and [row.fault for row in rows.check()] == ["", ""]
    assert jobs[0] == jobs[1] == jobs[2]
    assert (jobs[0][0].num_frames, jobs[0][0].denoise, jobs[0][0].propagate) == (4, 0.5, True)
    assert jobs[0][0].video == str(tmp_path / "c.mp4")


@pytest.mark.parametrize(
    ("cells", "column", "message"),
    [
        ({"video": "d.mp4"}, "video", "there is no .*d.mp4: check its name"),
        ({"prompt": ""}, "prompt", "prompt is empty: fill it in"),
        ({"source_prompt": " "}, "source_prompt", "source_prompt is empty"),
        ({"num_frames": "many"}, "num_frames", "a whole number is expected"),
        ({"tuning_steps": "0"}, "tuning_steps", "steps must be a whole number"),
        ({"guidance_scale": "-1"}, "guidance_scale", "guidance_scale must be"),
        ({"strength": "500"}, "strength", "--strength must be a number"),
        ({"changes": "shape"}, "changes", "take one of content, look"),
        ({"start_from": "inversion", "mask": "c.mp4"}, "mask", "--mask locks parts"),
        ({"start_from": "inversion", "cross_replace_steps": "0.5"}, "cross_replace_steps", "acts in a source-pres"),
        ({"model": "nowhere"}, "model", "there is no .*nowhere"),
        ({"name": "../x"}, "name", "cannot name a file in the output"),
        ({"name": "/x"}, "name", "cannot name a file in the output"),
        ({"name": "a\0"}, "name", "cannot name a file"),
        ({"name": "a.result"}, "name", "may not begin or end so"),
        ({"name": "GOOD"}, "name", "GOOD is the name of line 2 too"),
    ],
)
def test_a_bad_row_names_line_column_and_remedy(
    tmp_path: Path, cells: dict[str, str], column: str, message: str
) -> None:
    (tmp_path / "k").mkdir()
    found, folder = read_table(str(write_csv(tmp_path / "t.csv", [GOOD | {"name": "good"}, GOOD | cells])))
    good, bad = Rows(found, folder).check()
    assert good.fault == ""
    head, _, text = bad.fault.partition(": ")
    assert head == f"Line 3{f', column {column}' if column else ''}"
    assert re.search(message, text), bad.fault


def test_lines_of_cells_with_line_ends_are_those_of_the_file(tmp_path: Path) -> None:
    text = 'video,source_prompt,prompt\nc.mp4,"a\nb",c\n\nc.mp4,a,b,c,d\nd.mp4,a,b\n'
    (tmp_path / "t.csv").write_text(text)
    found, folder = read_table(str(tmp_path / "t.csv"))
    faults = [row.fault for row in Rows(found, folder).check()]
    assert faults[0] == ""
    assert faults[1].startswith("Line 5: 5 cells in 3 columns")
    assert faults[2].startswith("Line 6, column video")


def test_a_bad_line_of_json_is_a_bad_row(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(f"{json.dumps(GOOD)}\n{{\n[1]\n")
    found, folder = read_table(str(tmp_path / "t.jsonl"))
    faults = [row.fault for row in Rows(found, folder).check()]
    assert (
        faults[0] == "" and faults[1].startswith("Line 2: no JSON") and faults[2].startswith("Line 3: no JSON object")
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"video,prompt\nc.mp4,b\n", "no column source_prompt"),
        ("t.csv", b"video,source_prompt,prompt,output\nc.mp4,a,b,o.mp4\n", "batch decides output: .* column name"),
        ("t.csv", b"video,video\n", "two columns 'video'"),
        ("t.csv", "vidéo\nà\n".encode("latin-1"), "not in UTF-8"),
        ("t.csv", b"", "no rows"),
        ("t.txt", b"", "is no table: give .csv"),
        ("t.parquet", b"PAR1", "is no Parquet file"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_sentence(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=message):
        Rows(*read_table(str(tmp_path / name)))


def test_settings_for_all_rows_give_way_to_the_table(tmp_path: Path) -> None:
    settings = parse_settings(["num-frames=8", "seed=3"])
    rows = rows_of(tmp_path, [GOOD | {"num_frames": 2}, GOOD | {"num_frames": ""}], defaults=settings)
    assert [(rows.job(n, Path("o")).num_frames, rows.job(n, Path("o")).seed) for n in range(2)] == [(2, 3), (8, 3)]
    with pytest.raises(TableError, match="--set frames: there is no such option"):
        rows_of(tmp_path, [GOOD], defaults={"frames": "8"})
    with pytest.raises(ValueError, match="FIELD=VALUE"):
        parse_settings(["seed"])


def test_no_path_leads_out_of_the_allowed_folders(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "inside-not"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "c.mp4").touch()
    (inside / "link.mp4").symlink_to(outside / "c.mp4")
    allowed = (str(inside),)

    def fault(video: str, **more: str) -> str:
        return Rows(read_table(str(write_csv(inside / "t.csv", [GOOD | {"video": video} | more])))[0], str(inside), {},
                    ".mp4", allowed).check()[0].fault  # fmt: skip

    assert fault("c.mp4") == fault(str(inside / "c.mp4")) == fault("../inside/c.mp4") == ""
    for video in ("../inside-not/c.mp4", str(outside / "c.mp4"), "link.mp4", "s3://bucket/c.mp4"):
        assert "column video: " in fault(video) and "outside of --allow-dir" in fault(video)
    assert "column mask: " in fault("c.mp4", mask="../c.mp4")
    assert "column control: " in fault("c.mp4", control="../nets", hint="canny")
    assert "column hint: " in fault("c.mp4", control="nets", hint="../hint")
    assert "column model: " in fault("c.mp4", model="..") and fault("c.mp4", model="demo") == ""


def test_urls_are_allowed_by_their_beginning() -> None:
    from tav_batch.jobs import _within

    assert _within("s3://b/a/c.mp4", "s3://b/a") and _within("s3://b/a/c.mp4", "s3://b/a/")
    assert not _within("s3://b/ab/c.mp4", "s3://b/a") and not _within("s3://b/a/../c.mp4", "s3://b/a")
    assert not _within("s3://b/c.mp4", "/s3:") and not _within("/b/c.mp4", "s3://b")


def test_rows_that_share_clip_caption_and_tuning_are_one_group(tmp_path: Path) -> None:
    same = [{}, {"prompt": "c"}, {"seed": "0"}, {"guidance_scale": "3"}, {"strength": "0.5"}]
    others = [{"seed": "1"}, {"num_frames": "3"}, {"source_prompt": "x"}, {"tuning_steps": "7"}, {"video": "d.mp4"}]
    filled = [dict.fromkeys(("seed", "guidance_scale", "strength", "num_frames", "tuning_steps"), "") | GOOD | row
              for row in same + others]  # fmt: skip
    found = rows_of(tmp_path, filled).check()
    assert {row.fault for row in found} == {""}
    groups = [row.group for row in found]
    assert len({*groups[: len(same)]}) == 1 and len({*groups}) == 1 + len(others)
    assert len({row.digest for row in found}) == len(found)


def test_a_changed_clip_or_cell_changes_the_digest(tmp_path: Path) -> None:
    before = rows_of(tmp_path, [GOOD]).check()[0].digest
    assert rows_of(tmp_path, [GOOD]).check()[0].digest == before
    assert rows_of(tmp_path, [GOOD | {"shot": "another column"}]).check()[0].digest == before
    assert rows_of(tmp_path, [GOOD | {"prompt": "c"}]).check()[0].digest != before
    (tmp_path / "c.mp4").write_bytes(b"more")
    assert rows_of(tmp_path, [GOOD]).check()[0].digest != before


def test_a_changed_hint_network_or_frame_changes_the_digest(tmp_path: Path) -> None:
    for name in ("net", "clip"):
        (tmp_path / name).mkdir()
    files = [tmp_path / "hint.mp4", tmp_path / "net" / "weights", tmp_path / "clip" / "1.png"]
    for file in files:
        file.touch()
    row = GOOD | {"video": "clip", "control": "net;net", "hint": "canny;hint.mp4"}
    before = rows_of(tmp_path, [row]).check()[0]
    assert before.fault == "" and rows_of(tmp_path, [row]).check()[0] == before
    for file in files:
        file.write_bytes(b"more")  # in place, which the folder's own time does not show
        after = rows_of(tmp_path, [row]).check()[0]
        assert after.digest != before.digest and after.group != before.group, file
        before = after
    files[0].unlink()
    assert "column hint: there is no" in rows_of(tmp_path, [row]).check()[0].fault


def test_rows_under_other_controls_share_no_tuning_unless_they_tune_without(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "hint.mp4").touch()
    given = {"control": "net", "hint": "canny"}
    others = [{"hint": "lineart"}, {"hint": "hint.mp4"}, {"control_scale": "0.5"}, {"control_end": "0.5"}]
    empty = dict.fromkeys(("control", "hint", "control_scale", "control_end", "control_tuning"), "")

    def groups(**more: str) -> list[str]:
        found = rows_of(tmp_path, [empty | GOOD | given | row | more for row in ({}, *others)]).check()
        assert {row.fault for row in found} == {""} and len({row.digest for row in found}) == len(found)
        return [row.group for row in found]

    assert len({*groups()}) == 1 + len(others)
    untuned = {*groups(control_tuning="no")}
    assert untuned == {rows_of(tmp_path, [GOOD]).check()[0].group}


LOVEU = "Video name,Our GT caption,Style Change Caption,Object Change Caption,Background Change Caption,Multiple Changes Caption\n"  # noqa: E501


def test_loveu_tgve_is_read_as_it_comes(tmp_path: Path) -> None:
    folder = tmp_path / "DAVIS_480p" / "480p_frames" / "gold-fish"
    folder.mkdir(parents=True)
    (folder / "00000.jpg").touch()
    rows = "DAVIS Videos:,,,,,\ngold-fish,several goldfish,in ink,sharks,in the sky,\nmissing,a,b,c,d,e\n"
    (tmp_path / "LOVEU-TGVE-2023_Dataset.csv").write_text(LOVEU + rows)
    read = Rows(*read_table(str(tmp_path)))
    found = read.check()
    assert [row.name for row in found[:4]] == [
        f"DAVIS_480p/gold-fish/{kind}" for kind in ("style", "object", "background", "multiple")
    ]
    assert [row.fault for row in found[:3]] == [""] * 3
    assert "Line 3: column Multiple Changes Caption is empty" in found[3].fault
    assert "Line 4: column Video name: there is no clip" in found[4].fault and len(found) == 5
    job = read.job(1, Path("o.mp4"))
    assert (job.video, job.source_prompt, job.prompt) == (str(folder), "several goldfish", "sharks")


def test_v2vbench_is_read_as_it_comes(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "hike.mp4").touch()
    (tmp_path / "config.yaml").write_text(
        "data:\n- video_id: hike\n  prompt: a man hikes\n  edit:\n  - prompt: a robot hikes\n  - prompt: in ink\n"
        "- video_id: gone\n  prompt: a\n  edit:\n  - prompt: b\n- video_id: x\n"
    )
    read = Rows(*read_table(str(tmp_path)))
    found = read.check()
    assert [row.name for row in found[:3]] == ["hike/0", "hike/1", "gone/0"]
    assert [bool(row.fault) for row in found] == [False, False, True, True]
    assert "Line 2" in found[2].fault and "unpack the whole data set" in found[2].fault
    job = read.job(1, Path("o.mp4"))
    assert (job.video, job.source_prompt, job.prompt) == (str(tmp_path / "videos/hike.mp4"), "a man hikes", "in ink")


def test_yaml_runs_no_code(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("!!python/object/apply:os.mkdir ['made']")
    with pytest.raises(ValueError, match="is no YAML"):
        read_table(str(tmp_path / "t.yaml"))


def test_rows_are_numbered_where_they_have_no_name(tmp_path: Path) -> None:
    assert [row.name for row in rows_of(tmp_path, edits(3)).check()] == ["1", "2", "3"]


def test_marks_of_other_programs_change_nothing(tmp_path: Path) -> None:
    head, row = "video,source_prompt,prompt,name", "c.mp4,a,b,é"
    for number, text in enumerate(
        (f"\ufeff{head}\n{row}\n", f"{head}\r\n{row}\r\n", f"{head}\r{row}\r", f"{head},\n{row},\n")
    ):
        (tmp_path / "t.csv").write_bytes(text.encode())
        (found,) = Rows(*read_table(str(tmp_path / "t.csv"))).check()
        assert (found.fault, found.name) == ("", "é"), number


@pytest.mark.parametrize(
    ("name", "content", "faults"),
    [
        ("t.csv", f"{','.join(GOOD)}\nc.mp4,a,{'x' * 2_000_000}\nc.mp4,a,b\n", ["Line 2: field larger", ""]),
        ("t.csv", f'{",".join(GOOD)}\nc.mp4,a,b\nc.mp4,a,"b\nc.mp4,a,b\n', ["", "Line 3: unexpected end of data"]),
        ("t.csv", f"{','.join(GOOD)}\nc\0.mp4,a,b\nc.mp4,a,b\n", ["Line 2, column video: .* is no path", ""]),
        (
            "t.jsonl",
            f"{json.dumps(GOOD | {'prompt': 'x' * 2_000_000})}\n{json.dumps(GOOD)}",
            ["Line 1: the line is", ""],
        ),
        ("t.jsonl", f"{json.dumps(GOOD | {'prompt': chr(0xD800)})}\n{json.dumps(GOOD)}", ["Line 1: no JSON", ""]),
        ("t.jsonl", f"{json.dumps(GOOD | {'video': ['c.mp4']})}\n{json.dumps(GOOD)}", ["Line 1, column video", ""]),
        ("t.jsonl", f'{json.dumps(GOOD)}\n{{"x":{"[" * 100_000}', ["", "Line 2: no JSON"]),
    ],
)
def test_an_odd_row_is_a_bad_row_and_the_others_run(tmp_path: Path, name: str, content: str, faults: list[str]) -> None:
    (tmp_path / name).write_text(content)
    for allowed in ((), (str(tmp_path),)):
        found = Rows(*read_table(str(tmp_path / name)), allowed=allowed).check()
        assert [bool(row.fault) for row in found] == [bool(fault) for fault in faults]
        assert all(re.match(fault, row.fault) for row, fault in zip(found, faults, strict=True)), found


def test_parquet_with_other_types_has_bad_rows_alone(tmp_path: Path) -> None:
    parquet, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    columns = {"video": ["c.mp4"] * 3, "source_prompt": ["a"] * 3, "prompt": pa.array([b"\xff", b"b", None])}
    parquet.write_table(pa.table(columns | {"num_frames": [4.0, 4.5, float("nan")]}), tmp_path / "t.parquet")
    faults = [row.fault for row in Rows(*read_table(str(tmp_path / "t.parquet"))).check()]
    assert re.match("Line 1, column prompt: .* text is expected", faults[0]) and all(faults)
    columns |= {"prompt": ["b"] * 3, "when": pa.array([0] * 3, pa.timestamp("s")), "list": [[1], None, []]}
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert [row.fault for row in Rows(*read_table(str(tmp_path / "t.parquet"))).check()] == [""] * 3


@pytest.mark.parametrize(
    "name", [".", "/", "x/", "./x", "x//y", "a/../b", "a./b", "results.csv/x", "report.html/x", "日" * 70, "a\u202eb"]
)
def test_names_that_cannot_be_written_or_spell_another_file_are_refused(tmp_path: Path, name: str) -> None:
    assert "column name: " in checked(tmp_path, GOOD | {"name": name}).fault


def test_names_that_some_file_systems_take_for_the_same_are_refused(tmp_path: Path) -> None:
    found = rows_of(tmp_path, [GOOD | {"name": "é"}, GOOD | {"name": "e\u0301"}, GOOD | {"name": "É"}]).check()
    assert [bool(row.fault) for row in found] == [False, True, True]


def test_a_file_system_that_cannot_be_reached_fails_its_row_alone(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    found, folder = read_table(str(write_csv(tmp_path / "t.csv", [GOOD, GOOD | {"video": "nowhere://b/c.mp4"}])))
    good, bad = Rows(found, folder).check()
    assert good.fault == "" and "Line 3, column video: nowhere://b/c.mp4 cannot be read" in bad.fault
