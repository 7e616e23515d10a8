"""Frames in memory are chosen as those of a file are."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from tav_core.video import Audio, VideoError, choose_frames, read_video, write_video

RATE = Fraction(30000, 1001)


@pytest.fixture(scope="module")
def frames():
    """20 frames of 48 x 64, each with a brightness of its own."""
    return torch.linspace(0.1, 0.9, 20)[:, None, None, None].expand(20, 48, 64, 3).contiguous()


@pytest.fixture(scope="module")
def sound():
    wave = np.sin(np.arange(16000) / 9).astype(np.float32) * 0.3
    return Audio(torch.from_numpy(wave)[None], 16000)


@pytest.mark.parametrize("start", [0.0, 0.05, 0.2, 0.51])
@pytest.mark.parametrize("stride", [1, 3])
def test_they_are_those_that_reading_the_file_would_choose(tmp_path, frames, sound, start, stride):
    file = write_video(tmp_path / "clip.mp4", frames, RATE, audio=sound, crf=0)
    request = dict(num_frames=2, start=start, stride=stride, width=64, height=48)
    expected, got = read_video(file, **request), choose_frames(frames, RATE, sound, **request)
    assert got.times == pytest.approx(expected.times)
    assert got.fps == expected.fps
    assert (got.frames - expected.frames).abs().max() < 0.02
    assert got.audio.samples.shape == expected.audio.samples.shape


@pytest.mark.parametrize(("fit", "black", "width"), [("crop", 0, 32), ("stretch", 0, 32), ("pad", 8, 32)])
def test_they_are_brought_to_a_size(frames, fit, black, width):
    clip = choose_frames(frames, 8, num_frames=2, width=width, height=32, fit=fit)
    assert clip.frames.shape == (2, 32, width, 3)
    assert (clip.frames[0, :, 0, 0] == 0).sum() == black  # a bar of 4 rows above and one below
    assert (clip.source_width, clip.source_height) == (64, 48)


def test_too_few_are_refused_with_the_number_there_is(frames):
    with pytest.raises(VideoError, match="has 7 frames from start=0 s with stride=3.*ask for at most 7"):
        choose_frames(frames, 8, num_frames=8, stride=3, width=64, height=48)
    with pytest.raises(VideoError, match="choose an earlier start"):
        choose_frames(frames, 8, start=9.0, width=64, height=48)


def test_sound_that_ends_before_the_clip_is_followed_by_silence(frames):
    short = Audio(torch.full((2, 100), 0.5), 1000)
    clip = choose_frames(frames, 10, short, num_frames=5, width=64, height=48)
    assert clip.audio.samples.shape == (2, 500)
    assert clip.audio.samples[:, :100].eq(0.5).all() and not clip.audio.samples[:, 100:].any()
    assert choose_frames(frames, 10, short, start=1.0, width=64, height=48).audio is None


@pytest.mark.parametrize(
    ("request_", "first", "count"),
    [
        (dict(skip_frames=3, stride=2, num_frames=4), 3, 4),
        (dict(skip_frames=18, stride=1, num_frames=5, fewer=True), 18, 2),
        (dict(fps=Fraction(15000, 1001), start=0.2, num_frames=30, fewer=True, width=32), 6, 8),
    ],
)
def test_skipped_frames_a_rate_and_fewer_frames_than_asked_for(tmp_path, frames, sound, request_, first, count):
    file = write_video(tmp_path / "clip.mp4", frames, RATE, audio=sound, crf=0)
    expected, got = read_video(file, **request_), choose_frames(frames, RATE, sound, **request_)
    assert got.times == pytest.approx(expected.times) and len(got.frames) == count
    assert got.times[0] == pytest.approx(first / RATE)
    assert (got.fps, got.frames.shape) == (expected.fps, expected.frames.shape)
    assert got.audio.samples.shape == expected.audio.samples.shape


def test_fewer_frames_still_need_one(frames):
    with pytest.raises(VideoError, match="has no frame from start=0 s with stride=1 and skip_frames=20"):
        choose_frames(frames, 8, num_frames=4, skip_frames=20, fewer=True)
    with pytest.raises(VideoError, match="give a later start"):
        choose_frames(frames, 8, skip_frames=1, fps=4)
