"""Reading real video: every file is made here with PyAV, and each frame says its own number by its brightness."""

import struct
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from tav_core.video import VideoError, choose_frames, decode, read_video

NTSC = Fraction(30000, 1001)


def solid(number, height=48, width=64):
    return np.full((height, width, 3), 16 + 6 * number, np.uint8)


def numbers(clip):
    """Which source frames a clip holds, read from their brightness."""
    return [round((float(frame.mean()) * 255 - 16) / 6) for frame in clip.frames]


def make(path, pictures, rate=NTSC, codec="libx264", pix_fmt="yuv420p", pts=None, time_base=None, options=None, **tags):
    """Encode pictures (h, w, 3) uint8, at frame numbers `pts` of `time_base` if given."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        if time_base is not None:
            stream.codec_context.time_base = time_base
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = index if pts is None else pts[index]
            frame.time_base = time_base or 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """36 numbered frames at 30000/1001 frames per second, a key frame each 12."""
    path = tmp_path_factory.mktemp("video") / "numbered.mp4"
    return make(path, [solid(number) for number in range(36)], gop_size=12, options={"movflags": "faststart"})


def yuv_file(path, pix_fmt, planes, codec, rate=10, **tags):
    """Two frames of one (Y, U, V[, A]) colour; yuv444 or 420, 8 or 10 bits, not touched by any conversion here."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        if codec == "libx264":
            stream.options = {"crf": "4"}
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for index in range(2):
            frame = av.VideoFrame(64, 48, pix_fmt)
            for plane, value in zip(frame.planes, planes, strict=True):
                wide = "10" in pix_fmt
                samples = np.full(plane.buffer_size // (2 if wide else 1), value, np.uint16 if wide else np.uint8)
                plane.update(samples.tobytes())
            frame.pts, frame.time_base = index, Fraction(1, rate)
            for name, value in tags.items():
                if hasattr(frame, name):
                    setattr(frame, name, value)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def expected_rgb(planes, kr, kb, bits=8, full=False):
    """ITU-R BT.601 / BT.709: R, G, B in 0..255 from the luma coefficients of red and blue."""
    y, u, v = (value / 2 ** (bits - 8) for value in planes[:3])
    y, u, v = (
        (y / 255, (u - 128) / 255, (v - 128) / 255) if full else ((y - 16) / 219, (u - 128) / 224, (v - 128) / 224)
    )
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    return 255 * np.array([red, (y - kr * red - kb * blue) / (1 - kr - kb), blue])


def middle_rgb(clip):
    height, width = clip.frames.shape[1:3]
    return 255 * clip.frames[0, height // 2, width // 2].numpy()


class TestWhichFrames:
    def test_all(self, numbered):
        clip = read_video(numbered)
        assert numbers(clip) == list(range(36))
        assert clip.frames.dtype == torch.float32 and clip.frames.shape == (36, 48, 64, 3)
        assert clip.fps == NTSC and clip.audio is None
        assert (clip.source_width, clip.source_height) == (64, 48)

    def test_reading_ends_where_the_caller_ends_it(self, numbered):
        calls = []
        read_video(numbered, num_frames=5, stride=3, before_frame=lambda: calls.append(1))
        assert 13 <= len(calls) <= 14  # each frame that was decoded, those left out too

        def stop():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            read_video(numbered, before_frame=stop)

    def test_stride_divides_the_rate_exactly(self, numbered):
        clip = read_video(numbered, num_frames=5, stride=3)
        assert numbers(clip) == [0, 3, 6, 9, 12]
        assert clip.fps == Fraction(10000, 1001)
        assert clip.times == pytest.approx([n * 1001 / 30000 for n in (0, 3, 6, 9, 12)])

    @pytest.mark.parametrize("start, first", [(0.0, 0), (0.016, 0), (0.018, 1), (0.5, 15), (1.1, 33), (1.19, 35)])
    def test_start_is_the_nearest_frame(self, numbered, start, first):
        assert numbers(read_video(numbered, num_frames=1, start=start)) == [first]

    def test_far_start_seeks_and_decodes_little(self, tmp_path, monkeypatch):
        pictures = [solid(number % 40, 16, 16) for number in range(1200)]
        path = make(tmp_path / "long.mp4", pictures, rate=30, gop_size=30, options={"movflags": "faststart"})
        decoded = []
        original = decode.TimedFrame
        monkeypatch.setattr(decode, "TimedFrame", lambda *values: decoded.append(values[0]) or original(*values))
        clip = read_video(path, num_frames=3, start=39.0)
        assert numbers(clip) == [1170 % 40, 1171 % 40, 1172 % 40]
        assert clip.times[0] == 39.0
        assert 3 <= len(decoded) <= 65 and decoded[0] > 36

    def test_target_rate_picks_nearest(self, numbered):
        clip = read_video(numbered, fps=8)
        moments = [Fraction(k, 8) for k in range(len(clip.frames))]
        assert numbers(clip) == [round(moment * NTSC) for moment in moments] == [0, 4, 7, 11, 15, 19, 22, 26, 30, 34]
        assert clip.fps == 8

    def test_target_rate_above_the_source_repeats(self, numbered):
        clip = read_video(numbered, fps=NTSC * 2, num_frames=6)
        assert numbers(clip) == [0, 0, 1, 1, 2, 2] and clip.fps == NTSC * 2

    def test_float_rate_means_the_fraction(self, numbered):
        assert read_video(numbered, fps=29.97, num_frames=2).fps == NTSC
        assert read_video(numbered, fps=12.5, num_frames=2).fps == Fraction(25, 2)

    def test_variable_rate(self, tmp_path):
        """Ten frames of 1/30 s, then ten of 1/10 s."""
        ticks = [*range(0, 40, 4), *range(40, 160, 12)]
        path = make(tmp_path / "vfr.mp4", [solid(n) for n in range(20)], rate=30, pts=ticks, time_base=Fraction(1, 120))
        assert numbers(read_video(path, fps=10, num_frames=10)) == [0, 3, 6, 9, 11, 12, 13, 14, 15, 16]
        plain = read_video(path)
        assert numbers(plain) == list(range(20))
        assert plain.times == pytest.approx([tick / 120 for tick in ticks])
        assert plain.fps == Fraction(19 * 120, ticks[-1])

    @pytest.mark.parametrize(
        "name, codec, pix_fmt",
        [
            ("a.mkv", "libx264", "yuv420p"),
            ("a.webm", "libvpx-vp9", "yuv420p"),
            ("a.avi", "mpeg4", "yuv420p"),
            ("a.ts", "libx264", "yuv420p"),
            ("a.mov", "prores_ks", "yuv422p10le"),
        ],
    )
    def test_containers_keep_29_97(self, tmp_path, name, codec, pix_fmt):
        path = make(tmp_path / name, [solid(number) for number in range(24)], codec=codec, pix_fmt=pix_fmt)
        clip = read_video(path, start=0.2)
        assert clip.fps == NTSC and numbers(clip) == list(range(6, 24))

    @pytest.mark.parametrize("name, options", [("a.mkv", {"live": "1"}), ("a.mp4", {"movflags": "frag_keyframe"})])
    def test_files_that_promise_no_length(self, tmp_path, name, options):
        path = make(tmp_path / name, [solid(number) for number in range(24)], gop_size=8, options=options)
        assert numbers(read_video(path)) == list(range(24))

    def test_gif(self, tmp_path):
        path = make(tmp_path / "a.gif", [solid(n) for n in range(24)], rate=8, codec="gif", pix_fmt="gray")
        clip = read_video(path, start=2.0, num_frames=4)
        assert clip.fps == 8 and numbers(clip) == [16, 17, 18, 19]


class TestImages:
    @pytest.fixture
    def folder(self, tmp_path):
        folder = tmp_path / "frames with space é"
        folder.mkdir()
        for number in (1, 2, 3, 9, 10, 11, 20):
            frame = av.VideoFrame.from_ndarray(solid(number), format="rgb24")
            frame.to_image().save(folder / f"shot{number}.png")
        (folder / "notes.txt").write_text("not an image")
        return folder

    def test_folder_in_natural_order(self, folder):
        clip = read_video(folder)
        assert numbers(clip) == [1, 2, 3, 9, 10, 11, 20] and clip.fps == 8

    def test_rate_stride_and_start(self, folder):
        assert read_video(folder, fps=NTSC).fps == NTSC
        clip = read_video(folder, stride=2, start=0.25)
        assert numbers(clip) == [3, 10, 20] and clip.fps == 4

    def test_pattern(self, folder):
        assert numbers(read_video(folder / "shot%d.png", num_frames=5)) == [1, 2, 3, 9, 10]
        with pytest.raises(VideoError, match=r"matches other%03d\.png"):
            read_video(folder / "other%03d.png")

    def test_damaged_image_is_named(self, folder):
        whole = (folder / "shot9.png").read_bytes()
        (folder / "shot9.png").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(VideoError, match=r"shot9\.png is damaged"):
            read_video(folder)

    def test_transparent_is_over_black(self, tmp_path):
        from PIL import Image

        for number, alpha in enumerate((255, 102, 0)):
            Image.new("RGBA", (8, 8), (200, 100, 50, alpha)).save(tmp_path / f"{number}.png")
        middles = 255 * read_video(tmp_path).frames[:, 4, 4].numpy()
        np.testing.assert_allclose(middles, [[200, 100, 50], [80, 40, 20], [0, 0, 0]], atol=0.6)

    def test_sixteen_bits_are_kept(self, tmp_path):
        levels = np.arange(40000, 40000 + 64, dtype=np.uint16).reshape(8, 8)
        frame = av.VideoFrame.from_ndarray(levels, format="gray16le").reformat(format="rgb48be")
        with av.open(str(tmp_path / "0.png"), "w", format="image2pipe") as container:
            stream = container.add_stream("png", rate=1)
            stream.width, stream.height, stream.pix_fmt = 8, 8, "rgb48be"
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        pixels = read_video(tmp_path).frames[0, ..., 0].numpy() * 65535
        np.testing.assert_allclose(pixels, levels, atol=1)


class TestColour:
    PLANES = (120, 90, 170)

    @pytest.mark.parametrize("matrix, kr, kb", [(1, 0.2126, 0.0722), (6, 0.299, 0.114), (5, 0.299, 0.114)])
    @pytest.mark.parametrize("full", [False, True])
    def test_stated_matrix_and_range(self, tmp_path, matrix, kr, kb, full):
        path = yuv_file(
            tmp_path / "a.mp4", "yuv420p", self.PLANES, "libx264", colorspace=matrix, color_range=2 if full else 1
        )
        np.testing.assert_allclose(middle_rgb(read_video(path)), expected_rgb(self.PLANES, kr, kb, full=full), atol=1.2)

    def test_full_range_of_vp9(self, tmp_path):
        path = yuv_file(tmp_path / "a.webm", "yuv420p", self.PLANES, "libvpx-vp9", colorspace=1, color_range=2)
        rgb = expected_rgb(self.PLANES, 0.2126, 0.0722, full=True)
        np.testing.assert_allclose(middle_rgb(read_video(path)), rgb, atol=2)

    def test_small_and_unstated_is_601(self, tmp_path):
        path = yuv_file(tmp_path / "a.mp4", "yuv420p", self.PLANES, "libx264")
        np.testing.assert_allclose(middle_rgb(read_video(path)), expected_rgb(self.PLANES, 0.299, 0.114), atol=1.2)

    def test_ten_bits(self, tmp_path):
        """Values between two 8-bit levels come back as such."""
        planes = (482, 362, 678)
        path = yuv_file(tmp_path / "a.mkv", "yuv420p10le", planes, "ffv1", colorspace=1, color_range=1)
        rgb = expected_rgb(planes, 0.2126, 0.0722, bits=10)
        middle = middle_rgb(read_video(path))
        np.testing.assert_allclose(middle, rgb, atol=1)
        brighter = (planes[0] + 2, *planes[1:])  # half an 8-bit level
        path = yuv_file(tmp_path / "b.mkv", "yuv420p10le", brighter, "ffv1", colorspace=1, color_range=1)
        brighter_rgb = middle_rgb(read_video(path))
        np.testing.assert_allclose(brighter_rgb - middle, 255 * 2 / 876, atol=0.25)

    def test_alpha_of_a_video(self, tmp_path):
        path = yuv_file(tmp_path / "a.mkv", "yuva420p", (*self.PLANES, 128), "ffv1", colorspace=1, color_range=1)
        rgb = expected_rgb(self.PLANES, 0.2126, 0.0722) * 128 / 255
        np.testing.assert_allclose(middle_rgb(read_video(path)), rgb, atol=1.2)


def corners():
    """64 x 48: red top left, green top right, blue bottom left, white bottom right."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32], picture[:24, 32:], picture[24:, :32], picture[24:, 32:] = (
        (220, 30, 30),
        (30, 220, 30),
        (30, 30, 220),
        (220, 220, 220),
    )
    return picture


def corner_names(clip):
    """The colours of the corners, clockwise from the top left."""
    frame = clip.frames[0]
    patches = [frame[4, 4], frame[4, -5], frame[-5, -5], frame[-5, 4]]
    return "".join("W" if (p > 0.5).all() else "RGB"[int(p.argmax())] for p in patches)


class TestGeometry:
    @pytest.mark.parametrize(
        "matrix, size, names",
        [
            ((1, 0, 0, 1), (64, 48), "RGWB"),
            ((0, 1, -1, 0), (48, 64), "BRGW"),  # a quarter turn clockwise: a phone held upright
            ((0, -1, 1, 0), (48, 64), "GWBR"),
            ((-1, 0, 0, -1), (64, 48), "WBRG"),
            ((-1, 0, 0, 1), (64, 48), "GRBW"),  # mirrored
        ],
    )
    def test_display_matrix(self, tmp_path, matrix, size, names):
        path = make(tmp_path / "a.mp4", [corners()] * 2)
        data = bytearray(path.read_bytes())
        place = data.index(b"tkhd") + 4 + 40  # ISO 14496-12, 8.3.2: the matrix of a version 0 track header
        for index, value in zip((0, 1, 3, 4), matrix, strict=True):
            data[place + 4 * index : place + 4 * index + 4] = struct.pack(">i", value << 16)
        path.write_bytes(data)
        clip = read_video(path)
        assert (clip.source_width, clip.source_height) == size
        assert tuple(clip.frames.shape[2:0:-1]) == size
        assert corner_names(clip) == names

    def test_non_square_pixels(self, tmp_path):
        path = make(tmp_path / "a.mp4", [corners()] * 2, sample_aspect_ratio=Fraction(3, 2))
        clip = read_video(path)
        assert clip.frames.shape[1:] == (48, 96, 3) and (clip.source_width, clip.source_height) == (96, 48)
        assert read_video(path, height=24).frames.shape[1:] == (24, 48, 3)

    def test_odd_size(self, tmp_path):
        path = make(tmp_path / "a.webm", [solid(9, 37, 51)] * 3, codec="libvpx-vp9")
        clip = read_video(path)
        assert clip.frames.shape == (3, 37, 51, 3) and numbers(clip) == [9, 9, 9]

    def test_one_side_keeps_the_shape(self, numbered):
        assert read_video(numbered, num_frames=1, width=128).frames.shape[1:] == (96, 128, 3)
        assert read_video(numbered, num_frames=1, height=24).frames.shape[1:] == (24, 32, 3)

    def test_fits(self, tmp_path):
        """A disc in a 120 x 60 picture stays a disc when cropped or padded; padded, all of the picture is there."""
        rows, columns = np.mgrid[:60, :120]
        disc = np.where((rows - 29.5) ** 2 + (columns - 59.5) ** 2 < 20**2, 235, 60)[..., None].repeat(3, 2)
        path = make(tmp_path / "a.mp4", [disc.astype(np.uint8)])

        def extent(fit):
            bright = read_video(path, width=90, height=90, fit=fit).frames[0].mean(2) > 0.6
            return int(bright.any(0).sum()), int(bright.any(1).sum())

        assert extent("crop") == pytest.approx((60, 60), abs=2)
        assert extent("pad") == pytest.approx((30, 30), abs=2)
        assert extent("stretch") == pytest.approx((30, 60), abs=2)
        cropped = read_video(path, width=90, height=90, fit="crop").frames
        assert torch.equal(read_video(path, width=90, height=90).frames, cropped)
        padded = read_video(path, width=90, height=90, fit="pad").frames[0]
        assert float(padded[:22].max()) == float(padded[-22:].max()) == 0 and float(padded[25:65].min()) > 0.15

    def test_shrinking_averages(self, tmp_path):
        board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
        path = make(tmp_path / "a.mkv", [board], codec="ffv1", pix_fmt="bgr0")
        frame = read_video(path, width=16, height=16).frames[0]
        assert 0.45 < float(frame.min()) <= float(frame.max()) < 0.55


class TestErrors:
    def raises(self, words, path, **arguments):
        with pytest.raises(VideoError, match=words):
            read_video(path, **arguments)

    def test_missing_empty_and_strange(self, tmp_path):
        self.raises("There is no file .*gone.mp4", tmp_path / "gone.mp4")
        self.raises("holds no images", tmp_path)
        (tmp_path / "empty.mp4").touch()
        self.raises("empty.mp4 is empty", tmp_path / "empty.mp4")
        (tmp_path / "text.mp4").write_text("hello\n" * 500)
        self.raises("text.mp4 is not a video", tmp_path / "text.mp4")
        (tmp_path / "text.txt").write_text("FFmpeg's tty format would make pictures of this\n" * 50)
        self.raises("text.txt is not a video", tmp_path / "text.txt")
        (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
        self.raises("noise.mp4 is not a video", tmp_path / "noise.mp4")

    def test_sound_only(self, tmp_path):
        with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as container:
            stream = container.add_stream("aac", rate=48000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 48000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        self.raises("no video stream", tmp_path / "a.m4a")

    @pytest.mark.parametrize("name", ["http://x/a.mp4", "concat:a.mp4|b.mp4", "rtsp://x", "file:a.mp4", "data:,x"])
    def test_addresses_are_refused(self, name):
        self.raises("is a URL", name)

    def test_scripts_do_not_open_other_files(self, numbered, tmp_path):
        (tmp_path / "a.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{numbered}\n#EXT-X-ENDLIST\n")
        self.raises("not a video", tmp_path / "a.m3u8")
        (tmp_path / "a.mp4").write_text(f"ffconcat version 1.0\nfile '{numbered}'\n")
        self.raises("not a video", tmp_path / "a.mp4")

    def test_shorter_than_asked(self, numbered):
        self.raises("has 36 frames from start=0 s with stride=1.* at most 36", numbered, num_frames=37)
        self.raises(
            "has 6 frames from start=0.2 s with stride=5.* at most 6", numbered, num_frames=9, start=0.2, stride=5
        )

    def test_the_largest_number_named_works(self, numbered):
        with pytest.raises(VideoError) as error:
            read_video(numbered, num_frames=50, start=0.3, fps=7)
        most = int(str(error.value).split("at most ")[1].rstrip("."))
        assert len(read_video(numbered, num_frames=most, start=0.3, fps=7).frames) == most
        self.raises(f"at most {most}", numbered, num_frames=most + 1, start=0.3, fps=7)

    def test_start_past_the_end(self, numbered):
        self.raises(r"lasts 1\.201 s and has no frame from start=5 s", numbered, start=5)

    def test_truncated_with_index_in_front(self, numbered, tmp_path):
        data = numbered.read_bytes()
        path = tmp_path / "cut.mp4"
        path.write_bytes(data[: len(data) * 5 // 6])
        with pytest.raises(VideoError, match="truncated") as error:
            read_video(path)
        most = int(str(error.value).split("at most ")[1].rstrip("."))
        assert 2 < most < 36
        assert numbers(read_video(path, num_frames=most)) == list(range(most))
        self.raises("truncated", path, num_frames=most + 1)

    @pytest.mark.parametrize(
        "name, codec, pix_fmt",
        [
            ("a.mp4", "libx264", "yuv420p"),
            ("a.mkv", "libx264", "yuv420p"),
            ("a.webm", "libvpx-vp9", "yuv420p"),
            ("a.avi", "mpeg4", "yuv420p"),
            ("a.gif", "gif", "gray"),
        ],
    )
    def test_truncated(self, tmp_path, name, codec, pix_fmt):
        rng = np.random.default_rng(0)
        pictures = [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(12)]
        path = make(tmp_path / name, pictures, rate=10, codec=codec, pix_fmt=pix_fmt)
        assert len(read_video(path).frames) == 12
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        self.raises("truncated", path, num_frames=12)
        self.raises("truncated", path)

    @pytest.mark.parametrize(
        "words, arguments",
        [
            ("num_frames must be a whole number from 1 to .*, not 0", {"num_frames": 0}),
            ("start must be", {"start": -1.0}),
            ("start must be", {"start": float("nan")}),
            ("stride must be a whole number from 1", {"stride": 0}),
            ("give one of them", {"stride": 2, "fps": 8}),
            ("fps must be from 0.001 to 1000", {"fps": float("nan")}),
            ("fps must be from 0.001 to 1000", {"fps": 0}),
            ("width must be a whole number from 1", {"width": 0}),
            ("fit must be one of", {"fit": "squash"}),
        ],
    )
    def test_bad_arguments(self, numbered, words, arguments):
        self.raises(words, numbered, **arguments)

    def test_opencv_missing(self, numbered, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "cv2", None)
        assert len(read_video(numbered, num_frames=1).frames) == 1
        self.raises("opencv-python-headless", numbered, num_frames=1, width=32)


class TestPlaceInTime:
    """39 numbered frames at 10 a second, with B-frames, in formats that seek badly or know no time of presentation."""

    @staticmethod
    def made(path, **options):
        return make(path, [solid(number) for number in range(39)], rate=10, max_b_frames=2, **options)

    @pytest.mark.parametrize("name", ["a.ts", "a.avi", "a.h264", "a.mp4", "a.mkv"])
    @pytest.mark.parametrize("gop_size", [12, 250])
    def test_start(self, tmp_path, name, gop_size):
        path = self.made(tmp_path / name, gop_size=gop_size)
        for start in (0.0, 1.5, 2.5, 3.0):
            clip = read_video(path, start=start, num_frames=4)
            first = round(10 * start)
            assert numbers(clip) == [first, first + 1, first + 2, first + 3], start
            assert name.endswith("h264") or clip.fps == 10  # a raw stream tells no rate

    def test_recordings_that_were_joined_play_one_after_the_other(self, tmp_path):
        one = self.made(tmp_path / "one.ts").read_bytes()
        (tmp_path / "two.ts").write_bytes(one + one)
        clip = read_video(tmp_path / "two.ts", num_frames=78)
        assert clip.fps == 10 and numbers(clip) == [*range(39)] * 2
        assert all(later > earlier for earlier, later in pairwise(clip.times))


def photo(path, orientation=None):
    """The corners on a grid fine enough that the file is as large as a photo's, with an EXIF orientation."""
    picture = corners().repeat(8, 0).repeat(8, 1)
    noise = np.random.default_rng(0).integers(-20, 20, picture.shape)
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.fromarray((picture + noise).clip(0, 255).astype(np.uint8)).save(path, exif=exif)
    return path


class TestPhotos:
    @pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"])
    def test_a_folder_of_them(self, tmp_path, suffix):
        for number in range(3):
            photo(tmp_path / f"{number:05}{suffix}")
        clip = read_video(tmp_path)
        assert clip.frames.shape == (3, 384, 512, 3) and corner_names(clip) == "RGWB"
        assert corner_names(read_video(tmp_path / f"00000{suffix}")) == "RGWB"

    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
    @pytest.mark.parametrize(("orientation", "names"), [(1, "RGWB"), (3, "WBRG"), (6, "BRGW"), (8, "GWBR")])
    def test_orientation(self, tmp_path, suffix, orientation, names):
        assert corner_names(read_video(photo(tmp_path / f"a{suffix}", orientation))) == names
        with Image.open(tmp_path / f"a{suffix}") as image:
            turned = np.asarray(ImageOps.exif_transpose(image))
        difference = read_video(tmp_path / f"a{suffix}").frames.numpy() * 255 - turned
        assert np.abs(difference).mean() < 2


@pytest.mark.parametrize("name", ["beach,sunset.mp4", "scene: one.mp4"])
def test_names_with_a_comma_or_a_colon(tmp_path, monkeypatch, numbered, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(numbered.read_bytes())
    assert numbers(read_video(name, num_frames=2)) == [0, 1]


def test_frames_in_memory_stay_within_their_range_when_they_are_enlarged():
    pictures = torch.rand(2, 16, 16, 3, generator=torch.Generator().manual_seed(0)).round()
    enlarged = choose_frames(pictures, 8, width=64, height=64).frames
    assert enlarged.min() == 0 and enlarged.max() == 1
