"""Writing video: what a browser needs, colours, rates and sound after a round trip, and failures that harm nothing."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from tav_core.video import Audio, VideoError, encode, read_video, streams, write_video

NTSC = Fraction(30000, 1001)
PATCHES = torch.tensor(
    [
        *([230, 30, 30], [30, 200, 40], [40, 50, 220], [240, 240, 240]),
        *([15, 15, 15], [220, 200, 20], [128, 128, 128], [180, 60, 200]),
    ]
)


def patches(count=6, height=64, width=128):
    """Eight patches of colour side by side, the same in each frame: (f, h, w, 3) in [0, 1]."""
    row = (PATCHES / 255).repeat_interleave(width // 8, 0)
    return row.expand(count, height, -1, -1).clone()


def patch_error(clip):
    """The largest error of a patch's mean colour, in levels of 255."""
    width = clip.frames.shape[2] // 8
    means = torch.stack([clip.frames[:, 8:-8, k * width + 4 : (k + 1) * width - 4].mean((0, 1, 2)) for k in range(8)])
    return float((255 * means - PATCHES).abs().max())


def tone(seconds, rate=44100, channels=2):
    """440 Hz on the left, 880 Hz on the right, silent for the first half."""
    time = torch.arange(int(seconds * rate)) / rate
    samples = torch.stack([0.5 * torch.sin(2 * torch.pi * 440 * (k + 1) * time) for k in range(channels)])
    samples[:, : samples.shape[1] // 2] = 0
    return Audio(samples, rate)


def pitch(samples, rate):
    return float(np.abs(np.fft.rfft(samples.numpy())).argmax() * rate / len(samples))


def leftovers(folder):
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("name, limit", [("a.mp4", 3), ("a.webm", 3), ("a.gif", 4), ("a", 0.6)])
def test_colours_survive(tmp_path, name, limit):
    path = write_video(tmp_path / name, patches(), 8)
    assert patch_error(read_video(path)) <= limit


@pytest.mark.parametrize("size", [(64, 128), (720, 1280)])
def test_colours_do_not_depend_on_size(tmp_path, size):
    path = write_video(tmp_path / "a.mp4", patches(2, *size), 8)
    assert patch_error(read_video(path)) <= 3


def test_a_browser_plays_the_mp4(tmp_path):
    path = write_video(tmp_path / "a.mp4", patches(), NTSC, audio=tone(0.2))
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.pix_fmt) == ("h264", "yuv420p")
        assert audio.codec_context.name == "aac"
        context = video.codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)


def test_webm_codecs_and_tags(tmp_path):
    path = write_video(tmp_path / "a.webm", patches(), NTSC, audio=tone(0.2))
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert context.name == "vp9" and container.streams.audio[0].codec_context.name == "opus"
        assert (context.colorspace, context.color_range) == (1, 1)


@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
@pytest.mark.parametrize("rate", [NTSC, Fraction(24000, 1001), Fraction(15000, 1001), Fraction(8), Fraction(25, 2)])
def test_rate_is_exact(tmp_path, name, rate):
    path = write_video(tmp_path / name, patches(10), rate)
    assert read_video(path).fps == rate
    assert read_video(write_video(path, patches(10), float(rate))).fps == rate
    assert read_video(path, fps=np.float32(rate), num_frames=2).fps == rate


@pytest.mark.parametrize("rate", [8, 10, 12, 25])
def test_gif_rate(tmp_path, rate):
    clip = read_video(write_video(tmp_path / "a.gif", torch.rand(30, 8, 8, 3), rate))
    assert clip.fps == rate and len(clip.frames) == 30
    assert clip.times[-1] == pytest.approx(29 / rate, abs=0.01)


