"""The search for the smallest card that a step runs on."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from benchmarks import harness
from benchmarks.speed import cards, unet
from tav_core import TuningConfig

pytestmark = pytest.mark.slow


def test_step_runs_under_the_smallest_cap_that_it_fits() -> None:
    case = unet.Case(frames=2, latent=16, tiny=True)
    limit, run = cards.smallest([2**20, 2**30, 2**31], case, TuningConfig(), rounds=1)
    assert limit == 2**30 and 2**20 < run.peak < 2**30 and run.seconds > 0 and run.product > 0


def test_rising_caps_are_tried_in_one_process_until_a_step_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where a step that ran out of memory frees all that it took."""
    caps, made = [], []
    monkeypatch.setattr(cards, "cap", lambda limit, device: caps.append(limit) or harness.resident())

    def step() -> None:
        made.append(caps[-1])
        if caps[-1] == 2 and len(made) > 3:
            raise torch.OutOfMemoryError("injected")
        if caps[-1] == 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(unet, "video_step", lambda case, config: (lambda: None) if case.tiny else step)
    limit, run = cards._run([1, 2, 3, 4], unet.Case(), TuningConfig(), rounds=2)
    assert (limit, caps, made) == (3, [1, 2, 3], [1, 2, 2, 2, 3, 3, 3]) and run.seconds >= 0
    monkeypatch.setattr(unet, "video_step", lambda case, config: (lambda: None) if case.tiny else [].pop)
    with pytest.raises(IndexError):
        cards._run([1], unet.Case(), TuningConfig(), rounds=1)


def test_step_is_timed_in_a_process_that_never_ran_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, whose convolutions stay with the kernels that they chose when memory was short."""
    tried = []

    def run(limits: list[float], *_: object) -> tuple[float, str] | None:
        tried.append(limits)
        return next(((limit, f"try {len(tried)}") for limit in limits if limit >= 3), None)

    monkeypatch.setattr(cards, "_run", run)
    monkeypatch.setattr(cards, "ProcessPoolExecutor", lambda workers, **_: ThreadPoolExecutor(workers))
    case = unet.Case(device="cuda:0")
    assert cards.smallest([1, 2, 3, 4], case, TuningConfig(), 1) == (3, "try 2")
    assert cards.smallest([3, 4], case, TuningConfig(), 1) == (3, "try 3")
    assert cards.smallest([1, 2], case, TuningConfig(), 1) is None
    assert tried == [[1, 2, 3, 4], [3, 4], [3, 4], [1, 2]]


def test_cap_of_a_gpu_is_a_share_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1, 80 * 2**30))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: shares.append(share))
    cards.cap(8 * 2**30, "cuda")
    cards.cap(90 * 2**30, "cuda")
    assert shares == [0.1, 1.0]


def test_row_names_the_smallest_card_that_a_step_runs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    run = cards.Run(peak=5 * 2**30, seconds=2.0, product=1e12)
    monkeypatch.setattr(cards, "smallest", lambda limits, *_: next(((x, run) for x in limits if x >= 7 * 2**30), None))
    case = unet.Case(frames=2, latent=16, tiny=True)
    cells = cards.row(case, "tuning", TuningConfig(), [12, 6, 8], rounds=1)
    assert cells[2:4] == ["8", "5.00"] and cells[5] == "2.00"
    assert cards.row(case, "tuning", TuningConfig(), [4, 6], rounds=1)[2] == "above 6"
