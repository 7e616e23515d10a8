"""One-shot tuning: fit the inflated model to one clip and its caption (arXiv:2212.11565, section 3.3).

    minimise  E over noise, t  of  objective(model under the caption, x_0, noise, t)

over the query projections of sparse-causal and cross-attention and over the whole temporal attention, or any other
weights; everything else stays frozen. x_0 and the caption's embedding come from outside, encoded once.
"""

import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_type, shown
from ..conditioning import Conditioning, as_conditioning
from ..diffusion.denoiser import UNetDenoiser, to_float32, unet_denoiser
from ..diffusion.schedule import NoiseSchedule
from ..unet.video_unet import VideoUNet, check_inputs, trainable_parameters
from .config import TuningConfig, TuningStep
from .objective import Objective
from .passes import Draw, draws, losses
from .state import TuningState

LOSS_SCALING_DEVICES = ["cuda"]  # where float16, whose small gradients vanish without it, can be tuned in
LEAST_SCALE = 1  # of that loss: it starts at 65,536, and is halved for each update that is skipped


def tune(
    video_unet: VideoUNet,
    latents: Tensor,
    encoder_hidden_states: Tensor | Conditioning,
    scheduler: Any,
    config: TuningConfig = TuningConfig(),
    *,
    parameters: Iterable[str] | None = None,
    objective: Objective | None = None,
    noise: Sequence[Tensor] | Tensor | None = None,
    timesteps: Sequence[int] | Sequence[Tensor] | Tensor | None = None,
    state: TuningState | None = None,
) -> Generator[TuningStep, None, None]:
    """Tune `video_unet`, in place, one update for each item taken.

    Stop by taking no more, or with `close()`. Between two items the model may be sampled. It also tunes under an outer
    torch.inference_mode(). Flags `requires_grad` and modes train/eval are restored at the end.

    Arguments:
        video_unet: the inflated model.
        latents: the clip x_0, (b, c, f, h, w), scaled by the VAE's factor; any floating type and device. Several clips
            of one motion are the b of a batch, all in each forward pass, or one with `TuningConfig.clips_in_turn`.
        encoder_hidden_states: its caption's embedding, (b, n, d), one for each clip.
        scheduler: a diffusers scheduler or its config, read for betas and prediction type.
        config: how to tune.
        parameters: names of the weights to tune, of `video_unet.unet.named_parameters()`, or a mapping with these
            names. They become the set that `trainable_parameters`, `save_tuned`, `load_tuned`, `reset` and the strength
            follow, together with those that are tuned already. None for the present set, at first the published one.
        objective: the loss of each forward pass; None for that of the config.
        noise: the noise of each forward pass, in place of drawn ones, each like `latents`, also
            where a pass sees one of them.
        timesteps: the timestep of each forward pass, each an int or (b,).
        state: of this model and config. It is updated in place; a state that was loaded resumes where it stopped, to
            the bit on the CPU.

    Yields:
        A TuningStep after each update that is left to make.

    Raises:
        FloatingPointError: if loss or gradient is not finite; the update is not made. In float16 updates are skipped
            while a smaller scale of the loss may bring the gradient into range.
        RuntimeError: if an update of the state was interrupted.
        TypeError, ValueError: if a shape, a type, a number or an option does not fit.

    Warns:
        UserWarning: a flag `requires_grad` was set that no set of weights follows.
    """
    check_inputs(video_unet, latents, encoder_hidden_states=encoder_hidden_states)
    check_type("config", config, TuningConfig)
    _raise_if_ignored(config, objective, timesteps)
    schedule = NoiseSchedule.from_scheduler(scheduler)
    named = state.parameters if state and parameters is None else parameters
    trained = trainable_parameters(video_unet) if named is None else video_unet.adapter.find(named)
    _raise_unless_precise(video_unet, list(trained.values()), config)
    if named is None:
        _warn_of_other_flags(video_unet, trained)
    video_unet.adapter.freeze_scale()
    state = state or TuningState(video_unet, config, named, objective=objective, num_clips=len(latents))
    if {name: id(p) for name, p in trained.items()} != {name: id(p) for name, p in state.parameters.items()}:
        raise ValueError("The state was made for another model. Make one with TuningState(video_unet, config).")
    state.resume()
    drawn = draws(latents, schedule, config, state, noise, timesteps)
    with torch.inference_mode(False):
        clip = to_float32(latents, video_unet.device).detach().clone()
        caption = as_conditioning(encoder_hidden_states).detach()
    denoiser = unet_denoiser(video_unet, schedule, caption, config.compute_dtype)
    loss = objective or config.objective
    with _prepared(video_unet, list(trained.values()), config):
        while len(state.steps) < config.steps:
            # No mode is held across a yield: it would leak into the caller.
            with torch.inference_mode(False), torch.enable_grad():
                _update(denoiser, clip, loss, config, state, islice(drawn, config.gradient_accumulation_steps))
            yield state.steps[-1]


