"""The sound of a video file during some of its frames, placed by its time stamps over silence."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.audio.stream import AudioStream
from av.container import InputContainer

from .channels import mixed
from .decode import CLOCK_RESET, SEEK_MARGIN, open_file
from .media import Audio, VideoError, is_truncated
from .tracks import sound_track

_MAX_SOUND_DRIFT = 0.05  # seconds between the time stamps of sound and its number of samples that count as rounding
_MAX_SAMPLES = 2**28  # of sound, in all channels: 46 minutes of stereo at 48 kHz, 1 GiB


def read_audio(path: Path, begin: Fraction, seconds: Fraction) -> Audio | None:
    """The sound track from `begin` (on the file's clock) for some seconds, silent where it has gaps.

    `sound_track` chooses it, and `mixed` mixes seven channels, or more than eight, to stereo.

    Returns:
        Samples (channels, round(seconds * sample_rate)), or None if the file has no sound within that time.

    Raises:
        VideoError: if the sound cannot be decoded or is too long.
    """
    samples, rate, overlaps = np.zeros((0, 0), np.float32), 0, False
    faults: list[av.FFmpegError] = []
    try:
        with open_file(path) as container:
            stream = sound_track(container, path)
            if stream is None:
                return None
            for position, rate, block in _sound_blocks(container, stream, begin, faults):
                if not samples.size:
                    samples = _silence(path, len(block), max(1, round(seconds * rate)))
                overlaps |= paste(samples, block, position)
                if position + block.shape[1] >= samples.shape[1]:
                    break
    except av.FFmpegError as error:
        if not is_truncated(path):  # the end of the sound is left out if all frames could be read
            faults.append(error)
    if faults and not samples.size:
        raise VideoError(f"The sound of {path} cannot be decoded ({faults[0]}): remove or convert it.") from faults[0]
    return mixed(Audio(torch.from_numpy(samples), rate)) if overlaps else None


def _silence(path: Path, channels: int, length: int) -> np.ndarray:
    """Silent samples (channels, length). Raises if they are too many: time stamps can put a few frames hours apart."""
    if channels * length > _MAX_SAMPLES:
        raise VideoError(
            f"The sound of {path} during the clip has {channels} x {length} samples; at most {_MAX_SAMPLES} can be "
            "read: request fewer frames, or remove the sound."
        )
    return np.zeros((channels, length), np.float32)


def _sound_blocks(
    container: InputContainer, stream: AudioStream, begin: Fraction, faults: list[av.FFmpegError]
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Sound from shortly before `begin` on: position of the first sample from `begin`, sample rate, (channels, n).

    Channels and rate are those of the first frame throughout. Packets that cannot be decoded are left out, and their
    errors are appended to `faults`.
    """
    if begin > SEEK_MARGIN:
        container.seek(int((begin - SEEK_MARGIN) * av.time_base))
    resampler, kind, first = None, None, None
    clock, left_out = _Clock(begin), 0
    for decoded in _decoded_sound(container, stream, faults):
        first = first or decoded
        if kind != (kind := (decoded.format.name, decoded.layout.name, decoded.sample_rate)):
            resampler = av.AudioResampler(format="flt", layout=first.layout, rate=first.sample_rate)
        assert resampler is not None
        for frame in resampler.resample(decoded):
            # Interleaved: PyAV cannot convert eight planar channels.
            block = frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T
            yield clock.place(frame, exactly=left_out < len(faults)), frame.sample_rate, block
            left_out = len(faults)


class _Clock:
    """Positions of successive frames of sound, in samples from `begin`."""

    def __init__(self, begin: Fraction) -> None:
        self.begin = begin
        self.position: int | None = None  # of the end of the last frame
        self.offset = 0

    def place(self, frame: av.AudioFrame, exactly: bool) -> int:
        """The end of the last frame, unless the time stamp shows a gap; with `exactly`, any difference from it."""
        place, rate = self.position, frame.sample_rate
        if frame.pts is not None and frame.time_base is not None:
            stamp = round((frame.pts * frame.time_base - self.begin) * rate) + self.offset
            if place is not None and stamp < place - CLOCK_RESET * rate:
                self.offset, stamp = self.offset + place - stamp, place
            if place is None or abs(stamp - place) > (0 if exactly else _MAX_SOUND_DRIFT * rate):
                place = stamp
        place = place or 0
        self.position = place + frame.samples
        return place


def _decoded_sound(
    container: InputContainer, stream: AudioStream, faults: list[av.FFmpegError]
) -> Iterator[av.AudioFrame]:
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.FFmpegError as fault:  # for example of a packet that begins before the position of a seek
            faults.append(fault)


def paste(samples: np.ndarray, block: np.ndarray, position: int) -> bool:
    """Copy the part of a block that lies within the samples. Returns whether there is one."""
    begin, end = max(position, 0), min(position + block.shape[1], samples.shape[1])
    if begin >= end:
        return False
    samples[:, begin:end] = block[:, begin - position : end - position]
    return True
