"""What the training runs share: modules with their averages and optimizers, kept so that a kill at any moment costs
minutes; a learning rate that follows the clock; a log."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tav_core.atomic import replacing


@dataclass(frozen=True)
class Schedule:
    """When the learning rate falls and the run ends.

    minutes: of processor time a thread, over all starts; a busy machine costs time but no steps.
    decay_share: of them, at the end, over which the learning rate falls.
    """

    minutes: float
    decay_share: float
    warmup_steps: int = 100


class Training:
    """A run: what is trained, its averages, its optimizers, its generator, and where it stands.

    It is kept in `folder`/checkpoint.pt, and goes on from there when it is made again. Given more or fewer minutes than
    before, the learning rate follows from the share of them that has passed.

    Arguments:
        modules: by the name under which they are kept.
        average_decay: of the exponential moving averages of the weights; smaller in the first steps.
    """

    def __init__(
        self,
        folder: Path,
        modules: Mapping[str, nn.Module],
        optimizers: Sequence[torch.optim.Optimizer],
        schedule: Schedule,
        average_decay: float,
        seed: int,
    ):
        self.folder, self.modules, self.optimizers, self.schedule = folder, dict(modules), list(optimizers), schedule
        self.averages = {name: copy.deepcopy(m).eval().requires_grad_(False) for name, m in modules.items()}
        self.average_decay = average_decay
        self.rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
        self.rng = np.random.default_rng(seed)
        self.step, self._began = 0, _processor_seconds()
        self._resume()

    @property
    def seconds(self) -> float:
        """Of processor time a thread, over all starts."""
        return _processor_seconds() - self._began

    @property
    def progress(self) -> float:
        return self.seconds / (60 * self.schedule.minutes)

    def update(self, loss: Tensor) -> float:
        """One step of the optimizers and of the averages. Returns the loss."""
        factor = min(1.0, (self.step + 1) / self.schedule.warmup_steps)
        factor *= rate_factor(self.progress, self.schedule.decay_share)
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for m in self.modules.values() for p in m.parameters()], 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self._average()
        return float(loss.detach())

    @torch.no_grad()
    def _average(self) -> None:
        share = 1 - min(self.average_decay, (1 + self.step) / (10 + self.step))
        for name, module in self.modules.items():
            torch._foreach_lerp_(list(self.averages[name].parameters()), list(module.parameters()), share)

    def save(self) -> None:
        state = dict(
            modules={name: module.state_dict() for name, module in self.modules.items()},
            averages={name: module.state_dict() for name, module in self.averages.items()},
            optimizers=[optimizer.state_dict() for optimizer in self.optimizers],
            step=self.step,
            seconds=self.seconds,
            rng=self.rng.bit_generator.state,
            torch_rng=torch.get_rng_state(),
        )
        save_atomically(state, self.folder / "checkpoint.pt")

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
            self.averages[name].load_state_dict(state["averages"][name])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self._began = state["step"], _processor_seconds() - state["seconds"]
        self.rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch_rng"])


def train(
    training: Training,
    loss: Callable[[], Tensor],
    measure: Callable[[], Mapping[str, Any]],
    checkpoint_minutes: float,
    log_minutes: float,
) -> None:
    """Train to the end of the schedule; write log.jsonl on the way."""
    checkpoint, note = Every(60 * checkpoint_minutes), Every(60 * log_minutes)
    losses: list[float] = []
    while training.progress < 1:
        losses.append(training.update(loss()))
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"the loss of step {training.step} is {losses[-1]}; checkpoint.pt is older")
        if checkpoint.due():
            training.save()
        if note.due():
            record = dict(step=training.step, seconds=training.seconds, loss=float(np.mean(losses)))
            log(training.folder / "log.jsonl", record | dict(measure()))
            losses.clear()
    training.save()


def save_atomically(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint so that `path` holds either the old one or the new one, whenever the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, path.with_name(path.name + ".part")) as part:
        torch.save(dict(state), part)


def _processor_seconds() -> float:
    return time.process_time() / torch.get_num_threads()


def rate_factor(progress: float, decay_share: float) -> float:
    """Factor of the learning rate: 1, then half a cosine down to 0.01 over the last `decay_share` of the run."""
    into = min(1.0, max(0.0, (progress - (1 - decay_share)) / decay_share))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * into))


class Every:
    """True once in each `seconds`, from the first whole interval on."""

    def __init__(self, seconds: float):
        self._seconds, self._last = seconds, time.monotonic()

    def due(self) -> bool:
        if time.monotonic() - self._last < self._seconds:
            return False
        self._last = time.monotonic()
        return True


def log(path: Path, record: Mapping[str, Any]) -> None:
    """Append one line of JSON, and print it."""
    line = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in record.items()})
    with path.open("a") as file:
        file.write(line + "\n")
    print(line, flush=True)
