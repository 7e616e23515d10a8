"""The whole method on one clip: encode, tune, invert, sample, decode (arXiv:2212.11565, figure 3).

    editor = ClipEditor(load_model(), frames, "a red person jumps on the beach, flat colours")
    for step in editor.tune(TuningConfig(steps=300)): print(step.loss)
    for step in editor.invert(): pass
    for step in editor.edit("a blue person jumps on the beach, flat colours"): pass
    edited_frames = editor.decode(step.latents)  # torch.stack(list(editor.deflicker(edited_frames))) flickers less

The autoencoder and the text encoder run once, here; tuning, inversion and sampling take latents and embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from torch import Tensor

from .checks import check_choice, check_text, check_type
from .diffusion.schedule import NoiseSchedule
from .editing.config import InversionConfig, SamplingConfig
from .editing.deflicker import deflicker
from .editing.edit import MASK_ALONE, START_FROM, edit, fresh_noise, inverted_start
from .editing.heat_maps import HeatMapStep, heat_maps, word_heat_maps
from .editing.inversion import InversionStep
from .editing.reconstruction import reconstruct
from .editing.sampling import SamplingStep
from .editing.source_branch import SourceBranch, latent_mask
from .editing.strength import STRENGTHS, Trial, search_strength
from .models.base import BaseModel
from .models.codec import align_prompts, decode_latents, encode_frames, encode_prompts, prompt_words
from .stages.invert import invert_clip
from .stages.tune import tune_clip
from .store import Store
from .store.keys import weight_marks
from .tuning.config import TuningConfig, TuningStep
from .unet.inflate import inflate
from .unet.video_unet import trainable_parameters


class ClipEditor:
    """A base model inflated for one clip, and that clip's latents.

    Arguments:
        model: its UNet is inflated in place and must not have been inflated before.
        frames: (f, h, w, 3) in [0, 1], height and width multiples of 8.
        source_prompt: the caption of the clip, under which it is tuned.
        group_norm, attention, temporal_positions: as `inflate` takes them.
        store: of tunings and inversions; None to save nothing.

    Attributes:
        latents: the clip's, (1, c, f, h, w), scaled by the VAE's factor.
        video_unet: the inflated UNet.
        schedule: the noise levels of the model.
        trajectory: the steps of the last inversion by the weights as they are; empty without one.
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
        check_type("model", model, BaseModel, "load one with load_model()")
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
        self._inverted_with: object = None  # marks of the weights of the inversion
        self.schedule = NoiseSchedule.from_scheduler(model.scheduler)
        self._round_trip: Tensor | None = None  # frames of the clip's latents, once they were decoded

    def tune(self, config: TuningConfig = TuningConfig()) -> Iterator[TuningStep]:
        """Tune the untuned model on the clip under its caption.

        An earlier tuning and its inversion are discarded. With a store only updates that it lacks are made.
        """
        self.trajectory = []
        self.video_unet.reset()
        caption = self._embed(self.source_prompt)
        run = tune_clip(self.video_unet, self.latents, caption, self.schedule, config, store=self.store)
        return cast(Iterator[TuningStep], run)  # without a preview, updates are all that it yields

    def set_strength(self, strength: float) -> None:
        """Fade or extend the tuning: 1 as tuned, 0 the image model. An inversion by other weights is discarded.

        Each call starts from the tuning, not from the last strength.

        Raises:
            ValueError: if the strength is no number in [-100, 100].
        """
        before, self.video_unet.adapter.scale = self.video_unet.adapter.scale, strength
        if strength != before:
            self.trajectory = []

    def invert(self, config: InversionConfig = InversionConfig(), prompt: str = "") -> Iterator[InversionStep]:
        """Invert the clip under `prompt`, the empty one as published, for `edit`."""
        text, scheduler = self._embed(prompt), self.schedule
        run = invert_clip(self.video_unet, self.latents, text, scheduler, config, store=self.store, check=False)
        self.trajectory, self._inverted_with = run.trajectory, self._weights()
        return cast(Iterator[InversionStep], run)  # unchecked, it samples nothing

    def reconstruct(self, prompt: str = "") -> Iterator[SamplingStep]:
        """Sample the inverted clip again, under the prompt of the inversion and without guidance.

        Raises:
            RuntimeError: there is no inversion.
        """
        return reconstruct(self.video_unet, self._inverted(), self._embed(prompt), self.schedule)

    def edit(
        self,
        prompt: str,
        config: SamplingConfig = SamplingConfig(),
        *,
        negative_prompt: str = "",
        noise: Tensor | None = None,
        start_from: str = "inversion",
        mask: Tensor | None = None,
    ) -> Iterator[SamplingStep]:
        """Sample under another prompt.

        Arguments:
            prompt, negative_prompt: what the edit is to show, and what to guide away from.
            config: how to sample.
            noise: to start from, (1, c, f, h, w), in place of the inverted clip or of drawn noise.
            start_from: "inversion" for the inverted clip, as published; "noise" for fresh noise of the config's seed;
                "source_branch" for a source-preserving edit (`editing/source_branch.py`), which needs no inversion.
            mask: where a source-preserving edit may change the clip, 1, and where it is locked, 0: (f, height, width),
                or (1, height, width) for all frames.

        Raises:
            RuntimeError: there is neither an inversion nor a noise to start from.
            ValueError: an unknown `start_from`, or one that does not go with the other arguments.
        """
        check_choice("start_from", start_from, START_FROM)
        if noise is not None and start_from == "source_branch":
            raise ValueError(
                'noise goes with start_from "inversion" and "noise"; a source branch starts from the clip.'
            )
        if mask is not None and start_from != "source_branch":
            raise ValueError(MASK_ALONE)
        if negative_prompt and config.guide_from_caption:
            raise ValueError("guide_from_caption takes the place of a negative prompt: leave out one of them.")
        positive, negative = self._embed(prompt), self._embed(negative_prompt)
        start = self._start(start_from, config, prompt) if noise is None else noise
        free = None if mask is None else latent_mask(mask, self.latents)
        return edit(self.video_unet, start, positive, negative, self.schedule, config, mask=free)

    def try_strengths(
        self,
        prompt: str,
        config: SamplingConfig = SamplingConfig(),
        *,
        strengths: Sequence[float] = STRENGTHS,
        inversion: InversionConfig = InversionConfig(),
        **options: Any,
    ) -> Iterator[Trial]:
        """Edit at several strengths of the tuning and score each (`editing/strength.py`); `best_trial` chooses.

        Afterwards, and after an error, the strength is 1, and the inversion discarded.

        Arguments:
            prompt, config: as `edit` takes them.
            strengths: to try, as `set_strength` takes them.
            inversion: how the clip is inverted at each strength, where an edit starts from the inversion.
            options: the other arguments of `edit`.

        Yields:
            A Trial for each strength.
        """
        inverts = options.get("start_from", "inversion") == "inversion" and options.get("noise") is None

        def edited() -> Iterator[InversionStep | SamplingStep]:
            if inverts:
                yield from self.invert(inversion)
            yield from self.edit(prompt, config, **options)

        texts = self._embed(prompt), self._embed(self.source_prompt)
        items = search_strength(self.video_unet, edited, *texts, self.schedule, strengths)
        try:
            yield from (item for item in items if isinstance(item, Trial))
        finally:
            self.trajectory = []

    def heat_maps(self, prompt: str, latents: Tensor | None = None) -> Iterator[HeatMapStep]:
        """Where each token of a prompt acts (`editing/heat_maps.py`), for `word_heat_maps`.

        Arguments:
            prompt: what the clip shows.
            latents: of an edit, (1, c, f, h, w); None for the clip.
        """
        clip = self.latents if latents is None else latents
        return heat_maps(self.video_unet, clip, self._embed(prompt), self.schedule)

    def word_heat_maps(self, prompt: str, maps: Tensor) -> list[tuple[str, Tensor]]:
        """The words of a prompt with their maps, each (f, h, w) in [0, 1], from those of its tokens (1, n, f, h, w)."""
        return word_heat_maps(maps, prompt_words(self.model, prompt))

    def decode(self, latents: Tensor) -> Tensor:
        """(1, c, f, h, w) -> frames (f, 8 h, 8 w, 3) in [0, 1]."""
        return decode_latents(self.model, latents)

    def deflicker(self, edit: Tensor) -> Iterator[Tensor]:
        """Deflicker an edit, and restore what the autoencoder lost of the clip, see `editing/deflicker.py`.

        Arguments:
            edit: frames (f, h, w, 3) in [0, 1], as many and as large as the clip's.

        Yields:
            One frame after the other, (h, w, 3).
        """
        if self._round_trip is None:
            self._round_trip = self.decode(self.latents)
        return deflicker(edit, self.frames, self._round_trip)

    def _start(self, start_from: str, config: SamplingConfig, prompt: str) -> Tensor | SourceBranch:
        """What sampling starts from."""
        if start_from == "source_branch":
            alignment = align_prompts(self.model, self.source_prompt, prompt)
            return SourceBranch(self.latents, self._embed(self.source_prompt), alignment=alignment)
        if start_from == "noise":
            return fresh_noise(tuple(self.latents.shape), config)
        return inverted_start(self._inverted(), self.schedule, config)

    def _inverted(self) -> list[InversionStep]:
        if not self.trajectory:
            raise RuntimeError("The clip has not been inverted since it was last tuned: run invert() to its end first.")
        if self._inverted_with != self._weights():
            raise RuntimeError("The weights have changed since the clip was inverted: run invert() again.")
        return self.trajectory

    def _weights(self) -> object:
        return weight_marks(trainable_parameters(self.video_unet))

    def _embed(self, prompt: str) -> Tensor:
        return encode_prompts(self.model, [prompt])
