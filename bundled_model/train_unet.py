"""Train the UNet and the text encoder of the bundled demo model, on the latents of a trained autoencoder.

    python -m bundled_model.train_vae  --output build/demo-model
    python -m bundled_model.train_unet --output build/demo-model

The model predicts v (arXiv:2202.00512) under Stable Diffusion's betas rescaled to zero terminal SNR
(arXiv:2305.08891): the last step then has no trace of the picture, and the background's colour comes from the words.
Timesteps are drawn more often at high noise, where the words decide. The moving average of the weights is saved.
The learning rate is flat and falls to zero over the last steps, so that --start can continue a run.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

from bundled_model import text
from bundled_model.measure import sample_images, words_followed
from tav_core.demo import shapes as world
from tav_core.demo import shapes_judge as judge
from tav_core.models.base import BaseModel

WIDTH = 64  # of the text embeddings
UNET_CONFIG = dict(
    sample_size=world.SIZE // 8,
    in_channels=4,
    out_channels=4,
    block_out_channels=(48, 96, 144),
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=1,
    cross_attention_dim=WIDTH,
    attention_head_dim=4,  # the number of heads, as in Stable Diffusion 1
    norm_num_groups=8,
)
SCHEDULER_CONFIG = dict(
    num_train_timesteps=1000,
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    prediction_type="v_prediction",
    rescale_betas_zero_snr=True,
    clip_sample=False,
    set_alpha_to_one=False,
    steps_offset=1,
)


@torch.no_grad()
def make_latents(vae: AutoencoderKL, scenes: list[world.Scene]) -> torch.Tensor:
    """Scaled latents of drawn scenes: (n, 4, 16, 16), float16 to save memory."""
    batches = []
    for start in range(0, len(scenes), 16):
        drawn = np.stack([world.draw(scene)[0] for scene in scenes[start : start + 16]])
        images = torch.from_numpy(drawn).permute(0, 3, 1, 2) * 2 - 1
        batches.append((vae.encode(images).latent_dist.mode() * vae.config.scaling_factor).half())
    return torch.cat(batches)


class Trainer:
    """UNet and text encoder in training, their moving averages, and their data."""

    def __init__(self, folder: Path, seed: int, count: int, start: Path | None):
        self.folder, self.rng = folder, np.random.default_rng(seed)
        torch.manual_seed(seed)
        self.vae = AutoencoderKL.from_pretrained(folder / "vae").eval()
        self.scheduler = DDIMScheduler(**SCHEDULER_CONFIG)
        known = text.vocabulary(start) if start else {}  # read first: both may be the same folder
        self.tokenizer = text.build_tokenizer(folder / "tokenizer")
        if start:
            unet = UNet2DConditionModel.from_pretrained(start / "unet")
            self.encoder = text.adapt_encoder(start, known, self.tokenizer)
        else:
            unet = UNet2DConditionModel(**UNET_CONFIG)
            self.encoder = text.build_text_encoder(self.tokenizer, WIDTH)
            print(json.dumps(dict(words_taught=text.teach_words(self.encoder, self.tokenizer, 400, seed))), flush=True)
        self.unet = unet.to(memory_format=torch.channels_last).train()
        self.scenes = [world.random_scene(self.rng) for _ in range(count)]
        self.latents = make_latents(self.vae, self.scenes)
        self.averages = [copy.deepcopy(m).eval().requires_grad_(False) for m in (self.unet, self.encoder)]
        self.compiled = torch.compile(self.unet)  # 1.3 times as fast on two cores
        self.ids: dict[str, torch.Tensor] = {}

    def tokens(self, captions: list[str]) -> torch.Tensor:
        for caption in set(captions) - self.ids.keys():
            self.ids[caption] = text.tokenize(self.tokenizer, [caption])[0]
        return torch.stack([self.ids[c] for c in captions])

    def loss(self, batch: int) -> torch.Tensor:
        chosen = self.rng.integers(0, len(self.scenes), size=batch)
        clean = self.latents[torch.from_numpy(chosen)].float()
        captions = [text.random_caption(self.scenes[i], self.rng) for i in chosen]
        noise = torch.randn_like(clean)
        steps = (1000 * (1 - torch.rand(batch) ** 1.5)).long().clamp(0, 999)
        noisy = self.scheduler.add_noise(clean, noise, steps)
        embeddings = self.encoder(self.tokens(captions)).last_hidden_state
        predicted = self.compiled(noisy, steps, embeddings).sample
        return (predicted - self.scheduler.get_velocity(clean, noise, steps)).square().mean()

    @torch.no_grad()
    def average(self, step: int) -> None:
        decay = min(0.999, (1 + step) / (10 + step))
        for mean, model in zip(self.averages, (self.unet, self.encoder), strict=True):
            torch._foreach_lerp_(list(mean.parameters()), list(model.parameters()), 1 - decay)

    def measure(self, count: int, steps: int) -> dict[str, float]:
        rng = np.random.default_rng(77)
        scenes = [world.random_scene(rng) for _ in range(count)]
        captions = [s.caption for s in scenes]
        unet, encoder = self.averages
        model = BaseModel(unet, self.vae, encoder, self.tokenizer, self.scheduler)
        pictures = sample_images(model, captions, steps, guidance_scale=5.0, seed=1)
        return words_followed([judge.read(picture) for picture in pictures.numpy()], scenes)

    def save(self) -> None:
        unet, encoder = self.averages
        unet.save_pretrained(self.folder / "unet")
        encoder.save_pretrained(self.folder / "text_encoder")
        self.scheduler.save_pretrained(self.folder / "scheduler")


def train(trainer: Trainer, steps: int, batch: int, learning_rate: float, warmup: int, decay: float) -> None:
    """Run all updates; the model is saved and measured every thousand and at the end."""
    parameters = [*trainer.unet.parameters(), *trainer.encoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / warmup, (steps - step) / (decay * steps))
    )
    began, losses = time.monotonic(), []
    for step in range(1, steps + 1):
        loss = trainer.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        trainer.average(step)
        losses.append(loss.item())
        if step % 100 == 0:
            seconds = round(time.monotonic() - began)
            print(json.dumps(dict(step=step, loss=float(np.mean(losses[-100:])), seconds=seconds)), flush=True)
        if step % 1000 == 0 or step == steps:
            trainer.save()
            print(json.dumps(dict(step=step) | trainer.measure(48, 20)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="model folder that has a vae/ already")
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--pictures", type=int, default=20000, help="drawn and encoded once, before the training")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument("--decay", type=float, default=0.25, help="share of the steps over which the rate falls")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="a model folder whose UNet and text encoder to continue from")
    args = parser.parse_args()
    if min(args.warmup, args.decay) <= 0:
        parser.error("--warmup and --decay are above 0; a warmup of 1 is none")
    trainer = Trainer(args.output, args.seed, args.pictures, args.start)
    train(trainer, args.steps, args.batch, args.learning_rate, args.warmup, args.decay)


if __name__ == "__main__":
    main()
