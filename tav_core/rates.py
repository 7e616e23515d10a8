"""How fast a machine works: seconds for one unit of each kind of work that a ledger counts.

    seconds = flops / (flops a second) + bytes / (bytes a second) + ...        one term for each field of Work

Five small programs, each of which is mostly one kind of work, are timed and counted by the same ledger that counts a
step; the rates solve the five equations.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from statistics import median

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from .memory.tracker import Ledger, Work
from .unet.inflate import VideoUNet, inflate

ROUNDS = 9  # of which the median counts: other work beside empties the caches now and then


@dataclass(frozen=True)
class Rates:
    """Seconds for one of each, by the names of `Work`."""

    flop: float
    byte: float
    score: float
    weight_byte: float
    operation: float

    def seconds(self, work: Work) -> float:
        return sum(rate * amount for rate, amount in zip(astuple(self), astuple(work), strict=True))


def measure_rates(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Rates:
    """Measure this machine, in a few seconds.

    On the CPU they are seconds of the process: with one thread, those of the clock.

    Arguments:
        device, dtype: where and in which type the model would compute.
    """
    seconds, amounts = [], []
    with torch.inference_mode(False), torch.no_grad():
        for probe in _probes(torch.device(device), dtype):
            probe()
            seconds.append(median(_timed(probe, torch.device(device)) for _ in range(ROUNDS)))
            with Ledger() as ledger:
                probe()
            amounts.append(astuple(ledger.work))
    counted = torch.tensor(amounts, dtype=torch.float64)
    unit = counted.amax(0).clamp_min(1)
    solved = torch.linalg.lstsq(counted / unit, torch.tensor(seconds, dtype=torch.float64)[:, None]).solution[:, 0]
    return Rates(*(solved.clamp_min(0) / unit).tolist())


def _timed(probe: Callable[[], object], device: torch.device) -> float:
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    began = clock()
    probe()
    if device.type == "cuda":  # kernels are only queued by then
        torch.cuda.synchronize(device)
    elif device.type != "cpu":
        torch.get_device_module(device).synchronize()
    return clock() - began


def _probes(device: torch.device, dtype: torch.dtype) -> list[Callable[[], object]]:
    """Programs for flops, bytes, scores, weight bytes and operations, in sizes of Stable Diffusion 1.5's UNet."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return (torch.rand(shape, generator=generator) - 0.5).to(device, dtype)

    images, wide = drawn(4, 320, 32, 32), drawn(4, 1280, 4, 4)
    kernels, wide_kernels = [drawn(320, 320, 3, 3) for _ in range(2)], [drawn(1280, 1280, 3, 3) for _ in range(2)]
    tokens, layers = drawn(4096, 320), [drawn(1280, 320), drawn(320, 1280)]
    rows = drawn(4096, 640)
    queries, keys = drawn(1, 8, 1024, 40), drawn(1, 8, 2048, 40)
    few = drawn(512, 8, 4, 40)
    small = _small_unet().to(device)
    small.clip.checkpointing = True  # which has the most to do in Python
    dots, words = torch.zeros(1, 4, 2, 2, 2, device=device), torch.zeros(1, 2, 8, device=device)

    def products() -> None:
        hidden = images
        for kernel in kernels:
            hidden = F.conv2d(hidden, kernel, padding=1)
        F.linear(F.linear(tokens, layers[0]), layers[1])

    def traffic() -> None:
        for _ in range(2):
            torch.cat([F.gelu(rows + rows), rows.view(4, 1024, 640).transpose(1, 2).reshape(4096, 640)])

    def attention() -> None:
        F.scaled_dot_product_attention(queries, keys, keys)
        F.scaled_dot_product_attention(queries, keys[:, :, :77], keys[:, :, :77])
        F.scaled_dot_product_attention(few, few, few)

    def wide_weights() -> None:
        for kernel in wide_kernels:
            F.conv2d(wide, kernel, padding=1)

    def there_and_back() -> None:
        with torch.enable_grad():
            small(dots, 0, words).sum().backward()

    return [products, traffic, attention, wide_weights, there_and_back]


def _small_unet() -> VideoUNet:
    """A model so small that all its time goes into Python and torch."""
    with torch.device("meta"):  # no draw from the global generator
        unet = UNet2DConditionModel(
            block_out_channels=(8,),
            down_block_types=("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",),
            cross_attention_dim=8,
            attention_head_dim=1,
            norm_num_groups=1,
        )
    unet = unet.to_empty(device="cpu").eval()
    for parameter in unet.parameters():
        nn.init.zeros_(parameter)
    return inflate(unet)
