"""Which edits a trial makes, and which pairs of them are compared."""

from collections import Counter
from pathlib import Path

import pytest

from tav_core.job.job import EditJob
from tav_core.trial.plan import WAYS, pairs, plan_trial, read_prompts

JOB = EditJob(video="clip.mp4", source_prompt="a red dog", prompt="", output=Path("x"))
CONTROLLED = EditJob(**vars(JOB) | dict(control=("demo-depth",), hint=("canny",), control_scale=(0.5,)))


def test_each_prompt_is_edited_by_each_way_at_each_strength(tmp_path: Path) -> None:
    edits = plan_trial(JOB, ["a blue dog", "a cat"], tmp_path)
    assert len(edits) == len({edit.video for edit in edits}) == 2 * 3 * 3
    assert [edit.label for edit in edits[::2]] == [
        f"{way}, {tuned}" for tuned in ("tuned", "strength 0.5", "not tuned") for way in WAYS
    ]
    assert {edit.job.prompt for edit in edits} == {"a blue dog", "a cat"}
    assert {edit.job.strength for edit in edits} == {1.0, 0.5, 0.0}
    starts = {edit.way: (edit.job.start_from, edit.job.changes) for edit in edits}
    assert starts == {
        "published": ("inversion", None),
        "content": ("source_branch", "content"),
        "look": ("source_branch", "look"),
    }
    assert {edit.job.store for edit in edits} == {tmp_path / "store"}


def test_controls_double_the_edits_and_the_first_half_is_without(tmp_path: Path) -> None:
    edits = plan_trial(CONTROLLED, ["a cat"], tmp_path, strengths=[1.0])
    assert [edit.control for edit in edits] == [False] * 3 + [True] * 3
    assert edits[0].job.control is edits[0].job.hint is edits[0].job.control_scale is None
    assert (edits[3].job.control, edits[3].job.hint, edits[3].job.control_scale) == (
        ("demo-depth",),
        ("canny",),
        (0.5,),
    )
    assert edits[3].label == "published with control, tuned"


def test_pairs_differ_in_one_thing_and_share_the_prompt(tmp_path: Path) -> None:
    edits = plan_trial(CONTROLLED, ["a cat", "a robot"], tmp_path, strengths=[1.0, 0.0])
    found = pairs(edits)
    kinds: Counter[str] = Counter()
    for first, second in found:
        assert first.prompt == second.prompt
        kinds[",".join(name for name in ("way", "strength", "control") if vars(first)[name] != vars(second)[name])] += 1
    # For each prompt: 3 pairs of ways in 4 settings, 1 pair of strengths in 6, 1 pair with and without control in 6.
    assert kinds == {"way": 2 * 3 * 4, "strength": 2 * 6, "control": 2 * 6}


def test_prompts_are_lines_without_empty_ones_and_comments(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\ufeff# edits\na blue dog\n\n  a cat, größer  \n", encoding="utf-8")
    assert read_prompts(file) == ["a blue dog", "a cat, größer"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"# nothing\n\n", "holds 0 prompts"), (b"a\nb\na\n", "a prompt twice"), (b"\xff\xfe\xfa", "not in UTF-8")],
)
def test_wrong_files_of_prompts_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_prompts(file)
    with pytest.raises(FileNotFoundError, match="one prompt a line"):
        read_prompts(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        (dict(num_frames=1), {}, "--num-frames must be a whole number from 2"),
        ({}, dict(strengths=[float("nan")]), "--strengths must be a number"),
        ({}, dict(ways=["best"]), "--ways must be one of"),
        (dict(control=("a",)), {}, "one --hint for each"),
        (dict(device="hpu"), {}, "hpu cannot be used here"),
    ],
)
def test_wrong_trials_are_refused_before_anything_is_loaded(
    tmp_path: Path, changes: dict, options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        plan_trial(EditJob(**vars(JOB) | changes), ["a cat"], tmp_path, **options)
