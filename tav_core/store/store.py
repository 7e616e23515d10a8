"""The store: tunings resume where they stopped, and results are not computed twice.

    store = Store("tav-store")
    for step in store.tune(video_unet, latents, caption, scheduler, TuningConfig(steps=500)): print(step.loss)
    trajectory = list(store.invert(video_unet, latents, empty_prompt, scheduler))

Run again with the same inputs, also in another process, these take the finished result from the folder, or the tuning
resumes from the last state saved. On the CPU the result is that of an uninterrupted run to the bit.
"""

import json
import math
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from ..atomic import remove
from ..checks import MAX_STEPS, check_integer, check_number, check_text, check_type
from ..conditioning import Conditioning
from ..editing.config import InversionConfig, SamplingConfig
from ..editing.edit import edit
from ..editing.inversion import InversionStep, invert
from ..editing.sampling import SamplingStep
from ..editing.source_branch import SourceBranch, branch_settings, keeps_steps
from ..tuning.config import TuningConfig, TuningStep
from ..tuning.state import TuningState
from ..tuning.tune import tune
from ..unet.video_unet import VideoUNet, check_inputs, trainable_parameters
from .files import read_metadata
from .folder import FORMATS, EntryFolder
from .keys import change_of, result_key
from .lock import RunLock
from .runs import StoredInversion, StoredTuning
from .saver import StateSaver
from .tuned import model_notes

MAX_BYTES = 20 * 10**9
SAVE_EVERY = 50
SAVE_SHARE = 0.02


