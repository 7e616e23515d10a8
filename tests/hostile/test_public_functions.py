"""Any tensor, text or path through the public functions: it works, or raises one clear error of this library.

The default run tries a few dozen of each, `make soak` many more.
"""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tav_core import (
    BaseModel,
    ClipEditor,
    InversionConfig,
    NoiseSchedule,
    SamplingConfig,
    Store,
    TuningConfig,
    VideoUNet,
    deflicker,
    inflate,
    invert,
    load_tuned,
    read_video,
    sample,
    save_tuned,
    tune,
    write_video,
)
from tav_core.models.base import load_model
from tav_core.models.codec import decode_latents, encode_frames, encode_prompts
from tav_core.viz.captions import caption_strip
from tav_core.viz.figures import contact_sheet, save_curves, save_loss_plot, save_picture, side_by_side
from tests.conftest import EPSILON, SD1

from .clear import clear_error

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
OTHERS = (torch.int64, torch.uint8, torch.bool, torch.complex64)
TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["", " ", "word " * 2000, "W" * 10_000, "שלום עולם", "\u202eabc", "👩‍👩‍👧‍👦" * 500, "\0", "\ud800"]
    ),
    st.sampled_from([None, 7, b"abc", ["a"], "é\n\t\u2028", "$x", "a|b\x1b[31m", "<|endoftext|>" * 100]),
)
PATHS = st.sampled_from(
    ["a.safetensors", "a b/größe 日本語 🦀.safetensors", "CON", "nul.safetensors", "com1.mp4", "a.", "a ", "x/../b.mp4"]
    + ["../c.mp4", "a\0b", "", ".", "a\ud800.mp4", "x" * 300, "x/" * 2000, "\u202egpj.mp4", "-i.gif", "a\nb.mp4"]
)  # each within a folder of the test
STRANGE_PATHS = st.sampled_from(
    [None, 7, b"a.mp4", [], "", "\0", "/dev/null/x.mp4", "/proc/self/nothing/x.safetensors"]
)