@pytest.mark.parametrize(("rate", "stride"), [(50, 1), (60, 2), (120, 3), (240, 5), (1000, 20)])
def test_a_gif_of_more_frames_than_players_show_leaves_some_out(tmp_path, rate, stride):
    frames = torch.rand(40, 8, 8, 3, generator=torch.Generator().manual_seed(0)).round()
    clip = read_video(write_video(tmp_path / "a.gif", frames, rate))
    assert clip.fps == pytest.approx(rate / stride, rel=0.05)
    torch.testing.assert_close(clip.frames, frames[::stride], rtol=0, atol=0.02)


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "folder"])
def test_order_and_count(tmp_path, name):
    levels = torch.arange(20, 240, 10) / 255
    path = write_video(tmp_path / name, levels.view(-1, 1, 1, 1).expand(-1, 32, 32, 3), 8)
    means = read_video(path).frames.mean((1, 2, 3))
    assert torch.allclose(means, levels, atol=2 / 255)


def test_odd_sizes(tmp_path):
    frames = torch.rand(3, 37, 51, 3, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    padded = read_video(write_video(tmp_path / "a.mp4", frames, 8, crf=4)).frames
    assert padded.shape == (3, 38, 52, 3)
    assert (padded[:, -1, :-1] - padded[:, -2, :-1]).abs().mean() < 0.02  # the last row twice
    assert read_video(write_video(tmp_path / "a.webm", frames, 8)).frames.shape == (3, 37, 51, 3)
    assert read_video(write_video(tmp_path / "a.gif", frames, 8)).frames.shape == (3, 37, 51, 3)
    exact = read_video(write_video(tmp_path / "a", frames, 8)).frames
    assert float((exact - frames).abs().max()) <= 0.5 / 255 + 1e-6


def test_kinds_of_frames(tmp_path):
    frames = patches(2)
    bytes_ = (frames * 255).round().to(torch.uint8)
    kinds = [bytes_, bytes_.numpy(), frames.double(), frames.numpy(), frames.half(), frames.bfloat16()]
    for index, kind in enumerate(kinds):
        clip = read_video(write_video(tmp_path / str(index), kind, 8))
        assert patch_error(clip) < 1.1, kind.dtype


def test_crf_changes_the_size(tmp_path):
    frames = torch.rand(4, 64, 64, 3)
    sizes = [write_video(tmp_path / "a.mp4", frames, 8, crf=crf).stat().st_size for crf in (10, 30, 45)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_the_same_frames_give_the_same_bytes_wherever_their_memory_lies(tmp_path):
    rng = np.random.default_rng(0)
    noisy = (patches(4, 64, 64) + 0.02 * torch.randn(4, 64, 64, 3, generator=torch.Generator().manual_seed(0))).clamp(
        0, 1
    )
    held, files = [], set()
    for _ in range(25):  # x264's assembly gave four kinds of file in as many tries
        held = [*held[-10:], np.ones(int(rng.integers(1, 200_000)))]
        files.add(write_video(tmp_path / "a.mp4", noisy, 8).read_bytes())
    assert len(files) == 1


def test_metadata(tmp_path):
    texts = {"prompt": "a “jeep” — 吉普车", "comment": "x"}
    for name in ("a.mp4", "a.webm"):
        with av.open(str(write_video(tmp_path / name, patches(2), 8, metadata=texts))) as container:
            found = {key.lower(): value for key, value in container.metadata.items()}
        assert {key: found.get(key) for key in texts} == texts
    from PIL import Image

    folder = write_video(tmp_path / "a", patches(2), 8, metadata=texts)
    assert Image.open(folder / "frame_00001.png").text == texts


class TestSound:
    @pytest.mark.parametrize("name, rate", [("a.mp4", 44100), ("a.webm", 48000)])
    @pytest.mark.parametrize("sample_rate", [44100, 22050])
    def test_round_trip(self, tmp_path, name, rate, sample_rate):
        path = write_video(tmp_path / name, patches(20), 10, audio=tone(2, sample_rate))
        audio = read_video(path).audio
        rate = sample_rate if name == "a.mp4" else rate
        assert audio.sample_rate == rate and audio.samples.shape == (2, 2 * rate)
        assert audio.samples.dtype == torch.float32
        loud = audio.samples[:, rate + rate // 10 : 2 * rate - rate // 10]
        assert pitch(loud[0], rate) == pytest.approx(440, abs=3)
        assert pitch(loud[1], rate) == pytest.approx(880, abs=3)
        assert float(loud.pow(2).mean().sqrt()) == pytest.approx(0.5 / 2**0.5, rel=0.05)
        assert float(audio.samples[:, -rate // 50 :].pow(2).mean().sqrt()) > 0.25
        onset = int((audio.samples[0].abs() > 0.1).nonzero()[0])
        assert onset / rate == pytest.approx(1.0, abs=0.01)

    def test_span_of_the_frames(self, tmp_path):
        """Frames 15 to 18 of 10 a second are the time from 1.5 to 1.9 s; sound begins at 1.7 s."""
        samples = torch.zeros(1, 2 * 48000)
        samples[0, int(1.7 * 48000) :] = 0.4 * torch.sin(torch.arange(int(0.3 * 48000)) * 0.1)
        path = write_video(tmp_path / "a.mp4", patches(20), 10, audio=Audio(samples, 48000))
        for arguments in ({"stride": 1}, {"fps": 10}):
            audio = read_video(path, start=1.5, num_frames=4, **arguments).audio
            assert audio.samples.shape == (1, round(0.4 * 48000))
            onset = int((audio.samples[0].abs() > 0.1).nonzero()[0]) / 48000
            assert onset == pytest.approx(0.2, abs=0.01)

    def test_short_sound_is_followed_by_silence(self, tmp_path):
        path = write_video(tmp_path / "a.mp4", patches(20), 10, audio=tone(1, 48000))
        audio = read_video(path).audio
        assert audio.samples.shape == (2, 96000)
        assert float(audio.samples[:, 30000:40000].abs().max()) > 0.4
        assert float(audio.samples[:, 52000:].abs().max()) < 0.01
        assert read_video(path, start=1.5).audio is None

    def test_truncated_file_gives_the_sound_there_is(self, tmp_path):
        path = write_video(tmp_path / "a.mp4", torch.rand(40, 48, 64, 3), 10, audio=tone(4))
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
        with pytest.raises(VideoError, match="truncated") as error:
            read_video(path)
        most = int(str(error.value).split("at most ")[1].rstrip("."))
        assert most > 24
        audio = read_video(path, num_frames=most).audio
        assert audio.samples.shape == (2, round(most * 4410))
        assert float(audio.samples[:, : 2 * 44100 - 2000].abs().max()) < 0.01
        assert float(audio.samples[:, 2 * 44100 : 2 * 44100 + 2000].abs().max()) > 0.4

    @pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 8])
    @pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
    def test_each_channel_keeps_its_place(self, tmp_path, name, channels):
        samples = 0.5 * torch.eye(channels).repeat_interleave(4800, 1)  # one after the other, each alone
        samples *= torch.sin(torch.arange(samples.shape[1]) * 0.01)  # 76 Hz, which a channel for basses has too
        path = write_video(tmp_path / name, patches(channels), 10, audio=Audio(samples, 48000))
        heard = read_video(path).audio.samples
        loudness = heard.unflatten(1, (channels, 4800))[:, :, 500:-500].square().mean(-1)
        opus_of_five = (name, channels) == ("a.webm", 5)  # FFmpeg itself turns three of them round
        assert loudness.argmax(0).tolist() == ([0, 1, 4, 2, 3] if opus_of_five else list(range(channels)))
        assert loudness.amax(0).min() > 0.05

    def test_a_damaged_packet_is_silence(self, tmp_path):
        audio = Audio(tone(2, 48000).samples.roll(48000, 1), 48000)  # loud for the first half
        path = write_video(tmp_path / "a.mp4", patches(20), 10, audio=audio)
        whole = read_video(path).audio.samples
        with av.open(str(path)) as container:
            packets = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.size]
        content = bytearray(path.read_bytes())
        begin, size = packets[20]
        content[begin : begin + size] = b"\xff" * size
        path.write_bytes(content)
        heard = read_video(path).audio.samples
        different = ((heard - whole).abs().amax(0) > 0.01).nonzero()
        assert heard.shape == whole.shape and 0 < len(different) < 5 * 1024

    def test_sound_that_cannot_be_decoded_at_all_is_said(self, tmp_path):
        path = write_video(tmp_path / "a.mp4", patches(20), 10, audio=tone(2, 48000))
        with av.open(str(path)) as container:
            packets = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.size]
        content = bytearray(path.read_bytes())
        for begin, size in packets:
            content[begin : begin + size] = b"\xff" * size
        path.write_bytes(content)
        with pytest.raises(VideoError, match=r"The sound of .* cannot be decoded"):
            read_video(path)

    def test_channels_that_change_on_the_way_become_those_of_the_beginning(self, tmp_path):
        parts = []
        for layout in ("stereo", "5.1"):
            with av.open(str(tmp_path / "part.ts"), "w") as container:
                film, sound = container.add_stream("mpeg2video", rate=25), container.add_stream("aac", rate=48000)
                film.width, film.height, film.pix_fmt, sound.layout = 64, 48, "yuv420p", layout
                for index in range(50):
                    picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 128, np.uint8), format="rgb24")
                    picture.pts, picture.time_base = index, Fraction(1, 25)
                    container.mux(film.encode(picture))
                    block = np.full((1, 1920 * sound.layout.nb_channels), 0.1, np.float32)
                    frame = av.AudioFrame.from_ndarray(block, format="flt", layout=layout)
                    frame.sample_rate, frame.pts, frame.time_base = 48000, 1920 * index, Fraction(1, 48000)
                    container.mux(sound.encode(frame))
                for stream in (film, sound):
                    container.mux(stream.encode(None))
            parts.append((tmp_path / "part.ts").read_bytes())
        (tmp_path / "both.ts").write_bytes(b"".join(parts))
        clip = read_video(tmp_path / "both.ts", num_frames=90)
        assert clip.audio.samples.shape == (2, round(90 / clip.fps * 48000))
        assert clip.audio.samples[:, 10_000:90_000].amin() > 0.05 < clip.audio.samples[:, 110_000:160_000].amin()

    def test_long_sound_is_cut(self, tmp_path):
        path = write_video(tmp_path / "a.mp4", patches(5), 10, audio=tone(3, 48000))
        with av.open(str(path)) as container:
            assert container.duration / av.time_base == pytest.approx(0.5, abs=0.05)