class Store(EntryFolder):
    """A folder that stores tuned weights, the states of unfinished tunings, and inversions.

    Processes may share it. Weights are stored in float32, as they were trained; a "tuned" entry is a file that
    `load_tuned` reads.

    Arguments:
        folder: of the files; made at the first write.
        max_bytes: the size limit. Beyond it the least recently used entries are removed, never the one just written.
        save_every: updates between two saved states of a tuning.
        save_share: of the time of a tuning that saving states may take; a state beyond it is skipped.
        remedy: added to the error if the folder cannot be written to.
        tag: names a change of the model that its weights and options do not show: hooks, methods or modules of your
            own. Without one such a model is refused. Results are found under the same tag alone.
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        *,
        max_bytes: int = MAX_BYTES,
        save_every: int = SAVE_EVERY,
        save_share: float = SAVE_SHARE,
        remedy: str = "",
        tag: str = "",
    ):
        check_text("tag", tag)
        super().__init__(folder, max_bytes=max_bytes, remedy=remedy)
        check_integer("save_every", save_every, 1, MAX_STEPS)
        check_number("save_share", save_share, 0, math.inf, without="low")
        self.save_every = save_every
        self.save_share = save_share
        self.tag = tag

    def tune(
        self,
        video_unet: VideoUNet,
        latents: Tensor,
        encoder_hidden_states: Tensor | Conditioning,
        scheduler: Any,
        config: TuningConfig = TuningConfig(),
        *,
        parameters: Iterable[str] | None = None,
        **own: Any,
    ) -> StoredTuning:
        """Tune as `tav_core.tune` does, from the state in the store.

        The store is read at once, and weights found there are loaded into the model; updates are made one by one. While
        another process computes the same tuning, this waits for it. The model's present weights are part of the key:
        call `video_unet.reset()` before, to find what was tuned from the image model. The state is saved every
        `save_every` updates, and whenever the run ends early: by `close`, by an interruption, or by an error between or
        within updates. States that are not finite are not saved.

        Arguments:
            video_unet, latents, encoder_hidden_states, scheduler, config, parameters: see `tav_core.tune`.
            own: objective, noise and timesteps, see `tav_core.tune`. One of your own needs a store with a `tag`.

        Returns:
            The updates that are left to make; none if the tuning was finished before.

        Raises:
            OSError: if the folder or its disk cannot be written to.
            TypeError, ValueError: if an entry is damaged, or as `tav_core.tune` raises.
        """
        check_inputs(video_unet, latents, encoder_hidden_states=encoder_hidden_states)
        check_type("config", config, TuningConfig)
        objective, num_clips = own.get("objective"), len(latents)
        state = TuningState(video_unet, config, parameters, objective=objective, num_clips=num_clips)
        given = {"parameters": list(state.parameters), **own}
        key = result_key(video_unet, latents, encoder_hidden_states, scheduler, config, self.tag, given)
        if (finished := self._load_tuning(key, state)) is not None:
            return StoredTuning(key, finished, iter(()))
        lock = RunLock(self.folder, key)
        lock.acquire(video_unet.before_call)
        if (finished := self._load_tuning(key, state)) is not None:  # by the process that held the lock
            lock.release()
            return StoredTuning(key, finished, iter(()))
        about = f"{config.steps} steps, learning rate {config.learning_rate:g}, seed {config.seed}, {_size(latents)}"
        save = partial(self._save_tuning, key, state, config, about, video_unet)
        saver = StateSaver(state, config, save, every=self.save_every, share=self.save_share)
        updates = tune(video_unet, latents, encoder_hidden_states, scheduler, config, state=state, **own)
        return StoredTuning(key, state.steps, _releasing(lock, saver.over(updates)))

    def _load_tuning(self, key: str, state: TuningState) -> list[TuningStep] | None:
        """The updates of a finished tuning, which is loaded; None without one, after an unfinished one is loaded."""
        with self._locked():
            finished = self._get("tuned", key)
            begun = None if finished else self._get("run", key)
            if finished:  # a process was killed between its last write and this removal
                remove(self._path("run", key))
        if finished is not None:
            tensors, metadata = finished
            state.adapter.load(tensors)
            return _read_steps(metadata)
        if begun is not None:
            tensors, metadata = begun
            state.load_state_dict(tensors, _read_steps(metadata))
        return None

    def invert(
        self,
        video_unet: VideoUNet,
        latents: Tensor,
        encoder_hidden_states: Tensor | Conditioning,
        scheduler: Any,
        config: InversionConfig = InversionConfig(),
    ) -> StoredInversion:
        """Invert as `tav_core.invert` does, or take the steps of the same inversion from the store.

        The model's present weights are part of the key: do not change them before the last step is taken.

        Arguments:
            video_unet, latents, encoder_hidden_states, scheduler, config: see `tav_core.invert`.

        Returns:
            The InversionSteps. The inversion is saved when the last one is taken.

        Raises:
            OSError: if the folder or its disk cannot be written to.
            TypeError, ValueError: if an entry is damaged, or as `tav_core.invert` raises.
        """
        check_inputs(video_unet, latents, encoder_hidden_states=encoder_hidden_states)
        check_type("config", config, InversionConfig)
        key = result_key(video_unet, latents, encoder_hidden_states, scheduler, config, self.tag)
        with self._locked():
            found = self._get("inversion", key)
        if found is not None:
            tensors, _ = found
            pairs = zip(tensors["timesteps"].tolist(), tensors["latents"], strict=True)
            steps: Iterator[InversionStep] = (InversionStep(t, stored.to(latents.device)) for t, stored in pairs)
        else:
            made = invert(video_unet, latents, encoder_hidden_states, scheduler, config)
            about = f"{config.num_inference_steps} steps, {_size(latents)}"
            steps = self._saving_at_the_end(made, key, config.num_inference_steps, about)
        return StoredInversion(key, steps, self)

    def _saving_at_the_end(
        self, steps: Iterator[InversionStep], key: str, number: int, about: str
    ) -> Iterator[InversionStep]:
        taken: list[InversionStep] = []
        for step in steps:
            taken.append(step)
            if len(taken) == number:
                self._save_inversion(key, taken, about)
            yield step

    def _save_inversion(self, key: str, steps: list[InversionStep], about: str) -> None:
        tensors = {
            "timesteps": torch.tensor([step.timestep for step in steps]),
            "latents": torch.stack([step.latents.cpu() for step in steps]),  # (steps, b, c, f, h, w)
        }
        with self._locked():
            self._put("inversion", key, tensors, {"about": about})

    def edit(
        self,
        video_unet: VideoUNet,
        start: Tensor | SourceBranch,
        positive: Tensor | Conditioning,
        negative: Tensor | Conditioning | None,
        scheduler: Any,
        config: SamplingConfig = SamplingConfig(),
        **options: Any,
    ) -> Iterator[SamplingStep]:
        """Edit as `tav_core.edit` does. The second prompt finds the steps of the source branch that the first one took.

        They are saved after the last step: 4 bytes for each number of the latents and each step, 60 MB for 24 frames of
        512 x 512 pixels in 40 steps. Other starts, and steps in which attention is replaced, have nothing to keep. Of a
        model with hooks or code of its own nothing is kept, unless the store has a `tag`.

        Arguments:
            video_unet, start, positive, negative, scheduler, config, options: see `tav_core.edit`.

        Raises:
            OSError: if the folder cannot be written to, before the first step.
            TypeError, ValueError: if an entry is damaged, or as `tav_core.edit` raises.

        Warns:
            UserWarning: the steps could not be saved, as on a full disk. The edit is complete.
        """
        if isinstance(start, SourceBranch) and keeps_steps(config) and (self.tag or not change_of(video_unet)):
            return self._edit_along_branch(video_unet, start, positive, negative, scheduler, config, **options)
        return edit(video_unet, start, positive, negative, scheduler, config, **options)

    def _edit_along_branch(
        self,
        video_unet: VideoUNet,
        start: SourceBranch,
        positive: Tensor | Conditioning,
        negative: Tensor | Conditioning | None,
        scheduler: Any,
        config: SamplingConfig,
        **options: Any,
    ) -> Iterator[SamplingStep]:
        if start.trajectory is not None:
            start = replace(start, trajectory=list(start.trajectory))
        settings, tensors = branch_settings(start, negative, config)
        key = result_key(video_unet, start.latents, start.caption, scheduler, settings, self.tag, more=tensors)
        with self._locked():
            found = self._get("branch", key)
        steps = {} if found is None else {int(timestep): step for timestep, step in found[0].items()}
        known = len(steps)
        yield from edit(video_unet, replace(start, steps=steps), positive, negative, scheduler, config, **options)
        if len(steps) > known:
            tensors = {str(timestep): step.cpu() for timestep, step in steps.items()}
            try:
                with self._locked():
                    self._put("branch", key, tensors, {"about": f"{len(steps)} steps, {_size(start.latents)}"})
            except OSError as error:  # the edit is there, and must not be lost
                warnings.warn(
                    f"The source branch was not stored, so the next prompt predicts it anew: {error}", stacklevel=2
                )

    def save_snr(self, key: str, decibels: float) -> None:
        """Save the reconstruction SNR of the inversion with this key."""
        with self._locked():
            tensors = {"decibels": torch.tensor(decibels, dtype=torch.float64)}
            self._put("reconstruction", key, tensors, {"about": f"an inversion reconstructed at {decibels:.1f} dB"})

    def load_snr(self, key: str) -> float | None:
        """The reconstruction SNR of the inversion with this key; None if none was saved."""
        with self._locked():
            found = self._get("reconstruction", key)
        return None if found is None else float(found[0]["decibels"])

    def _save_tuning(
        self, key: str, state: TuningState, config: TuningConfig, about: str, video_unet: VideoUNet
    ) -> None:
        """Save the state, after the last update the weights alone, unless another process saved as many updates."""
        made = len(state.steps)
        steps = json.dumps([[step.loss, step.learning_rate] for step in state.steps])
        with self._locked():
            if self._path("tuned", key).is_file():
                return
            if made == config.steps:
                notes = model_notes(video_unet)
                self._put(
                    "tuned", key, dict(trainable_parameters(video_unet)), notes | {"steps": steps, "about": about}
                )
                remove(self._path("run", key))
            elif made > self._saved_steps(key):
                metadata = {"steps": steps, "made": str(made), "about": f"{made} of {about}"}
                self._put("run", key, state.state_dict(), metadata)

    def _saved_steps(self, key: str) -> int:
        with suppress(FileNotFoundError):
            return int(read_metadata(self._path("run", key), FORMATS["run"])["made"])
        return 0


def _releasing(lock: RunLock, updates: Generator[TuningStep, None, None]) -> Generator[TuningStep, None, None]:
    """The updates, after which the lock is released, however they end."""
    try:
        with closing(updates):
            yield from updates
    finally:
        lock.release()


def _read_steps(metadata: dict[str, str]) -> list[TuningStep]:
    pairs = json.loads(metadata["steps"])
    return [TuningStep(step, loss, learning_rate) for step, (loss, learning_rate) in enumerate(pairs, 1)]


def _size(latents: Tensor) -> str:
    _, _, frames, height, width = latents.shape
    return f"{frames} frames of {height} x {width} latent pixels"
