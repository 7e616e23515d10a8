"""Settings chosen to fit a device's memory, and the error where it is too little; the memory is made up."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tav_core import ClipEditor, SamplingConfig, TuningConfig, VideoUNet, estimate_memory, inflate
from tav_core.cli.main import main, parser
from tav_core.job import run, runner
from tav_core.memory import budget
from tav_core.memory.budget import out_of_memory_advice, ran_out_of_memory
from tav_core.memory.estimate import OVERHEAD
from tav_core.models.base import ASSETS
from tests.cli.test_edit_options import job_of
from tests.conftest import MakeUNet, draw

LATENTS = draw(1, 4, 4, 16, 16)
SIZE = dict(num_frames=4, height=16, width=16)
EDIT = ["edit", "--video", str(ASSETS / "demo-clip.mp4"), "--source-prompt", "a", "--prompt", "b", "--output"]


def with_memory(monkeypatch: pytest.MonkeyPatch, free: float, total: float = 0.0) -> None:
    for module in (run, budget):
        monkeypatch.setattr(module, "device_memory", lambda device: (free, total))


@pytest.fixture
def video_unet(make_unet: MakeUNet) -> VideoUNet:
    return inflate(make_unet("sd1"))


@pytest.mark.parametrize("given", [False, True])
def test_checkpointing_is_the_fastest_that_fits(video_unet: VideoUNet, given: bool) -> None:
    def needed(checkpointing: bool | str) -> float:
        needed = estimate_memory(video_unet, TuningConfig(gradient_checkpointing=checkpointing), **SIZE)
        return OVERHEAD * (needed.peak - needed.weights)

    def chosen(free: float) -> bool | str:
        return budget.checkpointing_within(video_unet, LATENTS, TuningConfig(gradient_checkpointing=given), free)

    assert chosen(torch.inf) is chosen(needed(False) + 1) is False
    assert chosen(needed(False) - 1) == chosen(needed("selective") + 1) == "selective"
    assert chosen(needed("selective") - 1) is chosen(0) is True


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_device_memory_of_a_cpu_is_the_machines(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, total = budget.device_memory(torch.device(device))
    assert 0 < real < total < 2**50
    monkeypatch.setattr(budget.psutil, "virtual_memory", lambda: SimpleNamespace(available=3, total=8))
    assert budget.device_memory(torch.device(device)) == (3, 8)
    assert budget.device_memory(torch.device("meta")) == (torch.inf, torch.inf), "unknown"


def test_device_memory_of_a_gpu_includes_torchs_unused_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, given in (("mem_get_info", (10, 80)), ("memory_reserved", 30), ("memory_allocated", 7)):
        monkeypatch.setattr(torch.cuda, name, lambda device, given=given: given)
    assert budget.device_memory(torch.device("cuda")) == (10 + 30 - 7, 80)


@pytest.mark.slow
def test_frames_within_counts_with_checkpointing(video_unet: VideoUNet) -> None:
    least = TuningConfig(gradient_checkpointing=True)
    peaks = [estimate_memory(video_unet, least, **SIZE | {"num_frames": frames}).peak for frames in (1, 2, 3)]
    for fit, memory in ((2, peaks[1] + 1), (1, peaks[1] - 1), (0, peaks[0] - 1)):
        assert budget.frames_within(video_unet, LATENTS, TuningConfig(), OVERHEAD * memory) == fit


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (["--device", "cuda", "--model", "sd"], torch.float16),
        (["--device", "cuda"], torch.float32),
        (["--device", "cpu", "--model", "sd"], torch.float32),
        (["--device", "mps", "--model", "sd"], torch.float32),
        (["--device", "cuda", "--model", "sd", "--dtype", "bfloat16"], torch.bfloat16),
        (["--device", "cpu", "--dtype", "bfloat16"], torch.bfloat16),
    ],
)
def test_dtype_is_float16_on_a_gpu_as_published(given: list[str], dtype: torch.dtype) -> None:
    assert job_of(parser().parse_args([*EDIT, "o.mp4", *given])).weight_dtype == dtype


def test_checkpointing_option_needs_no_value() -> None:
    given = {(): "auto", ("--gradient-checkpointing",): "on"}
    given |= {("--gradient-checkpointing", word): word for word in ("off", "selective", "on", "auto")}
    parsed = {words: parser().parse_args([*EDIT, "o.mp4", *words]).gradient_checkpointing for words in given}
    assert parsed == given


@pytest.mark.slow
def test_out_of_memory_while_tuning_advises_with_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tuned_with = []

    def tune(editor: ClipEditor, config: TuningConfig) -> None:
        tuned_with.append(config.gradient_checkpointing)
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(ClipEditor, "tune", tune)
    with_memory(monkeypatch, free=0, total=2**40)
    command = [*EDIT, str(tmp_path / "edit.mp4"), "--num-frames", "3", "--width", "64", "--height", "64"]
    assert main([*command, "--device", "cpu"]) == 1
    assert tuned_with == [True], "auto turned it on, where nothing was free"
    said = "Out of memory on 3 frames of 64 x 64 pixels. Give --num-frames 2, or --dtype float16, or a smaller --width"
    assert capsys.readouterr().err == f"{said} and --height.\n"


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("Invalid buffer size: 12.00 GB"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_recognised_by_type_or_message(error: Exception, full: bool) -> None:
    assert ran_out_of_memory(error) == full


@pytest.mark.parametrize("words", ["unable to find an engine", "shapes cannot be multiplied"])
def test_out_of_memory_while_tuning_differs_from_other_errors(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    def tune(editor: ClipEditor, config: TuningConfig) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(ClipEditor, "tune", tune)
    command = [*EDIT, "edit.mp4", "--num-frames", "3", "--width", "64", "--height", "64", "--device", "cpu"]
    if "engine" in words:
        assert main(command) == 1
    else:
        with pytest.raises(RuntimeError, match=words):
            main(command)


def test_out_of_memory_while_loading_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load_model(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(runner, "load_model", load_model)
    assert main([*EDIT, "edit.mp4"]) == 1
    said = "The device's memory is full: close what else uses it, take fewer or smaller frames, or give --device cpu."
    assert capsys.readouterr().err == f"{said}\n"


@pytest.mark.slow
def test_settings_that_are_lowest_already_are_not_advised(
    video_unet: VideoUNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_memory(monkeypatch, 0, total=0)
    plain, least, sampling = (
        out_of_memory_advice(video_unet, LATENTS, torch.zeros(4, 128, 128, 3), config)
        for config in (TuningConfig(), TuningConfig(gradient_checkpointing=True), SamplingConfig())
    )
    assert "Give --gradient-checkpointing on, or --dtype float16, or a smaller" in plain
    assert "Give --dtype float16, or a smaller" in least
    assert "Give --dtype float16, or a smaller" in sampling, "what helps tuning alone"
