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
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, cast

from torch import Tensor

from .checks import check_tensor, check_text, check_type
from .conditioning import Conditioning, Control, as_conditioning, checked_controls
from .diffusion.schedule import NoiseSchedule
from .editing.config import InversionConfig, SamplingConfig
from .editing.deflicker import deflicker
from .editing.edit import check_start, edit, fresh_noise, inverted_start
from .editing.heat_maps import HeatMapStep, heat_maps, word_heat_maps
from .editing.inversion import InversionStep
from .editing.reconstruction import reconstruct
from .editing.sampling import SamplingStep
from .editing.source_branch import SourceBranch, latent_mask
from .editing.strength import STRENGTHS, Trial, search_strength
from .models.base import BaseModel
from .models.codec import align_prompts, decode_latents, encode_frames, encode_prompts, prompt_words
from .stages.inflate import inflated_unet
from .stages.invert import invert_clip
from .stages.tune import tune_clip
from .store import Store
from .store.clip import load_clip, save_clip
from .store.sharing import ClipWeights
from .tuning.clips import raise_unless_alike
from .tuning.config import TuningConfig, TuningStep
from .unet.video_unet import VideoUNet, plain_module

Prompt: TypeAlias = str | Tensor | Conditioning  # text, or its embedding (1, n, d)