def tried(few: int, many: int, **strategies: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A test of what strategies draw, with a few examples by default and many in `make soak`."""
    options: dict[str, Any] = dict(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    options |= dict(phases=[Phase.generate], report_multiple_bugs=False)  # to shrink takes minutes

    def decorate(check: Callable[..., None]) -> Callable[..., None]:
        def test(examples: int, tmp_path: Path) -> None:
            @settings(max_examples=examples, **options)
            @given(**strategies)
            def run(**drawn: Any) -> None:
                check(tmp_path, **drawn)

            run()

        test.__name__ = check.__name__
        return pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.soak)])(test)

    return decorate


@cache
def video_unet() -> VideoUNet:
    """One for all tests, which restore it."""
    return inflate(UNet2DConditionModel(**SD1))


@cache
def parts() -> BaseModel:
    """A base model whose text encoder and autoencoder are those that come with the package."""
    return load_model()


@st.composite
def tensors(draw: st.DrawFn, *usual: int) -> Any:
    """A tensor of the usual shape, or of one that is wrong in some way; often with strange numbers, types or places."""
    shape = draw(
        st.one_of(
            st.just(usual),
            st.tuples(*[st.sampled_from([size, size, size, 0, 1, 2, 3, 5]) for size in usual]),
            st.lists(st.integers(0, 3), max_size=6),
        )
    )
    kind = draw(st.sampled_from(["plain"] * 5 + ["meta", "sparse", "huge", "grad", "strided", "none", "array"]))
    if kind == "none":
        return draw(st.sampled_from([None, 3, "abc", [[1.0]], object]))
    value = draw(st.sampled_from([0.0, 0.5, 1.0, -1.0, 255.0, 1e30, math.nan, math.inf, -math.inf]))
    dtype = draw(st.sampled_from(FLOATS * 3 + OTHERS))
    if kind == "huge":  # nothing of it is allocated
        return torch.zeros((), dtype=dtype).expand([max(size, 1) * 1000 for size in shape[:5]] or [2**40])
    tensor = torch.full(list(shape), value if dtype.is_floating_point else 1.0, dtype=torch.float64).to(dtype)
    if dtype.is_floating_point and draw(st.booleans()):
        tensor = torch.rand(list(shape)).to(dtype)
    changes = dict(
        meta=lambda t: t.to("meta"), sparse=Tensor.to_sparse, array=lambda t: t.nan_to_num().real.float().numpy()
    )
    changes |= dict(grad=lambda t: t.requires_grad_() if t.is_floating_point() else t)
    changes |= dict(strided=lambda t: t.transpose(0, -1).contiguous().transpose(0, -1) if t.ndim else t)
    return changes.get(kind, lambda t: t)(tensor)


LATENTS, TEXT = tensors(1, 4, 2, 4, 4), tensors(1, 5, 12)
FRAMES = tensors(2, 16, 16, 3)


@tried(
    60,
    1500,
    latents=LATENTS,
    text=TEXT,
    negative=TEXT,
    which=st.sampled_from(["tune", "invert", "sample", "store.tune", "store.invert"]),
)
def test_method(tmp_path: Path, latents: Any, text: Any, negative: Any, which: str) -> None:
    model, store = video_unet(), Store(tmp_path / "store")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    run = {
        "tune": lambda: tune(model, latents, text, EPSILON, TuningConfig(steps=1)),
        "invert": lambda: invert(model, latents, text, EPSILON, InversionConfig(2)),
        "sample": lambda: sample(model, latents, text, negative, EPSILON, SamplingConfig(2)),
        "store.tune": lambda: store.tune(model, latents, text, EPSILON, TuningConfig(steps=1)),
        "store.invert": lambda: store.invert(model, latents, text, EPSILON, InversionConfig(2)),
    }[which]
    try:
        with clear_error(unchanged=model):
            for step in run():
                assert math.isfinite(step.loss) if "tune" in which else step.latents.isfinite().all()
    finally:
        model.load_state_dict(before)


@tried(
    25, 300, thing=st.one_of(st.none(), st.text(max_size=5), st.builds(torch.nn.Linear, st.just(2), st.just(2)), FRAMES)
)
def test_things_that_are_no_model(tmp_path: Path, thing: Any) -> None:
    latents, text = torch.zeros(1, 4, 2, 4, 4), torch.zeros(1, 5, 12)
    for call in (
        lambda: inflate(thing),
        lambda: inflate(UNet2DConditionModel(**SD1), group_norm=thing),
        lambda: next(tune(thing, latents, text, EPSILON)),
        lambda: next(invert(thing, latents, text, EPSILON)),
        lambda: next(sample(thing, latents, text, text, EPSILON)),
        lambda: next(tune(video_unet(), latents, text, thing)),
        lambda: next(tune(video_unet(), latents, text, EPSILON, thing)),
        lambda: next(invert(video_unet(), latents, text, EPSILON, thing)),
        lambda: next(sample(video_unet(), latents, text, text, EPSILON, thing)),
        lambda: save_tuned(thing, tmp_path / "a.safetensors"),
        lambda: load_tuned(thing, tmp_path / "a.safetensors"),
        lambda: ClipEditor(thing, torch.zeros(2, 16, 16, 3), "a star"),
    ):
        with clear_error():
            call()
            pytest.fail("it was accepted")


NUMBERS = st.sampled_from([0, -1, 1, 3, 10**12, 1e300, math.nan, math.inf, "7", None, [], True])


@tried(
    60,
    1500,
    changes=st.dictionaries(
        st.sampled_from([*EPSILON, "trained_betas", "rescale_betas_zero_snr"]), NUMBERS, max_size=3
    ),
    betas=st.one_of(st.none(), st.lists(st.one_of(NUMBERS, st.floats(0, 1)), max_size=4)),
)
def test_schedules(tmp_path: Path, changes: dict[str, Any], betas: Any) -> None:
    with clear_error():
        schedule = NoiseSchedule.from_scheduler(EPSILON | {"trained_betas": betas} | changes)
        assert schedule.alphas_cumprod.isfinite().all()
        assert schedule.alphas_cumprod.min() >= 0 and schedule.alphas_cumprod.max() <= 1


@tried(
    25,
    300,
    path=PATHS,
    key=TEXTS,
    value=TEXTS,
    dtype=st.sampled_from([None, *FLOATS, *OTHERS, torch.int8, "float16", 16]),
)
def test_tuned_files(tmp_path: Path, path: str, key: Any, value: Any, dtype: Any) -> None:
    folder = tmp_path / "within" / "folders"
    metadata = {key: value} if not isinstance(key, list) else key
    with clear_error():
        written = save_tuned(video_unet(), f"{folder}/{path}" if path else path, dtype=dtype, metadata=metadata)
        assert load_tuned(video_unet(), written)[key] == value
    assert not list(tmp_path.rglob("*.tmp"))


@tried(10, 100, path=STRANGE_PATHS)
def test_strange_paths(tmp_path: Path, path: Any) -> None:
    frames = torch.zeros(2, 16, 16, 3)
    for call in (
        lambda: save_tuned(video_unet(), path),
        lambda: load_tuned(video_unet(), path),
        lambda: Store(path).prune(),
        lambda: read_video(path),
        lambda: write_video(path, frames, 8),
        lambda: save_picture(path, frames[0]),
        lambda: load_model(path),
    ):
        with clear_error():
            call()
            pytest.fail("it was accepted")


@tried(
    40, 800, frames=FRAMES, suffix=st.sampled_from([".mp4", ".gif", ".webm", ""]), audio=st.one_of(st.none(), FRAMES)
)
def test_writing_frames(tmp_path: Path, frames: Any, suffix: str, audio: Any) -> None:
    sound = None if audio is None else SimpleNamespace(samples=audio, sample_rate=48000)
    with clear_error():
        write_video(tmp_path / f"a{suffix}", frames, 8, audio=sound)


@tried(25, 300, frames=FRAMES, latents=tensors(1, 4, 2, 2, 2))
def test_pixels_and_latents(tmp_path: Path, frames: Any, latents: Any) -> None:
    with clear_error():
        assert encode_frames(parts(), frames).isfinite().all()
    with clear_error():
        assert decode_latents(parts(), latents).isfinite().all()


@tried(
    40,
    1500,
    edit=FRAMES,
    clip=FRAMES,
    decoded=st.one_of(st.none(), FRAMES),
    size=st.one_of(st.none(), st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20))),
)
def test_deflickering(tmp_path: Path, edit: Any, clip: Any, decoded: Any, size: Any) -> None:
    if size is not None:
        edit, clip = torch.rand(*size, 3), torch.rand(*size, 3)
    with clear_error():
        for frame in deflicker(edit, clip, decoded):
            assert frame.isfinite().all() and frame.min() >= 0 and frame.max() <= 1


@tried(25, 500, prompts=st.one_of(st.lists(TEXTS, max_size=3), TEXTS))
def test_prompts(tmp_path: Path, prompts: Any) -> None:
    with clear_error():
        embeddings = encode_prompts(parts(), prompts)
        assert len(embeddings) == len(prompts) and embeddings.isfinite().all()


@tried(
    30,
    500,
    caption=TEXTS,
    frames=FRAMES,
    other=st.one_of(st.none(), FRAMES),
    columns=st.one_of(st.integers(-1, 4), NUMBERS),
    enlarge=st.one_of(st.integers(-1, 3), NUMBERS),
)
def test_pictures(tmp_path: Path, caption: Any, frames: Any, other: Any, columns: Any, enlarge: Any) -> None:
    clips = {str(caption) if isinstance(caption, list) else caption: frames} | ({} if other is None else {"b": other})
    for call in (
        lambda: side_by_side(clips, columns, enlarge),
        lambda: contact_sheet(clips, columns),
        lambda: save_picture(tmp_path / "a.png", frames),
        lambda: save_picture(tmp_path / "a.png", contact_sheet(clips)),
    ):
        with clear_error():
            assert call() is None or True


@tried(
    3,
    100,
    values=st.lists(st.one_of(st.floats(), st.integers(), NUMBERS), max_size=4),
    title=st.sampled_from(["a", "$x", "שלום", ""]),
)
def test_plots(tmp_path: Path, values: Any, title: str) -> None:
    with clear_error():
        save_loss_plot(tmp_path / "a.png", values)
    for curves in ({title: {title: values}}, {title: {}}, {}):
        with clear_error():
            save_curves(tmp_path / "a.png", curves)  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [1, 8, 9, 40, 300])
def test_captions_of_any_text_have_a_bounded_size(width: int) -> None:
    for text in ("W" * 10_000, "word " * 2000, "👩‍👩‍👧‍👦" * 500, "\0\x1b[31m\u202eשלום\ud800", "a\u2028b\n" * 50):
        strip = caption_strip(text, width)
        assert strip.shape[1:] == (width, 3) and strip.shape[0] <= 2000


def test_a_diffusers_scheduler_is_accepted() -> None:
    assert NoiseSchedule.from_scheduler(DDIMScheduler(**EPSILON)).num_train_timesteps == 1000
