"""The bundled model as ComfyUI's own MODEL, CLIP and VAE, so that its stock nodes run on it.

UNet and text encoder are the host's classes with our weights, renamed by the host's key map. The autoencoder is
narrower than the host's GroupNorm of 32 groups allows: a VAE of the host holds the diffusers module instead.
"""

from __future__ import annotations

import json
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.latent_formats
import comfy.model_base
import comfy.model_management as host
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.utils
import torch
import torch.nn.functional as F
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ... import tav_core
from ...tav_core.models.base import ASSETS
from ...tav_core.presets import BUNDLED
from .convert import PREFIX
from .handle import WholePatcher

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from ...tav_core import BaseModel

PREVIEW = ASSETS / "demo-model" / "preview.json"  # latents to colours, by least squares: bundled_model/pack.py
CHANNELS = 16  # of the latents
# The smallest autoencoder that the host can build. It fills in all fields of a VAE; then ours replaces it.
SHELL = dict(
    embed_dim=CHANNELS,
    ddconfig=dict(
        **dict(double_z=True, z_channels=CHANNELS, resolution=32, in_channels=3, out_ch=3, ch=32, ch_mult=[1]),
        **dict(num_res_blocks=1, attn_resolutions=[], dropout=0.0),
    ),
)


class BundledModel(comfy.supported_models_base.BASE):
    """The model family of the bundled model, for the host."""

    preset = BUNDLED


class BundledLatents(comfy.latent_formats.LatentFormat):
    """Latents of 16 channels at an eighth of the size, with the host's quick previews."""

    latent_channels = CHANNELS

    def __init__(self, scale_factor: float):
        preview = json.loads(PREVIEW.read_text(encoding="utf-8"))
        self.scale_factor = scale_factor
        self.latent_rgb_factors, self.latent_rgb_factors_bias = preview["factors"], preview["bias"]


class Multiple(Fraction):
    """The width of a level over that of the first. Times a whole width it is a whole width, as layers need it."""

    def __mul__(self, other: int) -> int:
        width = Fraction(self) * other
        assert width.denominator == 1, "a level is as wide as the model says"
        return int(width)

    __rmul__ = __mul__


