"""The commands on the bundled model."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from tav_core.cli.main import main
from tav_core.video import read_video, write_video
from tests.clips import caption_of, clip_of

ROOT = Path(__file__).parents[2]


def in_a_process_of_its_own(*arguments):
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tav_core", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def in_this_process(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main([*map(str, arguments)])
        except SystemExit as end:  # by argparse
            status = end.code
    return status, out.getvalue(), err.getvalue()


def tav(*arguments, ok=True, run=in_this_process):
    """What a command wrote to standard output, or to standard error where it is to fail."""
    status, out, err = run(*arguments)
    assert (status == 0) == ok, err
    return out if ok else err


@pytest.fixture
def video(tmp_path):
    """An odd-sized clip at 29.97 fps whose folder has a space and an umlaut in its name."""
    frames = np.pad(clip_of(8, coat="green").numpy(), ((0, 0), (0, 0), (11, 12), (0, 0)), mode="edge")
    path = tmp_path / "mein Földer" / "clip.mp4"
    write_video(path, frames, Fraction(30000, 1001))
    return path


def test_edit_writes_a_video_like_the_clip(video, tmp_path):
    output = tmp_path / "out" / "edit.mp4"
    tav(
        *("edit", "--video", video, "--source-prompt", caption_of(coat="green")),
        *("--prompt", caption_of(coat="blue"), "--output", output),
        *("--num-frames", 4, "--tuning-steps", 3, "--num-inference-steps", 4, "--guidance-scale", 5),
        run=in_a_process_of_its_own,
    )
    edit = read_video(output)
    assert edit.frames.shape == (4, 128, 128, 3)
    assert edit.fps == Fraction(30000, 1001)
    assert not torch.allclose(edit.frames, read_video(video, num_frames=4, width=128, height=128).frames, atol=0.1)


@pytest.mark.slow
def test_a_black_mask_preserves_the_clip_and_a_white_one_does_not(video, tmp_path):
    clip = read_video(video, num_frames=4, width=128, height=128).frames
    options = {"--video": video, "--source-prompt": caption_of(coat="green"), "--num-frames": 4}
    options |= {"--prompt": caption_of(coat="red", place="moon"), "--tuning-steps": 1, "--num-inference-steps": 5}
    changes = []
    for name, brightness in (("black", 0), ("white", 1)):
        mask, output = tmp_path / f"{name}-mask.mp4", tmp_path / f"{name}.mp4"
        write_video(mask, np.full((1, 64, 64, 3), brightness, np.float32), Fraction(8))
        more = {"--mask": mask, "--output": output, "--denoise": 0.8}
        arguments = [part for pair in (options | more).items() for part in pair]
        assert "--start-from" in tav("edit", *arguments, "--start-from", "inversion", ok=False)
        tav("edit", *arguments)
        changes.append(float((read_video(output).frames - clip).abs().mean()))
    assert 2 * changes[0] < changes[1]


@pytest.mark.slow
def test_strength_auto_writes_the_best_trial(video, tmp_path):
    options = {"--video": video, "--source-prompt": caption_of(coat="green"), "--num-frames": 2}
    options |= {"--prompt": caption_of(coat="red"), "--tuning-steps": 2, "--learning-rate": 0.01}
    arguments = [part for pair in (options | {"--num-inference-steps": 3}).items() for part in pair]
    output = tmp_path / "auto.mp4"
    lines = tav("edit", *arguments, "--output", output, "--strength", "auto").splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == [
        f"strength {share}" for share in ("0.25", "0.5", "0.75", "1")
    ]
    (taken,) = [line.split()[1].rstrip(":") for line in lines if line.endswith("(taken)")]
    tav("edit", *arguments, "--output", tmp_path / "by-hand.mp4", "--strength", taken)
    assert output.read_bytes() == (tmp_path / "by-hand.mp4").read_bytes()
    assert "a number or auto" in tav("edit", *arguments, "--output", output, "--strength", "x", ok=False)


def test_strength_scales_the_tuning(video, tmp_path):
    options = {"--video": video, "--source-prompt": caption_of(coat="green"), "--num-frames": 2}
    options |= {"--prompt": caption_of(coat="red"), "--tuning-steps": 2, "--learning-rate": 0.01}
    edits = []
    for strength in (1, 0):
        output = tmp_path / f"{strength}.mp4"
        more = {"--num-inference-steps": 3, "--output": output, "--strength": strength}
        tav("edit", *(part for pair in (options | more).items() for part in pair))
        edits.append(read_video(output).frames)
    assert (edits[0] - edits[1]).abs().mean() > 0.002  # 0 if it did nothing: the same seed writes the same bytes


@pytest.mark.slow
def test_width_and_height_set_the_size(video, tmp_path):
    tav(
        *("edit", "--video", video, "--source-prompt", "a", "--prompt", "b", "--output", tmp_path / "edit.gif"),
        *("--num-frames", 2, "--tuning-steps", 1, "--num-inference-steps", 2, "--width", 136, "--height", 104),
    )
    assert read_video(tmp_path / "edit.gif").frames.shape == (2, 104, 136, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--video": "missing.mp4"}, "missing.mp4"),
        ({"--device": "gpu"}, "cpu, cuda, cuda:1 or mps is expected, not 'gpu'"),
        ({"--device": "cuda:99"}, "The device cuda:99 cannot be used here"),
        ({"--device": "hpu"}, "The device hpu cannot be used here"),
        ({"--device": "meta"}, "The device meta cannot be used here"),
        ({"--num-inference-steps": "1001"}, "num_inference_steps must be a whole number from 1 to 1000, not 1001"),
        ({"--model": "missing-model"}, "no model folder at missing-model"),
        ({"--num-frames": "500"}, "ask for at most 8"),
        ({"--tuning-steps": "0"}, "steps must be a whole number"),
        ({"--num-inference-steps": "0"}, "num_inference_steps"),
        ({"--guidance-scale": "-1"}, "guidance_scale"),
        ({"--width": "100"}, "multiples of 8"),
        ({"--strength": "nan"}, "--strength must be a number in"),
        ({"--output": "edit.xyz"}, "xyz"),
    ],
)
def test_bad_input_is_one_sentence(video, tmp_path, change, words):
    options = {"--video": video, "--source-prompt": "a", "--prompt": "b", "--output": tmp_path / "edit.mp4"}
    options |= {"--num-frames": 4} | change
    said = tav("edit", *(part for pair in options.items() for part in pair), ok=False)
    assert words in said
    assert "tune:" not in said, "refused before anything is tuned"
    assert not (tmp_path / "edit.mp4").exists()


@pytest.mark.slow
def test_bad_input_ends_a_process_with_one_line(tmp_path):
    said = tav(
        *("edit", "--video", "missing.mp4", "--source-prompt", "a", "--prompt", "b", "--output", tmp_path / "edit.mp4"),
        ok=False,
        run=in_a_process_of_its_own,
    )
    assert said == "There is no file missing.mp4: check its name.\n"