class ClipEditor:
    """A video model and one clip: its latents, its tuning, its inversion.

    Several editors may share a model. Each has weights of its own, which are put into the model when it runs.

    Arguments:
        model: a base model, whose UNet is inflated in place unless an editor has done so; or an inflated UNet, with
            latents for frames, embeddings for prompts, and `scheduler`.
        frames: (f, h, w, 3) in [0, 1], height and width multiples of 8; or latents, (1, c, f, h, w), scaled by the
            VAE's factor.
        source_prompt: the caption of the clip, under which it is tuned; text, or its embedding (1, n, d).
        store: of tunings and inversions; None to save nothing.
        scheduler: of the model, where it is an inflated UNet.
        controls: what steers tuning, inversion and sampling beside the prompts (`models/control.py`).
        more_clips: frames or latents, and the caption, of more clips of the same motion, as long and as large. They are
            tuned on together with this one; edits are of this one.
        inflation: group_norm, attention, temporal and temporal_positions, as `inflate` takes them.

    Attributes:
        latents: the clip's, (1, c, f, h, w), scaled by the VAE's factor. Read them; another clip is another editor.
        video_unet: the inflated UNet, with the weights of this clip in it; for `trainable_parameters`, `save_tuned`,
            `record_attention` and the like. If you change its weights, invert again.
        schedule: the noise levels of the model.
        trajectory: the steps of the last inversion by the weights as they are, from low noise to high, each with its
            timestep and latents; empty without one.

    Raises:
        TypeError, ValueError: an argument has another type or shape, or the model was inflated with other options.
    """

    def __init__(
        self,
        model: BaseModel | VideoUNet,
        frames: Tensor,
        source_prompt: Prompt,
        *,
        store: Store | None = None,
        scheduler: Any = None,
        controls: Sequence[Control] = (),
        more_clips: Sequence[tuple[Tensor, Prompt]] = (),
        **inflation: Any,
    ):
        if not isinstance(plain_module(model), VideoUNet):
            check_type("model", model, BaseModel, "load one with load_model(), or give an inflated UNet")
        _check_prompt("source_prompt", source_prompt)
        self.model = model if isinstance(model, BaseModel) else None
        self.store = store
        self.source_prompt = source_prompt
        check_tensor("frames", frames)
        if frames.ndim == 5 and len(frames) != 1:
            raise ValueError(
                f"Latents of one clip are (1, c, f, h, w), got {tuple(frames.shape)}: make an editor for each."
            )
        self._frames = None if frames.ndim == 5 else frames
        self.latents = self._latents_of(frames)
        self._more_clips = []
        for number, (others, caption) in enumerate(more_clips, 2):
            _check_prompt(f"the caption of clip {number}", caption)
            self._more_clips.append((self._latents_of(others), caption))
            raise_unless_alike(number, self._more_clips[-1][0], self.latents)
        if scheduler is None and self.model is None:
            raise TypeError("An inflated UNet does not show its noise levels: give scheduler=, that of its model.")
        self.schedule = NoiseSchedule.from_scheduler(scheduler or self._base_model("a scheduler").scheduler)
        self._weights = ClipWeights(inflated_unet(model, inflation))
        self.trajectory: list[InversionStep] = []
        self._inverted_with = -1  # the version of the weights of the inversion
        # Prompts that a strength search has encoded, while it runs.
        self._embedded: dict[str, Tensor | Conditioning] | None = None
        self.controls = controls
        self._round_trip: Tensor | None = None  # frames of the clip's latents, once they were decoded

    @property
    def video_unet(self) -> VideoUNet:
        """The inflated UNet, with the weights of this clip in it."""
        return self._weights.hold()

    @property
    def controls(self) -> tuple[Control, ...]:
        """What steers tuning, inversion and sampling beside the prompts. Other ones discard the inversion.

        Raises:
            TypeError, ValueError: no list of controls, or one does not fit the clip or the model.
        """
        return self._controls

    @controls.setter
    def controls(self, controls: Sequence[Control]) -> None:
        self._controls = checked_controls(controls, self.latents, self.video_unet.unet.config)
        self.trajectory = []

    @property
    def frames(self) -> Tensor:
        """The clip, (f, h, w, 3) in [0, 1]; decoded where the editor was given latents."""
        if self._frames is None:
            self._frames = self.decode(self.latents)
        return self._frames

    def tune(self, config: TuningConfig = TuningConfig(), **own: Any) -> Iterator[TuningStep]:
        """Tune the untuned model on the clip under its caption.

        An earlier tuning and its inversion are discarded. With a store only updates that it lacks are made.

        Arguments:
            config: how to tune.
            own: parameters, objective, noise and timesteps, as `tav_core.tune` takes them.
        """
        self.trajectory = []
        self.video_unet.reset()
        caption = self._embed(self.source_prompt)
        own = dict(own, store=self.store, more=[(clip, self._embed(text)) for clip, text in self._more_clips])
        run = tune_clip(self.video_unet, self.latents, caption, self.schedule, config, **own)
        # Without a preview, updates are all that it yields.
        return self._weights.during(cast(Iterator[TuningStep], run))

    def set_strength(self, strength: float) -> None:
        """Fade or extend the tuning: 1 as tuned, 0 the image model. An inversion by other weights is discarded.

        Each call starts from the tuning, not from the last strength.

        Raises:
            ValueError: if the strength is no number in [-100, 100].
        """
        before, self.video_unet.adapter.scale = self.video_unet.adapter.scale, strength
        if strength != before:
            self.trajectory = []

    def invert(self, config: InversionConfig = InversionConfig(), prompt: Prompt = "") -> Iterator[InversionStep]:
        """Invert the clip under `prompt`, the empty one as published, for `edit`."""
        text, scheduler = self._embed(prompt), self.schedule
        run = invert_clip(self.video_unet, self.latents, text, scheduler, config, store=self.store, check=False)
        self.trajectory, self._inverted_with = run.trajectory, self._weights.version()
        return self._weights.during(cast(Iterator[InversionStep], run))  # unchecked, it samples nothing

    def reconstruct(self, prompt: Prompt = "") -> Iterator[SamplingStep]:
        """Sample the inverted clip again, under the prompt of the inversion and without guidance.

        Raises:
            RuntimeError: there is no inversion.
        """
        return self._weights.during(reconstruct(self.video_unet, self._inverted(), self._embed(prompt), self.schedule))

    def edit(
        self,
        prompt: Prompt,
        config: SamplingConfig = SamplingConfig(),
        *,
        negative_prompt: Prompt = "",
        noise: Tensor | None = None,
        start_from: str = "inversion",
        mask: Tensor | None = None,
        sampler: Any = None,
    ) -> Iterator[SamplingStep]:
        """Sample under another prompt.

        Arguments:
            prompt, negative_prompt: what the edit is to show, and what to guide away from; text or embedding (1, n, d).
            config: how to sample.
            noise: to start from, (1, c, f, h, w), in place of the inverted clip or of drawn noise.
            start_from: "inversion" for the inverted clip, as published; "noise" for fresh noise of the config's seed;
                "source_branch" for a source-preserving edit (`editing/source_branch.py`), which needs no inversion.
            mask: where a source-preserving edit may change the clip, 1, and where it is locked, 0: (f, height, width),
                or (1, height, width) for all frames.
            sampler: in place of DDIM, as `sample` takes it: a `Sampler` or a scheduler of diffusers.

        Raises:
            RuntimeError: there is neither an inversion nor a noise to start from.
            ValueError: an unknown `start_from`, one that does not go with the other arguments, or a seed that has no
                effect.
        """
        check_type("config", config, SamplingConfig)
        check_start(start_from, noise, mask, self.latents)
        if config.guide_from_caption and not (isinstance(negative_prompt, str) and negative_prompt == ""):
            raise ValueError("guide_from_caption takes the place of a negative prompt: leave out one of them.")
        if config.seed and config.eta == 0 and sampler is None and (noise is not None or start_from == "inversion"):
            raise ValueError(
                f"seed {config.seed} has no effect: at eta 0 nothing is drawn, and the start is given. Leave it 0, or "
                'ask for eta or start_from="noise".'
            )
        prompts = self._embed(prompt), self._embed(negative_prompt)
        start = self._start(start_from, config, prompt) if noise is None else noise
        free = None if mask is None else latent_mask(mask, self.latents)
        options: dict[str, Any] = dict(mask=free, sampler=sampler)
        run = edit if self.store is None else self.store.edit
        return self._weights.during(run(self.video_unet, start, *prompts, self.schedule, config, **options))

    def try_strengths(
        self,
        prompt: Prompt,
        config: SamplingConfig = SamplingConfig(),
        *,
        strengths: Sequence[float] = STRENGTHS,
        inversion: InversionConfig = InversionConfig(),
        **options: Any,
    ) -> Iterator[Trial]:
        """Edit at several strengths of the tuning and score each (`editing/strength.py`); `best_trial` chooses.

        Each trial is the edit that `invert`, under the empty prompt, and `edit` make at that strength.
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

        try:
            self._embedded = {}
            texts = self._embed(prompt), self._embed(self.source_prompt)
            items = self._weights.during(search_strength(self.video_unet, edited, *texts, self.schedule, strengths))
            yield from (item for item in items if isinstance(item, Trial))
        finally:
            self.trajectory, self._embedded = [], None

    def heat_maps(self, prompt: Prompt, latents: Tensor | None = None) -> Iterator[HeatMapStep]:
        """Where each token of a prompt acts (`editing/heat_maps.py`), for `word_heat_maps`.

        Arguments:
            prompt: what the clip shows.
            latents: of an edit, (1, c, f, h, w); None for the clip.
        """
        clip = self.latents if latents is None else latents
        return self._weights.during(heat_maps(self.video_unet, clip, self._embed(prompt), self.schedule))

    def word_heat_maps(self, prompt: str, maps: Tensor) -> list[tuple[str, Tensor]]:
        """The words of a prompt with their maps, each (f, h, w) in [0, 1], from those of its tokens (1, n, f, h, w)."""
        return word_heat_maps(maps, prompt_words(self._base_model("words"), prompt))

    def decode(self, latents: Tensor, *, differentiable: bool = False) -> Tensor:
        """(1, c, f, h, w) -> frames (f, 8 h, 8 w, 3) in [0, 1], with gradients for the latents where asked."""
        return decode_latents(self._base_model("decoding"), latents, differentiable=differentiable)

    def save(self, path: str | PathLike[str]) -> Path:
        """Save the tuning, its strength, and the inversion if the weights are still those that made it.

        Arguments:
            path: of the .safetensors file; a file of this name is replaced.

        Raises:
            OSError: if it cannot be written.
        """
        valid = self._inverted_with == self._weights.version()
        return save_clip(path, self.video_unet, self.latents, self.trajectory if valid else [])

    def load(self, path: str | PathLike[str]) -> None:
        """Load what `save` wrote for the same clip. The tuning, strength and inversion become those of the file.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged, or of another model or clip; nothing is changed then.
        """
        self.trajectory = load_clip(path, self.video_unet, self.latents).trajectory
        self._inverted_with = self._weights.version()

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

    def _latents_of(self, frames: Tensor) -> Tensor:
        check_tensor("frames", frames)
        return frames if frames.ndim == 5 else encode_frames(self._base_model("frames"), frames)

    def _start(self, start_from: str, config: SamplingConfig, prompt: Prompt) -> Tensor | SourceBranch:
        """What sampling starts from."""
        if start_from == "source_branch":
            texts = [text for text in (self.source_prompt, prompt) if isinstance(text, str)]
            alignment = align_prompts(self._base_model("text"), *texts) if len(texts) == 2 else None
            return SourceBranch(self.latents, self._embed(self.source_prompt), alignment=alignment)
        if start_from == "noise":
            return fresh_noise(tuple(self.latents.shape), config)
        return inverted_start(self._inverted(), self.schedule, config)

    def _inverted(self) -> list[InversionStep]:
        if not self.trajectory:
            raise RuntimeError(
                "The clip has not been inverted since it was tuned or its controls changed: run invert() to its "
                "end first."
            )
        if self._inverted_with != self._weights.version():
            raise RuntimeError("The weights have changed since the clip was inverted: run invert() again.")
        return self.trajectory

    def _embed(self, prompt: Prompt) -> Conditioning:
        _check_prompt("a prompt", prompt)
        if not isinstance(prompt, str):
            return as_conditioning(prompt).under(self.controls)
        known = {} if self._embedded is None else self._embedded
        if prompt not in known:
            model = self._base_model("text")
            height, width = (model.pixels_per_latent * side for side in self.latents.shape[-2:])
            known[prompt] = encode_prompts(model, [prompt], (height, width))
        return as_conditioning(known[prompt]).under(self.controls)

    def _base_model(self, what: str) -> BaseModel:
        if self.model is None:
            raise RuntimeError(
                f"An inflated UNet alone has no autoencoder and no text encoder, and {what} needs one: give latents "
                "and embeddings, and decode with decode_latents(model, latents)."
            )
        return self.model


def _check_prompt(name: str, prompt: object) -> None:
    if not isinstance(prompt, (Tensor, Conditioning)):
        check_text(name, prompt)