def load_demo() -> tuple[ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    """The bundled model as MODEL, CLIP and VAE.

    Raises:
        ModelError: the core's own, if the model is missing.
    """
    with torch.inference_mode(False), torch.no_grad():
        base = tav_core.load_model()
        return _host_model(base), _host_clip(base), _host_vae(base)


def _host_model(base: BaseModel) -> ModelPatcher:
    """The host's MODEL for a diffusers UNet with a v-prediction or epsilon scheduler."""
    config = _model_config(base)
    kind = comfy.model_base.ModelType
    predicts = kind.V_PREDICTION if base.scheduler.config.prediction_type == "v_prediction" else kind.EPS
    model = comfy.model_base.BaseModel(config, model_type=predicts)
    weights = base.unet.state_dict()
    key_map = comfy.utils.unet_to_diffusers(config.unet_config)
    state = {PREFIX + key: weights.pop(name) for name, key in key_map.items() if name in weights}
    assert not weights, "the host's key map names every weight"
    model.load_state_dict(state, strict=False)  # only the buffers of its noise levels are missing
    return ModelPatcher(model, load_device=host.get_torch_device(), offload_device=host.unet_offload_device())


def _model_config(base: BaseModel) -> comfy.supported_models_base.BASE:
    scheduler, heads = base.scheduler.config, base.unet.config.attention_head_dim
    assert isinstance(heads, int), "each level has the same number of heads"
    config = BundledModel(_host_unet_config(base.unet))
    config.unet_config |= {"num_heads": heads, "num_head_channels": -1}
    config.sampling_settings = {
        "beta_schedule": "linear",  # the host's name for diffusers' scaled_linear
        "linear_start": scheduler.beta_start,
        "linear_end": scheduler.beta_end,
        "timesteps": scheduler.num_train_timesteps,
        "zsnr": bool(scheduler.rescale_betas_zero_snr),
    }
    config.custom_operations = _operations(base.unet.config.norm_num_groups)
    config.latent_format = BundledLatents(base.vae.config.scaling_factor)
    config.set_inference_dtype(torch.float32, None)
    return config


def _host_unet_config(unet: UNet2DConditionModel) -> dict[str, Any]:
    config = unet.config
    attends_down = ["CrossAttn" in kind for kind in config.down_block_types]
    attends_up = ["CrossAttn" in kind for kind in config.up_block_types]
    channels, layers = config.block_out_channels, config.layers_per_block
    return dict(
        image_size=config.sample_size,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        model_channels=channels[0],
        channel_mult=[Multiple(width, channels[0]) for width in channels],
        num_res_blocks=[layers] * len(channels),
        use_spatial_transformer=True,
        legacy=False,
        transformer_depth=[int(attends) for attends in attends_down for _ in range(layers)],
        transformer_depth_middle=1,
        # From the shallow end to the deep one: the host pops them from the end.
        transformer_depth_output=[int(attends) for attends in reversed(attends_up) for _ in range(layers + 1)],
        use_linear_in_transformer=config.use_linear_projection,
        context_dim=config.cross_attention_dim,
        adm_in_channels=None,
        use_temporal_attention=False,
        use_temporal_resblock=False,
    )


def _operations(groups: int) -> type:
    """The host's operations with GroupNorms of so many groups in place of 32."""

    class Operations(comfy.ops.disable_weight_init):
        class GroupNorm(comfy.ops.disable_weight_init.GroupNorm):
            def __init__(self, num_groups: int, *args: Any, **kwargs: Any):
                super().__init__(groups, *args, **kwargs)

    return Operations


def _host_clip(base: BaseModel) -> comfy.sd.CLIP:
    config = base.text_encoder.config
    special = {"start": config.bos_token_id, "end": config.eos_token_id, "pad": config.pad_token_id}
    encoder = partial(
        comfy.sd1_clip.SDClipModel,
        max_length=config.max_position_embeddings,
        textmodel_json_config=config.to_dict(),
        special_tokens=special,
        return_projected_pooled=False,
    )
    tokenizer = partial(
        comfy.sd1_clip.SDTokenizer,
        tokenizer_path=str(Path(base.tokenizer.name_or_path)),
        embedding_size=config.hidden_size,
        max_length=config.max_position_embeddings,
    )
    target = comfy.supported_models_base.ClipTarget(
        partial(comfy.sd1_clip.SD1Tokenizer, tokenizer=tokenizer),
        partial(comfy.sd1_clip.SD1ClipModel, clip_model=encoder),
    )
    clip = comfy.sd.CLIP(target)
    text_model = clip.cond_stage_model.clip_l
    missing, _ = text_model.load_sd(_text_weights(base, text_model))
    assert not missing, missing
    return clip


def _text_weights(base: BaseModel, text_model: nn.Module) -> dict[str, Tensor]:
    """Weights with the names of transformers before version 5, padded to the host's fixed vocabulary size."""
    weights = {
        name if name.startswith("text_model.") else f"text_model.{name}": weight
        for name, weight in base.text_encoder.state_dict().items()
        if not name.endswith("position_ids")
    }
    rows = text_model.transformer.get_input_embeddings().weight.shape[0]
    name = "text_model.embeddings.token_embedding.weight"
    weights[name] = F.pad(weights[name], (0, 0, 0, rows - len(weights[name])))
    weights["text_projection.weight"] = torch.eye(base.text_encoder.config.hidden_size)
    return weights


class FirstStage(nn.Module):
    """A diffusers autoencoder with the host's interface: pixels in [-1, 1], unscaled latents."""

    def __init__(self, vae: nn.Module):
        super().__init__()
        self.vae = vae
        self.device = None  # the host writes it

    def encode(self, pixels: Tensor) -> Tensor:
        return self.vae.encode(pixels).latent_dist.mode()

    def decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents).sample


def _host_vae(base: BaseModel) -> comfy.sd.VAE:
    shell = AutoencoderKL(**SHELL)
    vae = comfy.sd.VAE(sd=shell.state_dict(), config={"params": SHELL})
    vae.first_stage_model = FirstStage(base.vae).eval().to(vae.vae_dtype)
    vae.patcher = WholePatcher(vae.first_stage_model, load_device=vae.device, offload_device=host.vae_offload_device())
    vae.size, vae.latent_channels = None, CHANNELS
    return vae
