"""The edits that a data set lists."""

import pytest

from tav_core.evaluation import read_dataset

HEADER = (
    "Video name,Our GT caption,Style Change Caption,Object Change Caption,Background Change Caption,"
    "Multiple Changes Caption\n"
)


@pytest.fixture
def loveu(tmp_path):
    """Two videos in two parts of the set, with headings and a blank line; one edit is a file in place of a folder."""
    data, edits = tmp_path / "data", tmp_path / "edits"
    table = HEADER + (
        "DAVIS Videos:,,,,,\n"
        'gold-fish,"Fish, swimming",Fish in oil ,Sharks swim,Fish in the sky,Sharks in oil\n'
        ",,,,,\n"
        "Videvo Videos:,,,,,\n"
        "swans,Two swans,s,o,b,m\n"
    )
    (data / "DAVIS_480p" / "480p_frames" / "gold-fish").mkdir(parents=True)
    (data / "DAVIS_480p" / "480p_videos").mkdir()
    (data / "DAVIS_480p" / "480p_videos" / "gold-fish.mp4").touch()
    (data / "videvo_480p" / "480p_videos").mkdir(parents=True)
    (data / "videvo_480p" / "480p_videos" / "swans.mp4").touch()
    (data / "LOVEU-TGVE-2023_Dataset.csv").write_text(table)
    for kind in ("style", "object", "background", "multiple"):
        (edits / "DAVIS_480p" / "gold-fish" / kind).mkdir(parents=True)
        (edits / "videvo_480p" / "swans").mkdir(parents=True, exist_ok=True)
        (edits / "videvo_480p" / "swans" / f"{kind}.mp4").touch()
    return data, edits


def test_loveu_tgve_layout(loveu):
    data, edits = loveu
    items = read_dataset(data, edits)
    assert len(items) == 8
    first, last = items[0], items[-1]
    assert (first.video, first.kind, first.prompt) == ("gold-fish", "style", "Fish in oil")
    assert first.source_prompt == "Fish, swimming"
    assert first.source == data / "DAVIS_480p" / "480p_frames" / "gold-fish"
    assert first.edit == edits / "DAVIS_480p" / "gold-fish" / "style"
    assert (last.kind, last.prompt) == ("multiple", "m")
    assert last.source == data / "videvo_480p" / "480p_videos" / "swans.mp4"
    assert last.edit == edits / "videvo_480p" / "swans" / "multiple.mp4"


def test_missing_edits_are_named_and_counted(loveu):
    data, edits = loveu
    for kind in ("object", "style"):
        (edits / "videvo_480p" / "swans" / f"{kind}.mp4").unlink()
    with pytest.raises(ValueError, match="2 files .*swans/style"):
        read_dataset(data, edits)


def test_other_missing_files_and_columns(loveu, tmp_path):
    data, edits = loveu
    with pytest.raises(ValueError, match="--edits"):
        read_dataset(data)
    (data / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="2 CSV files"):
        read_dataset(data, edits)
    with pytest.raises(ValueError, match="columns"):
        read_dataset(data / "other.csv", edits)
    with pytest.raises(ValueError, match="0 CSV files"):
        read_dataset(tmp_path / "nowhere")
    (data / "videvo_480p" / "480p_videos" / "swans.mp4").unlink()
    with pytest.raises(ValueError, match="no source .*swans"):
        read_dataset(data / "LOVEU-TGVE-2023_Dataset.csv", edits)


def test_a_csv_list(tmp_path):
    for name in ("clip.mp4", "edit.mp4"):
        (tmp_path / name).touch()
    table = tmp_path / "list.csv"
    table.write_text("source,edit,source_prompt,prompt\nclip.mp4,edit.mp4,,a robot\n", encoding="utf-8-sig")
    (item,) = read_dataset(table)
    assert (item.source, item.edit) == (tmp_path / "clip.mp4", tmp_path / "edit.mp4")
    assert (item.video, item.kind, item.source_prompt, item.prompt) == ("clip", "edit", None, "a robot")
    table.write_text("source,edit,source_prompt,prompt\n")
    with pytest.raises(ValueError, match="no edits"):
        read_dataset(table)
