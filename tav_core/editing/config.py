"""The settings of inversion and sampling. Nothing here imports the model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..checks import MAX_SEED, MAX_STEPS, check_integer, check_number, check_type

# Settings of `SamplingConfig` that act in a source-preserving edit alone.
SOURCE_SETTINGS = ("source_guidance_scale", "cross_replace_steps", "self_replace_steps", "guide_from_caption")

# Samplers by name, each with the spacing of its timesteps; None for that of the model.
SAMPLERS = {"ddim": None, "ddim_trailing": "trailing", "ddim_lcm": "lcm", "lcm": "lcm"}


@dataclass(frozen=True)
class InversionConfig:
    """How to invert.

    Attributes:
        num_inference_steps: the steps; as many as sampling will take.
        refinements: predictions more for each step at most, each of which brings it nearer to the exact one; 0 as
            published, 10 for an exact reconstruction.
        tolerance: a step is refined until its latents move by less than this share of their length.
    """

    num_inference_steps: int = 50
    refinements: int = 0
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        check_integer("num_inference_steps", self.num_inference_steps, 1, MAX_STEPS)
        check_integer("refinements", self.refinements, 0, MAX_STEPS)
        check_number("tolerance", self.tolerance, 0, 1)


@dataclass(frozen=True)
class SamplingConfig:
    """How to sample.

    Attributes:
        num_inference_steps: the steps of the whole schedule; as many as the inversion took.
        guidance_scale: 1 for no guidance, which also saves the pass with the negative prompt.
        eta: 0 for DDIM, 1 for as much fresh noise as DDPM.
        seed: of that fresh noise; without effect at eta 0.
        guidance_rescale: how far to take the guided prediction back to the contrast of the positive one, in [0, 1]
            (Lin et al., arXiv:2305.08891, section 3.4).
        denoise: the share of the schedule that is run, in (0, 1]; see `NoiseSchedule.timesteps`.
        high_noise_guidance_scale: the scale at high noise (`NoiseSchedule.is_high_noise`), where the layout is decided;
            None for the same at all levels.
        source_guidance_scale: of a source-preserving edit, the scale of what is predicted for the clip itself; None for
            that of the edit. 1 keeps more of the clip and takes three passes a step in place of four.
        cross_replace_steps: of a source-preserving edit, the share of the steps, from the first on, in which the words
            of the prompt act where those of the caption do (prompt-to-prompt, arXiv:2208.01626, section 3.2).
        self_replace_steps: the same for the attention of pixels to frames, which preserves shapes.
        guide_from_caption: in a source-preserving edit, guide away from the caption in place of the negative prompt:
            only what the two prompts say differently is amplified.
        propagate: in a source-preserving edit, whether the frames share what changes along optical flow at high noise
            (`propagation.py`).
    """

    num_inference_steps: int = 50
    guidance_scale: float = 12.5
    eta: float = 0.0
    seed: int = 0
    guidance_rescale: float = 0.0
    denoise: float = 1.0
    high_noise_guidance_scale: float | None = None
    source_guidance_scale: float | None = None
    cross_replace_steps: float = 0.0
    self_replace_steps: float = 0.0
    guide_from_caption: bool = False
    propagate: bool = True

    def __post_init__(self) -> None:
        check_integer("num_inference_steps", self.num_inference_steps, 1, MAX_STEPS)
        check_number("guidance_scale", self.guidance_scale, 0, 1000)
        check_number("eta", self.eta, 0, 1)
        check_integer("seed", self.seed, 0, MAX_SEED)
        check_number("guidance_rescale", self.guidance_rescale, 0, 1)
        check_number("denoise", self.denoise, 0, 1, without="low")
        for name in ("high_noise_guidance_scale", "source_guidance_scale"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 0, 1000)
        for name in ("cross_replace_steps", "self_replace_steps"):
            check_number(name, getattr(self, name), 0, 1)
        for name in ("guide_from_caption", "propagate"):
            check_type(name, getattr(self, name), bool)

    @property
    def guided(self) -> bool:
        """Whether any step uses guidance."""
        return any(scale not in (None, 1) for scale in (self.guidance_scale, self.high_noise_guidance_scale))

    @property
    def replaces(self) -> bool:
        """Whether attention is replaced in any step."""
        return self.cross_replace_steps > 0 or self.self_replace_steps > 0

    @property
    def of_the_source(self) -> SamplingConfig:
        """How the clip itself is predicted in a source-preserving edit."""
        if self.guide_from_caption:  # away from the caption, the clip has nowhere to go
            return replace(self, guidance_scale=1.0, high_noise_guidance_scale=None)
        if self.source_guidance_scale is None:
            return self
        return replace(self, guidance_scale=self.source_guidance_scale, high_noise_guidance_scale=None)

    @property
    def source_settings(self) -> list[str]:
        """The names of settings that are set and act in a source-preserving edit alone."""
        return [name for name in SOURCE_SETTINGS if getattr(self, name)]