class TestFailures:
    def test_the_old_file_stays_whole(self, tmp_path, monkeypatch):
        path = write_video(tmp_path / "a.mp4", patches(), 8)
        before = path.read_bytes()
        calls = []

        def failing(*arguments):
            calls.append(arguments)
            if len(calls) == 88:
                assert len(leftovers(tmp_path)) == len(before_failure) + 1  # the encoder has begun its file
                raise RuntimeError("the disk is on fire")
            return original(*arguments)

        original = streams._video_frame
        monkeypatch.setattr(streams, "_video_frame", failing)
        for name in ("a.mp4", "new.mp4"):
            calls.clear()
            before_failure = leftovers(tmp_path)
            with pytest.raises(RuntimeError, match="on fire"):
                write_video(tmp_path / name, patches(90), 8)
            assert len(calls) == 88
        assert path.read_bytes() == before and leftovers(tmp_path) == ["a.mp4"]

    def test_the_target_appears_only_at_the_end(self, tmp_path, monkeypatch):
        seen = []
        original = encode.os.replace
        monkeypatch.setattr(encode.os, "replace", lambda a, b: (seen.append(leftovers(tmp_path)), original(a, b)))
        write_video(tmp_path / "a.mp4", patches(), 8)
        assert len(seen) == 1 and len(seen[0]) == 1 and seen[0] != ["a.mp4"]
        assert leftovers(tmp_path) == ["a.mp4"]

    def test_encoder_failure_is_a_sentence(self, tmp_path, monkeypatch):
        def fail(*_):
            raise av.FFmpegError(22, "Invalid argument")

        monkeypatch.setattr(encode, "encode_film", fail)
        with pytest.raises(VideoError, match="could not be written"):
            write_video(tmp_path / "a.mp4", torch.zeros(1, 2, 16, 3), 8)
        assert leftovers(tmp_path) == []

    def test_folder_of_frames_is_replaced_but_no_other(self, tmp_path):
        folder = tmp_path / "out"
        write_video(folder, patches(6), 8)
        write_video(folder, patches(2), 8)
        assert leftovers(folder) == ["frame_00000.png", "frame_00001.png"] and leftovers(tmp_path) == ["out"]
        (folder / "thesis.doc").write_text("mine")
        with pytest.raises(VideoError, match=r"holds other files .*thesis\.doc"):
            write_video(folder, patches(2), 8)
        assert (folder / "thesis.doc").read_text() == "mine" and len(leftovers(folder)) == 3

    def test_folder_failure_leaves_the_old_frames(self, tmp_path, monkeypatch):
        folder = write_video(tmp_path / "out", patches(3), 8)
        original, calls = encode.os.replace, []

        def failing(a, b):
            calls.append(b)
            if len(calls) == 2:
                raise OSError("no")
            return original(a, b)

        monkeypatch.setattr(encode.os, "replace", failing)
        with pytest.raises(VideoError, match="could not be written"):
            write_video(folder, patches(1), 8)
        assert leftovers(tmp_path) == ["out"] and len(leftovers(folder)) == 3

    @pytest.mark.parametrize(
        "words, name, frames, fps, options",
        [
            ("must be .frames, height, width, 3.", "a.mp4", torch.zeros(8, 8, 3), 8, {}),
            ("must be .frames, height, width, 3.", "a.mp4", torch.zeros(0, 8, 8, 3), 8, {}),
            ("must be .frames, height, width, 3.", "a.mp4", torch.zeros(1, 8, 8, 4), 8, {}),
            ("not int64", "a.mp4", torch.zeros(1, 8, 8, 3, dtype=torch.int64), 8, {}),
            ("NaN", "a.mp4", torch.full((1, 8, 8, 3), float("nan")), 8, {}),
            ("infinite", "a.mp4", torch.full((1, 8, 8, 3), float("inf")), 8, {}),
            ("must lie in .0, 1.", "a.mp4", torch.full((1, 8, 8, 3), 200.0), 8, {}),
            ("fps must be", "a.mp4", torch.zeros(1, 8, 8, 3), 0, {}),
            ("fps must be", "a.mp4", torch.zeros(1, 8, 8, 3), float("nan"), {}),
            ("has no format", "a.xyz", torch.zeros(1, 8, 8, 3), 8, {}),
            ("has no format", "a.png", torch.zeros(1, 8, 8, 3), 8, {}),
            ("crf of .mp4 must be a whole number from 0 to 51", "a.mp4", torch.zeros(1, 8, 8, 3), 8, {"crf": 60}),
            ("is a URL", "rtmp://x/a.mp4", torch.zeros(1, 8, 8, 3), 8, {}),
            ("audio samples", "a.mp4", torch.zeros(1, 8, 8, 3), 8, {"audio": Audio(torch.zeros(99), 48000)}),
            (
                "audio holds NaN",
                "a.mp4",
                torch.zeros(1, 8, 8, 3),
                8,
                {"audio": Audio(torch.zeros(1, 9) / 0, 8000)},
            ),
        ],
    )
    def test_bad_arguments(self, tmp_path, monkeypatch, words, name, frames, fps, options):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(VideoError, match=words):
            write_video(name, frames, fps, **options)
        assert leftovers(tmp_path) == []


def test_names_with_spaces_and_other_scripts(tmp_path):
    folder = tmp_path / "neuer Ordner" / "視頻 %d"
    for name in ("ein Film é 猫.mp4", "100%.gif", "a:b c.webm"):
        path = write_video(folder / name, patches(2), 8)
        assert path == folder / name and len(read_video(path).frames) == 2
    assert len(leftovers(folder)) == 3


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.gif", "clip"])
def test_writing_ends_where_the_caller_ends_it(tmp_path, name):
    calls = iter(range(9))

    def stop_at_the_third():
        if next(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / name, patches(6), 8, before_frame=stop_at_the_third)
    assert next(calls) == 3
    assert leftovers(tmp_path) == []


def test_png_pattern(tmp_path):
    write_video(tmp_path / "out" / "shot_%03d.png", patches(3), 8)
    assert leftovers(tmp_path / "out") == ["shot_000.png", "shot_001.png", "shot_002.png"]
    assert len(read_video(tmp_path / "out" / "shot_%03d.png").frames) == 3