def _update(
    denoiser: UNetDenoiser,
    clip: Tensor,
    objective: Objective,
    config: TuningConfig,
    state: TuningState,
    drawn: Iterable[Draw],
) -> None:
    """Forward and backward passes, and the update."""
    step, values = len(state.steps) + 1, []
    for draw in drawn:
        with closing(losses(denoiser, clip, objective, draw, state.spatial)) as of_pass:
            for loss in of_pass:
                _raise_unless_a_loss(loss)
                _raise_unless_finite("loss", loss, step, config)
                state.scaler.scale(loss / config.gradient_accumulation_steps).backward()
        values.append(float(loss.detach()))
    norm = state.clip_gradients(config.max_grad_norm)
    # The scaler skips an update that overflowed, and scales down, as long as that can help.
    if not state.scaler.is_enabled() or state.scaler.get_scale() <= LEAST_SCALE:
        _raise_unless_finite("gradient", norm, step, config)
    state.update(TuningStep(step, sum(values) / len(values), state.learning_rate))


def _raise_if_ignored(config: TuningConfig, objective: Objective | None, timesteps: object) -> None:
    """Raise if an argument takes the place of a setting that is set."""
    if objective is not None and not callable(objective):
        raise TypeError(f"objective must be a function (denoiser, sample, noise, t), not {shown(objective)}.")
    if objective is not None and config.min_snr_gamma is not None:
        raise ValueError(
            "min_snr_gamma weighs the loss of the config, and an objective takes its place: leave it out, or give "
            "objective=NoisePrediction(min_snr_gamma)."
        )
    if timesteps is not None and config.timestep_range != 1:
        raise ValueError(
            "timestep_range limits timesteps that are drawn, and timesteps are given: leave one of them out."
        )


def _raise_unless_a_loss(loss: object) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        kind = f"one of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else shown(loss)
        without = ", without a gradient" if isinstance(loss, Tensor) and not loss.requires_grad else ""
        raise TypeError(
            f"An objective returns a tensor of one number with a gradient, not {kind}{without}: make it from what the "
            "denoiser predicts, and take the mean."
        )


def _raise_unless_precise(video_unet: VideoUNet, parameters: list[nn.Parameter], config: TuningConfig) -> None:
    compute_dtype = config.compute_dtype or video_unet.dtype
    wrong = {p.dtype for p in parameters if p.dtype in (torch.float16, torch.bfloat16)}
    if wrong:
        raise ValueError(
            f"Weights that train rest in float32, got {wrong}: updates of 1e-5 would be rounded away. "
            "Choose the type before inflate(), and move the inflated model with .to(device) only; for weights of your "
            "own choice load the model in float32."
        )
    if compute_dtype == torch.float32 and video_unet.dtype in (torch.float16, torch.bfloat16):
        raise ValueError(f"compute_dtype float32 needs a model loaded in float32, got one in {video_unet.dtype}.")
    if compute_dtype == torch.float16 and video_unet.device.type not in LOSS_SCALING_DEVICES:
        raise ValueError("Tuning in float16 needs a CUDA device for loss scaling. Use bfloat16 or float32.")
    if any(parameter.is_inference() for parameter in video_unet.parameters()):
        raise ValueError("This model was moved under torch.inference_mode() and cannot train. Move it outside of it.")


def _warn_of_other_flags(video_unet: VideoUNet, trained: Mapping[str, nn.Parameter]) -> None:
    """Warn if flags `requires_grad` mean another set of weights, since they are not what is followed."""
    ours = {id(parameter) for parameter in trained.values()}
    unet = video_unet.unet.named_parameters()
    others = [name for name, parameter in unet if parameter.requires_grad and id(parameter) not in ours]
    frozen = [name for name, parameter in trained.items() if not parameter.requires_grad]
    if others or 0 < len(frozen) < len(trained):
        found = (
            f"requires a gradient and is not trained ({len(others)} such weights)" if others else "is trained anyway"
        )
        warnings.warn(
            f"{(others or frozen)[0]} {found}: tuning does not follow requires_grad. Name the weights to tune, "
            "tune(..., parameters=names).",
            stacklevel=3,
        )


def _raise_unless_finite(what: str, value: Tensor, step: int, config: TuningConfig) -> None:
    if not torch.isfinite(value):
        raise FloatingPointError(
            f"The {what} of tuning step {step} is {value.item()}; the weights stay as step {step - 1} left them. "
            f"Lower learning_rate (now {config.learning_rate}), compute in bfloat16 or float32, or check the latents."
        )


@contextmanager
def _prepared(video_unet: VideoUNet, parameters: list[nn.Parameter], config: TuningConfig) -> Iterator[None]:
    """Freeze all but `parameters`, and restore every flag afterwards, however tuning ended."""
    flags = [(parameter, parameter.requires_grad) for parameter in video_unet.parameters()]
    modes = [(module, module.training) for module in video_unet.modules()]
    checkpointing = video_unet.context.checkpointing
    try:
        video_unet.eval()  # dropout would draw from the global generator
        video_unet.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
            parameter.grad = None
        video_unet.context.checkpointing = config.gradient_checkpointing
        yield
    finally:
        video_unet.context.checkpointing = checkpointing
        for parameter, requires_grad in flags:
            parameter.requires_grad_(requires_grad)
        for parameter in parameters:
            parameter.grad = None
        for module, training in modes:
            module.training = training
