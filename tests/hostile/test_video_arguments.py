"""Any argument of read_video and write_video: it works, or raises one clear error and leaves no file."""

import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tav_core.video import Audio, VideoError, check_output, read_video, write_video

from .clear import clear_error

NUMBERS = st.one_of(
    st.none(),
    st.integers(-3, 9),
    st.integers(),
    st.floats(),
    st.fractions(),
    st.sampled_from(
        [1e-9, 1e-300, 1e9, 1e300, 10**30, Fraction(10**30, 10**30 - 1), 2**31, 2**63, True, "", "24", "é"]
    ),
)
NAMES = st.one_of(
    st.text(st.characters(exclude_categories=["Cc"]), max_size=12),
    st.sampled_from(
        [
            "a.mp4",
            "a b.gif",
            "größe 日本語 🦀.mp4",
            "CON.mp4",
            "NUL",
            "aux.gif",
            "com1.mp4",
            "a.",
            "a ",
            "\0.mp4",
            "a\0b",
        ]
        + ["", ".", "..", "../../x.mp4", "/", "//", "/dev/null", "/proc/self/mem", "~", "-i.mp4", "x" * 300 + ".mp4"]
        + ["frame_%04d.png", "%d.png", "%99d.png", "%0999999999d.png", "%s.mp4", "%n.gif", "http://x/y.mp4"]
        + ["שלום.mp4", "\u202egpj.mp4", "a\ud800.mp4", "file:a.mp4", "concat:a.mp4|b.mp4", "pipe:0", "C:\\a.mp4"]
    ),
)
FEW = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "a.mp4", torch.rand(8, 16, 16, 3), 8)


@FEW
@given(
    arguments=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("num_frames", "start", "stride", "fps", "width", "height"), NUMBERS)
    ),
    fit=st.sampled_from(["crop", "pad", "stretch", "", None, "é"]),
)
def test_read_any_arguments(video: Path, arguments: dict[str, Any], fit: Any) -> None:
    before = video.read_bytes()
    with clear_error():
        clip = read_video(video, fit=fit, **arguments)
        assert clip.frames.ndim == 4 and clip.frames.isfinite().all() and clip.fps > 0
    assert video.read_bytes() == before


@pytest.mark.parametrize("name", ["num_frames", "start", "stride", "fps", "width", "height"])
@pytest.mark.parametrize("value", [10**30, 1e300, -1, 0.5, math.nan, math.inf, -math.inf, "24", "", [], 1e-300, True])
def test_read_one_strange_argument(video: Path, name: str, value: object) -> None:
    with clear_error(name):
        read_video(video, **{name: value})


@pytest.mark.parametrize("path", [None, 7, b"a.mp4", b"\xff", [], "", "\0", "a\0.mp4", "a\ud800.mp4", "x" * 500])
def test_things_that_are_no_paths(path: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for call in (read_video, check_output, lambda p: write_video(p, torch.zeros(1, 16, 16, 3), 8)):
        with clear_error():
            call(path)
            assert path == "x" * 500 and call is check_output
    assert not everything(tmp_path)


@FEW
@given(name=NAMES)
def test_write_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "writes"
    folder.mkdir(exist_ok=True)
    target = folder / name
    if name.startswith((".", "/", "~")) or ".." in name or "\0" in name:
        target = folder / "within" / name.replace("/", "_").replace("..", "__")
    before = everything(tmp_path)
    try:
        with clear_error():
            written = write_video(target, torch.zeros(2, 16, 16, 3), 8)
            assert read_video(written).frames.shape[0] == 2
            return
    finally:
        left = [path for path in everything(tmp_path) - before if path.suffix and len(path.stem) == 33]
        assert not left, "a temporary file is left"


@FEW
@given(name=NAMES)
def test_read_any_name(tmp_path: Path, name: str) -> None:
    before = everything(tmp_path)
    with clear_error():
        read_video(os.path.join(tmp_path, "reads", name) if not name.startswith("/") else name, num_frames=1)  # noqa: PTH118
        pytest.fail("nothing of this name is there")
    assert everything(tmp_path) == before


@FEW
@given(
    shape=st.lists(st.integers(0, 17), max_size=5),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.uint8, torch.int64, torch.bool, torch.complex64]),
    value=st.sampled_from([0.5, -0.4, 1.4, -1, 255, 1e30, math.nan, math.inf, -math.inf]),
    suffix=st.sampled_from([".mp4", ".webm", ".gif", ""]),
    fps=NUMBERS,
    crf=st.one_of(st.none(), NUMBERS),
    metadata=st.one_of(st.none(), st.dictionaries(st.text(max_size=4), st.text(max_size=9), max_size=2)),
)
def test_write_any_arguments(
    tmp_path: Path, shape: list[int], dtype: Any, value: float, suffix: str, fps: Any, crf: Any, metadata: Any
) -> None:
    if dtype in (torch.uint8, torch.int64, torch.bool):
        value = 1
    frames = torch.full(shape, value, dtype=torch.promote_types(dtype, torch.float32)).to(dtype)  # 1e30 to infinity
    before, target = frames.clone(), tmp_path / f"a{suffix}"
    old = everything(tmp_path)
    try:
        with clear_error():
            write_video(target, frames, fps, crf=crf, metadata=metadata)
            old |= everything(target.parent)
            read_video(target)
    finally:
        assert everything(tmp_path) <= old
        assert torch.equal(frames.nan_to_num(), before.nan_to_num()) if dtype.is_floating_point else True


@pytest.mark.parametrize(
    "samples", [torch.zeros(2), torch.zeros(65, 9), torch.full((1, 9), math.nan), torch.zeros(0, 0)]
)
@pytest.mark.parametrize("rate", [0, -1, 10**12, 1.5, math.nan, None, "é"])
def test_write_any_sound(tmp_path: Path, samples: torch.Tensor, rate: Any) -> None:
    with clear_error():
        write_video(tmp_path / "a.mp4", torch.zeros(2, 16, 16, 3), 8, audio=Audio(samples, rate))
    with clear_error("sample"):
        write_video(tmp_path / "a.mp4", torch.zeros(2, 16, 16, 3), 8, audio=Audio(torch.zeros(1, 99), rate))
    assert everything(tmp_path) <= {tmp_path / "a.mp4"}


def test_symlinks(video: Path, tmp_path: Path) -> None:
    (tmp_path / "link.mp4").symlink_to(video)
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    (tmp_path / "nowhere.mp4").symlink_to(tmp_path / "missing.mp4")
    assert len(read_video(tmp_path / "link.mp4").frames) == 8
    for name in ("loop.mp4", "nowhere.mp4"):
        with pytest.raises((VideoError, OSError), match=name):
            read_video(tmp_path / name)
    original = video.read_bytes()
    write_video(tmp_path / "link.mp4", torch.zeros(1, 16, 16, 3), 8)  # takes the link's place, not its target's
    assert video.read_bytes() == original


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))
