"""The store: tunings that go on where they stopped, and results that are not computed twice.

    store = Store("tav-store")
    for step in store.tune(video_unet, latents, caption, scheduler, TuningConfig(steps=500)): print(step.loss)
    trajectory = list(store.invert(video_unet, latents, empty_prompt, scheduler))

Run again with the same inputs, also in another process, these take the finished result from the folder, or the tuning
goes on from the state that was kept last. On the CPU the outcome is that of an uninterrupted run to the bit.
"""

import json
import math
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from ..checks import MAX_STEPS, check_kind, check_number, check_whole
from ..inflation import VideoUNet, check_inputs
from ..inversion import InversionConfig, InversionStep, invert
from ..tuning import tune
from ..tuning_config import TuningConfig, TuningStep
from ..tuning_state import TuningState
from .files import read_metadata
from .folder import FORMATS, EntryFolder
from .keys import result_key
from .tuned import apply_tuned

MAX_BYTES = 20 * 10**9
SAVE_EVERY = 50
SAVE_SHARE = 0.02


class Store(EntryFolder):
    """A folder that keeps tuned weights, the states of unfinished tunings, and inversions.

    Processes may share it. Weights are kept in float32, as they were trained; a "tuned" entry is a file that
    `load_tuned` reads.

    Arguments:
        folder: where the files lie; made when first written to.
        max_bytes: beyond which the least recently used entries are removed; the one just written stays.
        save_every: updates between two states of a tuning that are kept.
        save_share: of the time of a tuning that keeping states may take; beyond it a state is passed over.
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        *,
        max_bytes: int = MAX_BYTES,
        save_every: int = SAVE_EVERY,
        save_share: float = SAVE_SHARE,
    ):
        super().__init__(folder, max_bytes=max_bytes)
        check_whole("save_every", save_every, 1, MAX_STEPS)
        check_number("save_share", save_share, 0, math.inf, without="low")
        self.save_every = save_every
        self.save_share = save_share

    def tune(
        self,
        video_unet: VideoUNet,
        latents: Tensor,
        encoder_hidden_states: Tensor,
        scheduler: Any,
        config: TuningConfig = TuningConfig(),
    ) -> "StoredTuning":
        """Tune as `tav_core.tune` does, from what is in the store.

        The store is looked up at once, and weights that it has are put into the model; updates are made as they are
        taken. The weights that the model has now are part of the key: `video_unet.reset()` before, to find what was
        tuned from the image model. The state is kept every so often, and whenever the run ends early: by `close`, by an
        interruption, or by an error between or within updates. States with numbers that are not finite are not kept.

        Arguments:
            video_unet, latents, encoder_hidden_states, scheduler, config: see `tav_core.tune`.

        Returns:
            The updates that are left to make; none if the tuning was finished before.

        Raises:
            OSError: if the folder or its disk takes no file.
            ValueError: if an entry is damaged, or as `tav_core.tune` says.
        """
        check_inputs(video_unet, latents, encoder_hidden_states=encoder_hidden_states)
        check_kind("config", config, TuningConfig)
        key = result_key(video_unet, latents, encoder_hidden_states, scheduler, config)
        state = TuningState(video_unet, config)
        with self._locked():
            finished = self._get("tuned", key)
            begun = None if finished else self._get("run", key)
            if finished:  # a process may have been killed after its last write and before it removed this
                self._path("run", key).unlink(missing_ok=True)
        if finished is not None:
            tensors, metadata = finished
            apply_tuned(video_unet, tensors)
            return StoredTuning(key, _read_steps(metadata), iter(()))
        if begun is not None:
            tensors, metadata = begun
            state.load_state_dict(tensors, _read_steps(metadata))
        about = f"{config.steps} steps, learning rate {config.learning_rate:g}, seed {config.seed}, {_size(latents)}"
        keeper = _Keeper(self, key, state, config, about)
        updates = tune(video_unet, latents, encoder_hidden_states, scheduler, config, state=state)
        return StoredTuning(key, state.steps, keeper.over(updates))

    def invert(
        self,
        video_unet: VideoUNet,
        latents: Tensor,
        encoder_hidden_states: Tensor,
        scheduler: Any,
        config: InversionConfig = InversionConfig(),
    ) -> Iterator[InversionStep]:
        """Invert as `tav_core.invert` does, or yield the steps of the same inversion from the store.

        Arguments:
            video_unet, latents, encoder_hidden_states, scheduler, config: see `tav_core.invert`.

        Yields:
            Each InversionStep. The inversion is kept when the last one is taken.

        Raises:
            OSError: if the folder or its disk takes no file.
            ValueError: if an entry is damaged, or as `tav_core.invert` says.
        """
        check_inputs(video_unet, latents, encoder_hidden_states=encoder_hidden_states)
        check_kind("config", config, InversionConfig)
        key = result_key(video_unet, latents, encoder_hidden_states, scheduler, config)
        with self._locked():
            found = self._get("inversion", key)
        if found is not None:
            tensors, _ = found
            for timestep, stored in zip(tensors["timesteps"].tolist(), tensors["latents"], strict=True):
                yield InversionStep(timestep, stored.to(latents.device))
            return
        steps: list[InversionStep] = []
        for step in invert(video_unet, latents, encoder_hidden_states, scheduler, config):
            steps.append(step)
            if len(steps) == config.num_inference_steps:
                self._keep_inversion(key, steps, f"{len(steps)} steps, {_size(latents)}")
            yield step

    def _keep_inversion(self, key: str, steps: list[InversionStep], about: str) -> None:
        tensors = {
            "timesteps": torch.tensor([step.timestep for step in steps]),
            "latents": torch.stack([step.latents.cpu() for step in steps]),  # (steps, b, c, f, h, w)
        }
        with self._locked():
            self._put("inversion", key, tensors, {"about": about})

    def _keep_tuning(self, key: str, state: TuningState, config: TuningConfig, about: str) -> None:
        """Write the state, or the weights alone if it is the last, unless another process is as far already."""
        made = len(state.steps)
        steps = json.dumps([[step.loss, step.learning_rate] for step in state.steps])
        with self._locked():
            if self._path("tuned", key).is_file():
                return
            if made == config.steps:
                self._put("tuned", key, state.weights(), {"steps": steps, "about": about})
                self._path("run", key).unlink(missing_ok=True)
            elif made > self._steps_kept(key):
                metadata = {"steps": steps, "made": str(made), "about": f"{made} of {about}"}
                self._put("run", key, state.state_dict(), metadata)

    def _steps_kept(self, key: str) -> int:
        with suppress(FileNotFoundError):
            return int(read_metadata(self._path("run", key), FORMATS["run"])["made"])
        return 0


class StoredTuning(Iterator[TuningStep]):
    """The updates of a tuning in a store that are left to make, one for each item taken.

    Attributes:
        key: under which it is kept.
        steps: all updates made so far, those of earlier runs included.
    """

    def __init__(self, key: str, steps: list[TuningStep], updates: Iterator[TuningStep]):
        self.key = key
        self.steps = steps
        self._updates = updates

    def __next__(self) -> TuningStep:
        return next(self._updates)

    def close(self) -> None:
        """Stop, and keep the state."""
        if isinstance(self._updates, Generator):
            self._updates.close()


class _Keeper:
    """Keeps the state of a tuning while it runs."""

    def __init__(self, store: Store, key: str, state: TuningState, config: TuningConfig, about: str):
        self.store, self.key, self.state, self.config, self.about = store, key, state, config, about
        self.kept = len(state.steps)
        self.began = time.monotonic()
        self.last_cost = self.cost = 0.0  # seconds

    def over(self, updates: Iterator[TuningStep]) -> Generator[TuningStep, None, None]:
        """Pass updates on, each after it was kept if it is to be; keep the last one however it ends."""
        try:
            for step in updates:
                if self._due():
                    self._refuse_non_finite()
                    self._keep()
                yield step
        finally:
            if self.state.whole and self.kept < len(self.state.steps) and self._finite():
                self._keep()

    def _due(self) -> bool:
        made = len(self.state.steps)
        affordable = self.store.save_share * (time.monotonic() - self.began)
        cheap = self.cost + self.last_cost <= affordable
        return made == self.config.steps or (made % self.store.save_every == 0 and cheap)

    def _keep(self) -> None:
        self.kept = len(self.state.steps)  # also if it fails: the same state would fail again in `finally`
        began = time.monotonic()
        self.store._keep_tuning(self.key, self.state, self.config, self.about)
        self.last_cost = time.monotonic() - began
        self.cost += self.last_cost

    def _finite(self) -> bool:
        return all(bool(torch.isfinite(weight).all()) for weight in self.state.weights().values())

    def _refuse_non_finite(self) -> None:
        if not self._finite():
            self.kept = len(self.state.steps)
            raise FloatingPointError(
                f"After tuning step {self.kept} a weight is not finite; the state that was kept before stays. "
                f"Lower learning_rate (now {self.config.learning_rate})."
            )


def _read_steps(metadata: dict[str, str]) -> list[TuningStep]:
    pairs = json.loads(metadata["steps"])
    return [TuningStep(step, loss, learning_rate) for step, (loss, learning_rate) in enumerate(pairs, 1)]


def _size(latents: Tensor) -> str:
    _, _, frames, height, width = latents.shape
    return f"{frames} frames of {height} x {width} latent pixels"
