"""The state of a tuning between two updates, from which it resumes to the bit.

Trained weights, the moments of AdamW, the place in the learning-rate schedule, the generator of noise and timesteps,
and the scale of float16's loss. All of it lies as tensors in one flat mapping, so that safetensors can hold it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import torch
from diffusers.optimization import get_scheduler
from torch import Tensor, nn

from ..unet.video_unet import VideoUNet, trainable_parameters
from .config import SCHEDULES, TuningConfig, TuningStep
from .objective import Objective, companion_of

MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW
FUSED_DEVICES = ("cuda",)  # one pass over the weights, and no temporary as large as all of them; rounds otherwise


class TuningState:
    """A tuning between two updates. `tune` updates it in place.

    Arguments:
        video_unet: the model to tune; its trained weights are part of the state and are not copied.
        config: how to tune.
        parameters: names of the weights to tune; None for `trainable_parameters`.
        objective: the loss; None for that of the config.
        num_clips: that are tuned on.

    Attributes:
        adapter: of the model.
        parameters: the weights that are tuned, by name.
        spatial: weights that the objective trains beside them and that are gone with this state; None without any.
        steps: the updates made so far, those before a `load_state_dict` included.
        whole: False while an update is made, and for good if one was interrupted: weights and moments are of two steps.
    """

    def __init__(
        self,
        video_unet: VideoUNet,
        config: TuningConfig,
        parameters: Iterable[str] | None = None,
        *,
        objective: Objective | None = None,
        num_clips: int = 1,
    ):
        self.steps: list[TuningStep] = []
        self.whole = True
        self.adapter = video_unet.adapter
        if parameters is None:
            self.parameters = trainable_parameters(video_unet)
        else:
            self.parameters = video_unet.adapter.find(parameters)
            video_unet.adapter.choose(self.parameters)
        drawn = dict(seed=config.seed, device=video_unet.device)
        self.spatial = companion_of(objective or config.objective, video_unet, num_clips, **drawn)  # type: ignore[arg-type]
        # All weights that train, in the order of the optimiser.
        self._trained = self.parameters | (self.spatial.parameters() if self.spatial else {})
        half = (config.compute_dtype or video_unet.dtype) == torch.float16
        with torch.inference_mode(False):
            self._make_optimizer(config, fused=video_unet.device.type in FUSED_DEVICES)
            self._new_scaler = partial(torch.amp.GradScaler, video_unet.device.type, enabled=half)
            self.scaler = self._new_scaler()
            self.generator = torch.Generator().manual_seed(config.seed)
            self._generator_state = self.generator.get_state()

    def _make_optimizer(self, config: TuningConfig, *, fused: bool) -> None:
        groups = [{"params": list(self.parameters.values()), "lr": config.learning_rate}]
        if self.spatial:
            groups.append({"params": list(self.spatial.parameters().values()), "lr": self.spatial.learning_rate})
        options = dict(betas=config.betas, eps=config.eps, weight_decay=config.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, fused=True if fused else None, **options)  # type: ignore[arg-type]
        schedule = SCHEDULES[config.lr_schedule]
        scheduler = get_scheduler(schedule, self.optimizer, None, config.warmup_steps, config.steps)
        self._base_rates, (self._factor, *_) = scheduler.base_lrs, scheduler.lr_lambdas

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next update."""
        return float(self._base_rates[0] * self._factor(len(self.steps)))

    def resume(self) -> None:
        """Return to the end of the last update, where the next one was interrupted after it had drawn or scaled.

        Raises:
            RuntimeError: if an update itself was interrupted.
        """
        self._raise_if_interrupted()
        self.generator.set_state(self._generator_state)
        before, self.scaler = self.scaler, self._new_scaler()
        self.scaler.load_state_dict(before.state_dict())

    def clip_gradients(self, max_grad_norm: float) -> Tensor:
        """Clip the gradient of all weights together; of those that the objective trains beside them, by itself.

        Returns:
            Its norm before it was clipped, without the scale of float16's loss, ().
        """
        self.scaler.unscale_(self.optimizer)
        if self.spatial:
            nn.utils.clip_grad_norm_(list(self.spatial.parameters().values()), max_grad_norm)
        return nn.utils.clip_grad_norm_(list(self.parameters.values()), max_grad_norm)

    def update(self, step: TuningStep) -> None:
        """Make the update from the gradients."""
        self.whole = False
        for group, base_rate in zip(self.optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = float(base_rate * self._factor(len(self.steps)))
        self.scaler.step(self.optimizer)  # skips an update that overflowed in float16
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        # A step that is interrupted later has drawn from the generator by then; `resume` restores this state.
        self._generator_state = self.generator.get_state()
        self.steps.append(step)
        self.whole = True

    def weights(self) -> dict[str, Tensor]:
        """The trained weights by their published names, not copied."""
        return {name: parameter.detach() for name, parameter in self.parameters.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """What `load_state_dict` takes beside `steps`: "weights.NAME", moments by NAME, generator and scaler.

        Weights and moments are not copied, and the next update changes them.

        Raises:
            RuntimeError: if an update was interrupted, so that there is no valid state.
        """
        self._raise_if_interrupted()
        return self._tensors()

    def _tensors(self) -> dict[str, Tensor]:
        weights = {name: parameter.detach() for name, parameter in self._trained.items()}
        tensors = {f"weights.{name}": weight for name, weight in weights.items()}
        states = {name: self.optimizer.state.get(parameter, {}) for name, parameter in self._trained.items()}
        for moment in MOMENTS:
            for name, weight in weights.items():
                tensors[f"{moment}.{name}"] = states[name].get(moment, torch.zeros_like(weight))
        tensors["updates"] = torch.tensor([float(state.get("step", 0)) for state in states.values()])
        tensors["generator"] = self._generator_state
        if self.scaler.is_enabled():
            scaler = self.scaler.state_dict()
            tensors["scaler"] = torch.tensor([scaler["scale"], scaler["_growth_tracker"]], dtype=torch.float64)
        return tensors

    def _raise_if_interrupted(self) -> None:
        if not self.whole:
            raise RuntimeError("The last update was interrupted: resume from a state that was saved before it.")

    def load_state_dict(self, tensors: Mapping[str, Tensor], steps: Sequence[TuningStep]) -> None:
        """Load a state of the same tuning, also after an update that was interrupted.

        Arguments:
            tensors: of `state_dict`, on any device.
            steps: the updates that had been made.

        Raises:
            ValueError: if the tensors are not those of such a state; nothing is changed then.
        """
        expected = {name: tensor.shape for name, tensor in self._tensors().items()}
        if expected != {name: tensor.shape for name, tensor in tensors.items()}:
            raise ValueError("This state belongs to another tuning or model: its tensors have other names or shapes.")
        with torch.inference_mode(False), torch.no_grad():
            for name, parameter in self._trained.items():
                parameter.copy_(tensors[f"weights.{name}"])
            states = {  # copies: the optimiser writes to them, and may not if they were made in inference mode
                index: {"step": tensors["updates"][index].clone()}
                | {moment: tensors[f"{moment}.{name}"].clone() for moment in MOMENTS}
                for index, name in enumerate(self._trained)
            }
            self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": states})
            self.optimizer.zero_grad(set_to_none=True)
        self.whole = True
        if self.scaler.is_enabled():
            scale, tracker = tensors["scaler"].tolist()
            self.scaler.load_state_dict(self.scaler.state_dict() | {"scale": scale, "_growth_tracker": int(tracker)})
        self._generator_state = tensors["generator"].cpu()
        self.generator.set_state(self._generator_state)
        self.steps[:] = steps
