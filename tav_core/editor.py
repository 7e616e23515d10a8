"""The whole method on one clip: encode, tune, invert, sample, decode (arXiv:2212.11565, figure 3).

    editor = ClipEditor(load_model(), frames, "a pink star on a navy background")
    for step in editor.tune(TuningConfig(steps=300)): print(step.loss)
    for step in editor.invert(): pass
    for step in editor.edit("a blue star on a navy background"): pass
    edited_frames = editor.decode(step.latents)  # torch.stack(list(editor.steady(edited_frames))) has less flicker

The autoencoder and the text encoder run once, here; tuning, inversion and sampling see latents and embeddings alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from .checks import check_choice, check_kind, check_number, check_text
from .diffusion.schedule import NoiseSchedule
from .editing.deflicker import steady
from .editing.inversion import InversionConfig, InversionStep, invert
from .editing.sampling import SamplingConfig, SamplingStep, sample
from .editing.source_branch import SourceBranch, latent_mask, sample_beside
from .editing.strength import STRENGTHS, Trial, judge
from .models.base import BaseModel, decode_latents, encode_frames, encode_prompts
from .store import Store, apply_tuned
from .store.tuned import MAX_STRENGTH
from .tuning.config import TuningConfig, TuningStep
from .tuning.tune import tune
from .unet.inflate import inflate, trainable_parameters

KEEP = ("nothing", "inversion", "noise")


class ClipEditor:
    """A base model inflated for one clip, and that clip's latents.

    Arguments:
        model: its UNet is inflated in place and must not have been inflated before.
        frames: (f, h, w, 3) in [0, 1], height and width multiples of 8.
        source_prompt: the caption of the clip, which the tuning learns it under.
        group_norm, attention, temporal_positions: as `inflate` takes them.
        store: where tunings and inversions are kept and found again; None to keep nothing.
    """

    def __init__(
        self,
        model: BaseModel,
        frames: Tensor,
        source_prompt: str,
        *,
        group_norm: str = "video",
        attention: str = "sparse_causal",
        temporal_positions: bool = False,
        store: Store | None = None,
    ):
        check_kind("model", model, BaseModel, "load one with load_model()")
        check_text("source_prompt", source_prompt)
        self.model = model
        self.store = store
        self.source_prompt = source_prompt
        self.frames = frames
        self.latents = encode_frames(model, frames)
        self.video_unet = inflate(
            model.unet, group_norm=group_norm, attention=attention, temporal_positions=temporal_positions
        )
        self.trajectory: list[InversionStep] = []
        self._tuned: dict[str, Tensor] | None = None  # the weights at strength 1, while another is in place
        self._decoded: Tensor | None = None  # the clip's latents, once they were asked for

    def tune(self, config: TuningConfig = TuningConfig()) -> Iterator[TuningStep]:
        """Tune the untuned model on the clip under its caption.

        What was tuned and inverted before is forgotten. With a store only the updates are made that it lacks.
        """
        self.trajectory = []
        self._tuned = None
        self.video_unet.reset()
        run = tune if self.store is None else self.store.tune
        return run(self.video_unet, self.latents, self._embed(self.source_prompt), self.model.scheduler, config)

    def set_strength(self, strength: float) -> None:
        """Fade or extend a tuning that has ended, as `apply_tuned` does: 1 as tuned, 0 the image model.

        Each call starts from the tuning, not from the last strength. An inversion by other weights is forgotten.

        Raises:
            ValueError: if the strength is no number in [-100, 100].
        """
        check_number("strength", strength, -MAX_STRENGTH, MAX_STRENGTH)
        if strength == 1 and self._tuned is None:
            return
        if self._tuned is None:
            weights = trainable_parameters(self.video_unet)
            self._tuned = {name: weight.detach().to("cpu", copy=True) for name, weight in weights.items()}
        apply_tuned(self.video_unet, self._tuned, strength=strength)
        self.trajectory = []

    def invert(self, config: InversionConfig = InversionConfig(), prompt: str = "") -> Iterator[InversionStep]:
        """Invert the clip under `prompt`, the empty one as published, and keep the steps for `edit`."""
        self.trajectory = []
        run = invert if self.store is None else self.store.invert
        for step in run(self.video_unet, self.latents, self._embed(prompt), self.model.scheduler, config):
            self.trajectory.append(step)
            yield step

    def edit(
        self,
        prompt: str,
        config: SamplingConfig = SamplingConfig(),
        *,
        negative_prompt: str = "",
        noise: Tensor | None = None,
        keep: str = "nothing",
        mask: Tensor | None = None,
        carry: bool = True,
    ) -> Iterator[SamplingStep]:
        """Sample under another prompt.

        Arguments:
            prompt, negative_prompt: what the edit is to show, and what to guide away from.
            config: how to sample.
            noise: to start from, (1, c, f, h, w), in place of the inverted clip.
            keep: "nothing" to sample as published; to sample beside the clip's own branch (`keeping.py`), "inversion"
                for the inverted clip's trajectory or "noise" for the clip under fresh noise, which needs no inversion.
            mask: where an edit beside the clip may change it, 1, and where it is locked, 0: (f, height, width), or
                (1, height, width) for all frames.
            carry: whether an edit beside the clip is carried along its motion, see `sample_beside`.

        Raises:
            RuntimeError: there is neither an inversion nor a noise to start from.
            ValueError: an unknown `keep`, or one that does not go with what else is given.
        """
        check_choice("keep", keep, KEEP)
        if (noise is not None and keep != "nothing") or (mask is not None and keep == "nothing"):
            raise ValueError('noise goes with keep="nothing", and a mask with the others, which start from the clip.')
        positive, negative = self._embed(prompt), self._embed(negative_prompt)
        if keep != "nothing":
            trajectory = self._inverted() if keep == "inversion" else None
            source = SourceBranch(self.latents, self._embed(self.source_prompt), trajectory)
            free = None if mask is None else latent_mask(mask, self.latents)
            scheduler = self.model.scheduler
            return sample_beside(self.video_unet, source, positive, negative, scheduler, config, mask=free, carry=carry)
        if noise is None:
            noise = self._start(config)
        return sample(self.video_unet, noise, positive, negative, self.model.scheduler, config)

    def try_strengths(
        self,
        prompt: str,
        config: SamplingConfig = SamplingConfig(),
        *,
        strengths: Sequence[float] = STRENGTHS,
        inversion: InversionConfig = InversionConfig(),
        **options: Any,
    ) -> Iterator[Trial]:
        """Edit at several strengths of the tuning and judge each (`balance.py`); `best` chooses among the trials.

        After each, and after an error, the tuning is at strength 1 again, and its inversion forgotten.

        Arguments:
            prompt, config: as `edit` takes them.
            strengths: to try, as `set_strength` takes them.
            inversion: how the clip is inverted at each, unless a noise is given or it is sampled beside fresh noise.
            options: the other arguments of `edit`.

        Yields:
            A Trial for each strength.
        """
        texts = self._embed(prompt), self._embed(self.source_prompt)
        for strength in strengths:
            self.set_strength(strength)
            try:
                if options.get("keep") != "noise" and options.get("noise") is None:
                    for _ in self.invert(inversion):
                        pass
                *_, last = self.edit(prompt, config, **options)
                scheduler = self.model.scheduler
                trial = judge(self.set_strength, self.video_unet, strength, last.latents, *texts, scheduler)
            except BaseException:
                self.set_strength(1)
                raise
            yield trial

    def decode(self, latents: Tensor) -> Tensor:
        """(1, c, f, h, w) -> frames (f, 8 h, 8 w, 3) in [0, 1]."""
        return decode_latents(self.model, latents)

    def steady(self, edit: Tensor) -> Iterator[Tensor]:
        """Take the flicker out of an edit, and give back what the autoencoder lost of the clip, see `steadying.py`.

        Arguments:
            edit: frames (f, h, w, 3) in [0, 1], as many and as large as the clip's.

        Yields:
            One frame after the other, (h, w, 3).
        """
        if self._decoded is None:
            self._decoded = self.decode(self.latents)
        return steady(edit, self.frames, self._decoded)

    def _start(self, config: SamplingConfig) -> Tensor:
        """The inverted latents at the level that sampling starts from."""
        trajectory = self._inverted()
        schedule = NoiseSchedule.from_scheduler(self.model.scheduler)
        first = schedule.timesteps(config.num_inference_steps, config.denoise)[0]
        for step in trajectory:
            if step.timestep == first:
                return step.latents
        raise ValueError(
            f"Sampling starts at timestep {first}, which the inversion did not pass. Invert and sample with the same "
            f"num_inference_steps (inverted with {len(trajectory)}, sampling with {config.num_inference_steps})."
        )

    def _inverted(self) -> list[InversionStep]:
        if not self.trajectory:
            raise RuntimeError("The clip has not been inverted since it was last tuned: run invert() to its end first.")
        return self.trajectory

    def _embed(self, prompt: str) -> Tensor:
        return encode_prompts(self.model, [prompt])
