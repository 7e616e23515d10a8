"""The knobs of one-shot tuning, and what it reports of a step."""

from dataclasses import dataclass

import torch

from ..checks import MAX_NUMBERS, MAX_SEED, MAX_STEPS, check_choice, check_integer, check_number, check_pair, check_type
from ..editing.windows import MOST_LEADS
from ..unet.frames import SELECTIVE
from .objective import AppearanceDebiased, NoisePrediction, Objective

SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}  # names in diffusers
LOSSES = ("published", "debiased")  # the error of the noise, and that of motion without looks
CHECKPOINTING: dict[str, bool | str] = {"off": False, SELECTIVE: SELECTIVE, "on": True}  # each slower and smaller


@dataclass(frozen=True)
class TuningConfig:
    """How to tune. The defaults are those of the published implementation.

    Attributes:
        steps: optimiser updates.
        learning_rate: of AdamW, at its highest.
        lr_schedule: "constant", or falling to zero as "linear" or "cosine".
        warmup_steps: updates over which the learning rate rises from zero, with which the first is made.
        weight_decay, betas, eps: of AdamW.
        max_grad_norm: the norm to which the gradient of all trained weights together is clipped.
        gradient_accumulation_steps: draws of noise and timestep averaged in one update.
        gradient_checkpointing: False stores all activations for the backward pass, "selective" those that took most of
            the time, True the fewest; the others are recomputed. The gradients are the same, to the bit on a CPU.
        seed: of the noise and the timesteps.
        timestep_range: the share of the schedule, from its clean end, that timesteps are drawn from, in (0, 1]. Where
            the last steps carry no signal (zero terminal SNR) the model can learn no more there than the mean of the
            clip; sampling that starts below, `SamplingConfig.denoise`, need not have learnt it.
        min_snr_gamma: weigh the loss by min-SNR with this gamma (5 is usual); None for no weights.
        loss: "published", or "debiased", which learns the motion and as little as it can of the looks
            (`AppearanceDebiased`), to sample it from fresh noise under other prompts.
        clips_in_turn: of several clips, whether a forward pass sees one after the other, in the memory of one; False
            for all in each pass.
        context_length: frames that an update sees: a window of so many, drawn anew for each forward pass and led by
            frames 0 and s - 1, which have no loss (`editing/windows.py`). A long clip then takes the memory of so many
            and two frames. None for the whole clip.
        compute_dtype: torch.bfloat16 or torch.float16 (CUDA only) for autocast; None for that of the frozen weights.
    """

    steps: int = 500
    learning_rate: float = 3e-5
    lr_schedule: str = "constant"
    warmup_steps: int = 0
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    max_grad_norm: float = 1.0
    gradient_accumulation_steps: int = 1
    gradient_checkpointing: bool | str = False
    seed: int = 0
    timestep_range: float = 1.0
    min_snr_gamma: float | None = None
    loss: str = "published"
    clips_in_turn: bool = False
    context_length: int | None = None
    compute_dtype: torch.dtype | None = None

    @property
    def objective(self) -> Objective:
        """The loss that these settings ask for."""
        return AppearanceDebiased() if self.loss == "debiased" else NoisePrediction(self.min_snr_gamma)

    def frames_at_once(self, num_frames: int) -> int:
        """The most frames of a clip that a forward pass is given."""
        return num_frames if self.context_length is None else min(num_frames, self.context_length + MOST_LEADS)

    def __post_init__(self) -> None:
        check_integer("steps", self.steps, 1, MAX_STEPS)
        check_number("learning_rate", self.learning_rate, 0, 1, without="low")
        check_choice("lr_schedule", self.lr_schedule, list(SCHEDULES))
        check_integer("warmup_steps", self.warmup_steps, 0, MAX_STEPS)
        check_number("weight_decay", self.weight_decay, 0, 1000)
        check_pair("betas", self.betas)
        check_number("betas[0]", self.betas[0], 0, 1, without="high")
        check_number("betas[1]", self.betas[1], 0, 1, without="high")
        check_number("eps", self.eps, 0, 1, without="low")
        check_number("max_grad_norm", self.max_grad_norm, 0, 1e9, without="low")
        check_integer("gradient_accumulation_steps", self.gradient_accumulation_steps, 1, MAX_STEPS)
        check_choice("gradient_checkpointing", self.gradient_checkpointing, list(CHECKPOINTING.values()))
        check_integer("seed", self.seed, 0, MAX_SEED)
        check_number("timestep_range", self.timestep_range, 0, 1, without="low")
        check_choice("loss", self.loss, LOSSES)
        check_type("clips_in_turn", self.clips_in_turn, bool)
        if self.min_snr_gamma is not None and self.loss != "published":
            raise ValueError("min_snr_gamma weighs the published loss alone: switch it off, or set loss to published.")
        if self.min_snr_gamma is not None:
            check_number("min_snr_gamma", self.min_snr_gamma, 0, 1e6, without="low")
        if self.context_length is not None:
            check_integer("context_length", self.context_length, 1, MAX_NUMBERS)
        check_choice("compute_dtype", self.compute_dtype, (None, torch.float32, torch.bfloat16, torch.float16))


@dataclass(frozen=True)
class TuningStep:
    """One optimiser update.

    Attributes:
        step: its number, from 1.
        loss: the mean loss of its forward passes, before the update.
        learning_rate: with which it was made.
    """

    step: int
    loss: float
    learning_rate: float
