"""Kinds of files as people have them: seven small ones beside this file, and others that are made here.

Each file of `cases` shows numbered frames: the upper half holds the number's bits (25 or 230, the lowest first), the
lower half `PATCHES`. They were encoded by FFmpeg 5.1 and zimg from these values.
"""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tav_core import read_video, write_video
from tav_core.video import Audio, VideoError, check_output
from tav_core.video.colour import BT2020_PRIMARIES, HLG, PQ, Colours, to_bt709
from tav_core.video.sound import read_audio
from tests.video import test_video
from tests.video.test_video import expected_rgb, make, middle_rgb, solid, yuv_file

CASES = Path(__file__).parent / "cases"
RED, GREEN, BLUE, YELLOW, CYAN, MAGENTA, GREY, SKIN = range(8)
PATCHES = np.array(
    [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 0),
        (0, 255, 255),
        (255, 0, 255),
        (128, 128, 128),
        (200, 120, 60),
    ]
)
PLANES = test_video.TestColour.PLANES
LUMA = np.array([0.299, 0.587, 0.114])


def card(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A numbered frame with the patches, (h, w, 3) uint8."""
    bits = np.array([230 if number >> bit & 1 else 25 for bit in range(8)])[:, None].repeat(3, 1)
    rows = np.stack([bits, PATCHES]).astype(np.uint8)
    return np.kron(rows, np.ones((height // 2, width // 8, 1), np.uint8))


def cells(frames: torch.Tensor) -> np.ndarray:
    """The mean of the middle of each cell, (f, 2, 8, 3) in 0..255."""
    count, height, width, _ = frames.shape
    split = frames.reshape(count, 2, height // 2, 8, width // 8, 3)
    middle = split[:, :, height // 8 : 3 * height // 8, :, width // 32 : 3 * width // 32]
    return 255 * middle.mean((2, 4)).numpy()


def numbers(frames: torch.Tensor) -> list[int]:
    return [int(sum((bits[:, 1] > 127) << np.arange(8))) for bits in cells(frames)[:, 0]]


def patch_errors(frames: torch.Tensor, patches: np.ndarray = PATCHES) -> np.ndarray:
    """The worst error of each patch, (8,)."""
    return np.abs(cells(frames)[:, 1] - patches).max((0, 2))


class TestCases:
    @pytest.mark.parametrize("name", ["flv.flv", "anim.webp", "prores.mov"])
    def test_colours_and_numbers(self, name: str) -> None:
        clip = read_video(CASES / name)
        assert numbers(clip.frames) == list(range(24))
        assert patch_errors(clip.frames).max() <= 2

    def test_hlg(self) -> None:
        clip = read_video(CASES / "hlg.mov")
        errors = patch_errors(clip.frames)
        assert numbers(clip.frames) == list(range(8))
        assert errors[[GREY, SKIN]].max() <= 2 and errors.max() <= 30

    def test_sound_without_decoder(self) -> None:
        with pytest.warns(UserWarning, match=r"Sound track 1 of .*ac4.mp4 is in an unsupported codec: the clip has no"):
            clip = read_video(CASES / "ac4.mp4", num_frames=8)
        assert clip.audio is None
        assert numbers(clip.frames) == list(range(8)) and patch_errors(clip.frames).max() <= 2

    def test_alpha_of_vp9(self) -> None:
        frames = read_video(CASES / "vp9a.webm").frames
        errors = patch_errors(frames)
        assert errors[:4].max() <= 2
        assert cells(frames)[:, 1, 4:].max() == 0

    def test_monochrome_in_limited_range(self) -> None:
        frames = read_video(CASES / "av1gray.mp4").frames
        assert numbers(frames) == list(range(8))
        seen = cells(frames)[:, 0]
        assert np.minimum(np.abs(seen - 25), np.abs(seen - 230)).max() <= 2
        assert patch_errors(frames, (PATCHES @ LUMA)[:, None].repeat(3, 1)).max() <= 2


class TestHdr:
    """Codes of light on a display in cd/m2, by the formulas of ITU-R BT.2100, against the same light in SDR."""

    GREY = np.array([0.01, 0.1, 0.3, 0.6])  # of reference white

    @staticmethod
    def pq(light: np.ndarray) -> np.ndarray:
        power = (light * 203 / 10_000) ** (2610 / 16384)
        return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 4096 * 128)

    @staticmethod
    def hlg(light: np.ndarray) -> np.ndarray:
        scene = (light * 203 / 1000) ** (1 / 1.2)
        return np.where(
            scene <= 1 / 12,
            np.sqrt(3 * scene),
            0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073,
        )

    @pytest.mark.parametrize(("transfer", "curve"), [(PQ, pq), (HLG, hlg)])
    @pytest.mark.parametrize("kind", [np.uint8, np.uint16])
    def test_grey(self, transfer: int, curve: staticmethod, kind: type) -> None:
        top = np.iinfo(kind).max
        codes = np.round(curve(self.GREY) * top).astype(kind)[None, :, None].repeat(3, 2)
        converted = to_bt709(codes, Colours(9, BT2020_PRIMARIES, transfer, 1))
        limit = 1.5 if kind is np.uint8 else 0.1
        np.testing.assert_allclose(converted[0, :, 1] / top * 255, 255 * self.GREY ** (1 / 2.4), atol=limit)

    @pytest.mark.parametrize(("transfer", "peak"), [(PQ, 10_000 / 203), (HLG, 1000 / 203)])
    def test_highlights_keep_their_order(self, transfer: int, peak: float) -> None:
        codes = np.arange(0, 65536, 16, dtype=np.uint16)[None, :, None].repeat(3, 2)
        converted = to_bt709(codes, Colours(9, BT2020_PRIMARIES, transfer, 1))[0, :, 0].astype(int)
        assert (np.diff(converted) >= 0).all() and converted[-1] > 65500
        curve = TestHdr.pq if transfer == PQ else TestHdr.hlg
        index = np.searchsorted(codes[0, :, 0], 65535 * curve(np.array([1.0])))[0]
        assert 230 < converted[index] / 257 < 245  # reference white
        assert peak > 4

    @pytest.mark.parametrize("transfer", [1, 14])
    @pytest.mark.parametrize(("primaries", "matrix"), [
        (9, [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]),  # ITU-R BT.2087
        (12, [[0.8225, 0.1774, 0.0], [0.0332, 0.9669, 0.0], [0.0171, 0.0724, 0.9108]]),  # SMPTE EG 432-1
    ])  # fmt: skip
    def test_wide_gamut(self, primaries: int, matrix: list, transfer: int) -> None:
        wide = np.clip((PATCHES / 255) ** 2.4 @ np.array(matrix).T, 0, 1) ** (1 / 2.4)
        picture = np.round(wide * 65535).astype(np.uint16)[None]
        converted = to_bt709(picture, Colours(1, primaries, transfer, 1))[0] / 65535 * 255
        assert np.abs(converted - PATCHES)[[GREY, SKIN]].max() < 0.3
        # Rounded matrices leave some light in channels that should be dark, where the curve is steep.
        assert np.abs(converted - PATCHES).max() < 6

    def test_a_film_of_display_p3(self, tmp_path: Path) -> None:
        light = (PATCHES / 255) ** 2.4 @ np.array(
            [[0.8225, 0.1774, 0], [0.0332, 0.9669, 0], [0.0171, 0.0724, 0.9108]]
        ).T
        picture = np.kron(np.round(255 * light ** (1 / 2.4)), np.ones((48, 8, 1))).reshape(48, 64, 3).astype(np.uint8)
        path = make(tmp_path / "a.mkv", [picture] * 2, codec="ffv1", pix_fmt="bgr0", color_primaries=12, color_trc=1)
        frames = read_video(path).frames
        assert np.abs(255 * frames[0, 24, [52, 60]].numpy() - PATCHES[[GREY, SKIN]]).max() <= 1.5

    @pytest.mark.parametrize("matrix, name", [(8, "YCgCo"), (14, "ICtCp"), (10, "constant luminance")])
    def test_other_matrices_are_refused(self, tmp_path: Path, matrix: int, name: str) -> None:
        path = yuv_file(tmp_path / "a.mkv", "yuv444p", PLANES, "ffv1", colorspace=matrix, color_range=1)
        with pytest.raises(VideoError, match=rf"a.mkv are .*{name}.*, which is not supported: convert it to BT.709"):
            read_video(path)


class TestStatedColours:
    def test_a_matrix_in_the_container_alone(self, tmp_path: Path) -> None:
        """FFV1 stores none in its stream."""
        path = yuv_file(tmp_path / "a.mkv", "yuv444p", PLANES, "ffv1", colorspace=1, color_range=2)
        rgb = expected_rgb(PLANES, 0.2126, 0.0722, full=True)
        np.testing.assert_allclose(middle_rgb(read_video(path)), rgb, atol=1.2)

    @pytest.mark.parametrize("pix_fmt, wide", [("gray", 1), ("gray10le", 4)])
    @pytest.mark.parametrize("full", [False, True])
    def test_monochrome(self, tmp_path: Path, pix_fmt: str, wide: int, full: bool) -> None:
        level = 90 * wide
        path = yuv_file(tmp_path / "a.mkv", pix_fmt, (level,), "ffv1", color_range=2 if full else 1)
        expected = level / (1023 if wide == 4 else 255) * 255 if full else (90 - 16) / 219 * 255
        np.testing.assert_allclose(middle_rgb(read_video(path)), [expected] * 3, atol=0.6)

    def test_monochrome_h264_that_states_no_range_is_limited(self, tmp_path: Path) -> None:
        path = yuv_file(tmp_path / "a.mp4", "gray", (90,), "libx264")
        np.testing.assert_allclose(middle_rgb(read_video(path)), [(90 - 16) / 219 * 255] * 3, atol=1.2)


@pytest.mark.parametrize(
    "suffix, codec", [("flv", "flv"), ("mpg", "mpeg2video"), ("vob", "mpeg2video"), ("avi", "dvvideo")]
)
def test_containers_that_add_streams_while_they_are_read(tmp_path: Path, suffix: str, codec: str) -> None:
    size, pixels = ((480, 720), "yuv411p") if codec == "dvvideo" else ((48, 64), "yuv420p")
    path = make(tmp_path / f"a.{suffix}", [card(index, *size) for index in range(9)], test_video.NTSC, codec, pixels)
    clip = read_video(path, num_frames=6, width=64, height=48, fit="stretch")
    assert numbers(clip.frames) == list(range(6))


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_alpha_of_webm(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "a.webm"
    alpha = np.where(np.arange(64) < 32, 255, 0).astype(np.uint8)[None, :, None].repeat(48, 0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"auto-alt-ref": "0", "crf": "8", "b": "2M"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuva420p"
        for index in range(4):
            frame = av.VideoFrame.from_ndarray(np.concatenate([card(index), alpha], 2), format="rgba")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame.reformat(format="yuva420p")))
        container.mux(stream.encode(None))
    frames = read_video(path).frames
    assert numbers(frames) == list(range(4))
    assert float(frames[:, :, 36:].max()) == 0 and float(frames[:, 30, 4, 0].min()) > 0.9
    assert len(read_video(path, start=0.2, num_frames=2).frames) == 2


class TestPictures:
    @pytest.mark.parametrize("suffix", ["webp", "avif"])
    @pytest.mark.parametrize("mode", ["RGB", "RGBA"])
    def test_animations(self, tmp_path: Path, suffix: str, mode: str) -> None:
        path, pictures = tmp_path / f"a.{suffix}", [card(index) for index in range(6)]
        alpha = np.where(np.arange(64) < 32, 255, 0).astype(np.uint8)[None, :, None].repeat(48, 0)
        if mode == "RGBA":
            pictures = [np.concatenate([picture, alpha], 2) for picture in pictures]
        images = [Image.fromarray(picture) for picture in pictures]
        options = {"lossless": True} if suffix == "webp" else {"quality": 95, "subsampling": "4:4:4"}
        images[0].save(path, save_all=True, append_images=images[1:], duration=125, **options)
        clip = read_video(path)
        assert (len(clip.frames), clip.fps, clip.times[2]) == (6, 8, 0.25)
        assert numbers(clip.frames) == list(range(6))
        assert patch_errors(clip.frames)[: 4 if mode == "RGBA" else 8].max() <= (0 if suffix == "webp" else 6)
        assert mode == "RGB" or float(clip.frames[:, :, 32:].max()) == 0
        assert numbers(read_video(path, start=0.25, num_frames=3).frames) == [2, 3, 4]

    def test_durations_of_webp(self, tmp_path: Path) -> None:
        images = [Image.fromarray(card(index)) for index in range(4)]
        images[0].save(tmp_path / "a.webp", save_all=True, append_images=images[1:], duration=[50, 200, 10, 50])
        assert read_video(tmp_path / "a.webp").times == (0, 0.05, 0.25, 0.35)

    @pytest.mark.parametrize("size", [400, 1500])
    def test_truncated_animations_are_refused(self, tmp_path: Path, size: int) -> None:
        path = tmp_path / "a.webp"
        path.write_bytes((CASES / "anim.webp").read_bytes()[:size])
        with pytest.raises(VideoError, match=r"a.webp is truncated.*get a complete copy|Get a complete copy"):
            read_video(path)

    def test_a_webp_that_is_too_large_is_refused(self, tmp_path: Path) -> None:
        data = bytearray((CASES / "anim.webp").read_bytes())
        data[24:30] = b"\xff\x3f\x00\xff\x3f\x00"
        (tmp_path / "a.webp").write_bytes(data)
        with pytest.raises(VideoError, match="a.webp have 16384 x 16384 pixels; at most"):
            read_video(tmp_path / "a.webp")

    @pytest.mark.parametrize("mode", ["RGB", "YCbCr", "L"])
    def test_jpeg_in_tiff(self, tmp_path: Path, mode: str) -> None:
        image = Image.fromarray(card(5)).convert(mode)
        image.save(tmp_path / "a.tif", compression="jpeg", quality=95)
        expected = np.array(image.convert("RGB"))
        frame = read_video(tmp_path / "a.tif").frames
        assert patch_errors(frame, cells(torch.from_numpy(expected)[None] / 255)[0, 1]).max() <= 3
        assert torch.equal(read_video(tmp_path).frames, frame)  # in a folder

    def test_a_folder_of_avif(self, tmp_path: Path) -> None:
        for index in range(3):
            Image.fromarray(card(index)).save(tmp_path / f"{index}.avif", quality=95)
        assert numbers(read_video(tmp_path).frames) == [0, 1, 2]


@pytest.mark.parametrize(
    "suffix, milliseconds, shown",
    [("gif", 0, 0.1), ("gif", 10, 0.1), ("gif", 20, 0.02), ("gif", 50, 0.05), ("png", 10, 0.1), ("png", 50, 0.05)],
)
def test_short_delays_are_those_of_browsers(tmp_path: Path, suffix: str, milliseconds: int, shown: float) -> None:
    path = tmp_path / f"a.{suffix}"
    images = [Image.fromarray(card(index)) for index in range(30)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=milliseconds)
    clip = read_video(path, num_frames=5, start=shown * 20)
    assert numbers(clip.frames) == list(range(20, 25))
    np.testing.assert_allclose(np.diff(clip.times), shown)
    assert float(clip.fps) == pytest.approx(1 / shown)


class TestEditLists:
    """Phones and trimming apps write which part of a file is shown; a player shows nothing else."""

    def film(self, path: Path, start: int, count: int, gop: int) -> Path:
        """Twelve numbered frames, of which the edit list shows `count` from `start` on; a key frame every `gop`."""
        with av.open(str(path), "w", options={"use_editlist": "1"}) as container:
            stream = container.add_stream("libx264", rate=10, options={"crf": "4", "bf": "0", "g": str(gop)})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for number in range(12):
                frame = av.VideoFrame.from_ndarray(card(number), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 10)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        data, box = bytearray(path.read_bytes()), path.read_bytes().index(b"elst")
        version, entries = data[box + 4], int.from_bytes(data[box + 8 : box + 12], "big")
        assert (version, entries) == (0, 1), "as this FFmpeg writes it"
        whole = int.from_bytes(data[box + 12 : box + 16], "big")  # in units of the film
        media = bytes(data[data.index(b"mdhd") :])
        unit = int.from_bytes(media[16:20], "big") // 10  # of a frame, in units of the track
        data[box + 12 : box + 16] = (whole * count // 12).to_bytes(4, "big")
        data[box + 16 : box + 20] = (start * unit).to_bytes(4, "big")
        path.write_bytes(data)
        return path

    @pytest.mark.parametrize(("start", "count"), [(0, 12), (3, 6), (5, 7), (0, 4)])
    @pytest.mark.parametrize("gop", [1, 12])
    def test_only_what_is_shown_is_read(self, tmp_path: Path, start: int, count: int, gop: int) -> None:
        path = self.film(tmp_path / "phone.mp4", start, count, gop)
        clip = read_video(path)
        assert numbers(clip.frames) == list(range(start, start + count))
        assert clip.fps == 10
        assert numbers(read_video(path, start=0.2, num_frames=2).frames) == [start + 2, start + 3]


class TestTracks:
    def film(self, path: Path, default: int, kind: str) -> Path:
        """Two tracks of video, or a video and two of sound (quiet, loud); one of them is the default."""
        with av.open(str(path), "w") as container:
            video = [container.add_stream("ffv1", rate=10) for _ in range(2 if kind == "video" else 1)]
            sound = [
                container.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(2 if kind == "sound" else 0)
            ]
            for stream in video:
                stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
            for index, stream in enumerate(video if kind == "video" else sound):
                stream.disposition = av.stream.Disposition.default.value if index == default else 0
            for index, stream in enumerate(video):
                for number in range(4):
                    frame = av.VideoFrame.from_ndarray(solid(number + 10 * index), format="rgb24")
                    frame.pts, frame.time_base = number, Fraction(1, 10)
                    container.mux(stream.encode(frame))
            for index, stream in enumerate(sound):
                samples = np.full((1, 3200), 1000 * (1 + 9 * index), np.int16)
                frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
                container.mux(stream.encode(frame))
            for stream in [*video, *sound]:
                container.mux(stream.encode(None))
        return path

    @pytest.mark.parametrize("default", [0, 1])
    def test_the_default_video(self, tmp_path: Path, default: int) -> None:
        frames = read_video(self.film(tmp_path / "a.mkv", default, "video")).frames
        assert float(frames[1].mean()) * 255 == pytest.approx(16 + 6 * (1 + 10 * default), abs=0.5)

    @pytest.mark.parametrize("default", [0, 1])
    def test_the_default_sound(self, tmp_path: Path, default: int) -> None:
        audio = read_audio(self.film(tmp_path / "a.mkv", default, "sound"), Fraction(0), Fraction(1, 4))
        assert audio is not None
        assert float(audio.samples.mean()) * 32768 == pytest.approx(1000 * (1 + 9 * default), abs=1)

    def test_the_next_sound_in_place_of_one_without_decoder(self, tmp_path: Path) -> None:
        path = self.film(tmp_path / "a.mkv", 0, "sound")
        data = path.read_bytes()
        path.write_bytes(data.replace(b"A_PCM/INT/LIT", b"A_XYZ/INT/LIT", 1))
        with pytest.warns(UserWarning, match="Sound track 1 of .*a.mkv is in an unsupported codec: track 2 is taken"):
            clip = read_video(path)
        assert clip.audio is not None
        assert float(clip.audio.samples[:, 100:3000].mean()) * 32768 == pytest.approx(10_000, abs=1)


class TestInterlaced:
    def film(self, path: Path) -> list[int]:
        """A bar that moves by 4 px from field to field, bottom field first; its place in the first field of frames."""
        fields = [np.zeros((96, 128, 3), np.uint8) for _ in range(12)]
        for index, field in enumerate(fields):
            field[:, 8 + 4 * index : 24 + 4 * index] = 220
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"flags": "+ildct+ilme", "crf": "8"})
            stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
            for index, (first, second) in enumerate(zip(fields[::2], fields[1::2], strict=True)):
                picture = second.copy()
                picture[1::2] = first[1::2]
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return [8 + 8 * index for index in range(6)]

    def test_no_combing(self, tmp_path: Path) -> None:
        places = self.film(tmp_path / "a.mp4")
        clip = read_video(tmp_path / "a.mp4")
        assert (len(clip.frames), clip.fps, clip.times[3]) == (6, 25, 0.12)
        for frame, place in zip(clip.frames[1:-1], places[1:-1], strict=True):
            bar = frame[8:88, :, 1]
            assert float((bar[1:] - bar[:-1]).abs().mean()) < 0.01  # 0.05 with combing
            middle = int((bar.mean(0) * torch.arange(128)).sum() / bar.mean(0).sum())
            assert abs(middle - place - 8) <= 2


class TestEnd:
    def test_frames_up_to_the_end(self, tmp_path: Path) -> None:
        path = make(tmp_path / "a.mkv", [card(index) for index in range(20)], 10, "ffv1", "bgr0")
        assert numbers(read_video(path, start=0.5, end=0.8).frames) == [5, 6, 7]
        assert numbers(read_video(path, start=0.5, end=0.8, fps=20).frames) == [5, 5, 6, 6, 7, 7]
        with pytest.raises(VideoError, match="has 3 frames from start=0.5 s .* ask for at most 3"):
            read_video(path, start=0.5, end=0.8, num_frames=4)
        with pytest.raises(VideoError, match="end must be after start=1 s, not 0.5 s"):
            read_video(path, start=1, end=0.5)


class TestManyChannels:
    @pytest.mark.parametrize("layout, heard", [("6.1", 6), ("5.1.4", 9), ("hexadecagonal", 8)])
    def test_read_as_stereo(self, tmp_path: Path, layout: str, heard: int) -> None:
        """A tone in one channel of many is heard in stereo."""
        path, channels = tmp_path / "a.mkv", av.AudioLayout(layout).nb_channels
        tone = (8000 * np.sin(np.arange(8000) / 5)).astype(np.int16)
        samples = np.zeros((8000, channels), np.int16)
        samples[:, heard] = tone
        with av.open(str(path), "w") as container:
            video = container.add_stream("ffv1", rate=10)
            video.width, video.height, video.pix_fmt = 16, 16, "bgr0"
            sound = container.add_stream("pcm_s16le", rate=8000, layout=layout)
            for index in range(10):
                frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 10)
                container.mux(video.encode(frame))
            heard_frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
            heard_frame.sample_rate, heard_frame.pts, heard_frame.time_base = 8000, 0, Fraction(1, 8000)
            container.mux(sound.encode(heard_frame))
            container.mux([*sound.encode(None), *video.encode(None)])
        audio = read_video(path).audio
        assert audio is not None and audio.samples.shape == (2, 8000)
        assert float(audio.samples.abs().max()) > 0.02

    @pytest.mark.parametrize("channels", [7, 10, 16])
    @pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv", ".mov"])
    def test_written_as_stereo(self, tmp_path: Path, channels: int, suffix: str) -> None:
        samples = torch.sin(torch.arange(24000) / 20).repeat(channels, 1) * 0.5
        path = write_video(tmp_path / f"a{suffix}", torch.zeros(8, 16, 16, 3), 16, audio=Audio(samples, 48000))
        audio = read_video(path).audio
        assert audio is not None and len(audio.samples) == 2
        assert audio.samples[:, 4000:20000].abs().amax(1).tolist() == pytest.approx([0.5, 0.5], abs=0.05)


class TestForEditors:
    FRAMES = torch.rand(5, 30, 46, 3, generator=torch.Generator().manual_seed(3))

    def test_ffv1_is_lossless(self, tmp_path: Path) -> None:
        sound = Audio(torch.rand(2, 20_000, generator=torch.Generator().manual_seed(4)) - 0.5, 44_100)
        path = write_video(tmp_path / "a.mkv", self.FRAMES, Fraction(30000, 1001), audio=sound, crf=17)
        clip = read_video(path)
        assert torch.equal((clip.frames * 255).round(), (self.FRAMES * 255).round())
        assert clip.fps == Fraction(30000, 1001)
        assert clip.audio is not None and clip.audio.sample_rate == 44_100
        np.testing.assert_allclose(clip.audio.samples, sound.samples[:, : clip.audio.samples.shape[1]], atol=2**-22)
        with av.open(str(path)) as container:
            context = container.streams.video[0].codec_context
            assert context.name == "ffv1" and context.color_primaries == context.color_trc == 1

    def test_prores(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "a.mov", np.stack([card(index, 96, 128) for index in range(8)]), 24)
        clip = read_video(path)
        assert numbers(clip.frames) == list(range(8)) and patch_errors(clip.frames).max() <= 2
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            assert (context.name, context.profile, context.pix_fmt) == ("prores", "HQ", "yuv422p10le")
            assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)
            assert context.color_range != 2
            assert context.codec_tag == "apch"

    def test_prores_keeps_more_than_eight_bits(self, tmp_path: Path) -> None:
        ramp = torch.linspace(0.3, 0.32, 256)[None, None, :, None].expand(2, 64, 256, 3)
        frames = read_video(write_video(tmp_path / "a.mov", ramp, 8)).frames
        assert len(frames[0, 32, :, 1].unique()) > 8  # of 5 levels in 8 bits
        assert float((frames - ramp).abs().max()) < 0.002

    def test_odd_sizes(self, tmp_path: Path) -> None:
        for suffix, size in ((".mkv", (31, 47)), (".mov", (32, 48))):
            path = write_video(tmp_path / f"a{suffix}", torch.zeros(2, 31, 47, 3), 8)
            assert tuple(read_video(path).frames.shape[1:3]) == size


@pytest.mark.parametrize("name", ["x" * 252 + ".mp4", "x" * 256, "片" * 90 + ".webm", "x" * 256 + "/a.mp4"])
def test_names_that_are_too_long_are_refused_early(tmp_path: Path, name: str) -> None:
    with pytest.raises(VideoError, match=r"has 2[5-9]\d bytes; at most 255 can be written: choose a shorter one"):
        check_output(tmp_path / "new" / name)


def test_a_name_of_250_letters(tmp_path: Path) -> None:
    path = check_output(tmp_path / ("x" * 250 + ".mp4"))
    write_video(path, torch.zeros(2, 16, 16, 3), 8)
    write_video(path, torch.zeros(2, 16, 16, 3), 8)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
