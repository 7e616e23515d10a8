"""Edits by the published implementation, in an interpreter that can import it. Started by others.py.

    PYTHON benchmarks/fidelity/published_worker.py DIRECTORY FOLDER

It imports nothing of this project. DIRECTORY is a checkout of github.com/showlab/Tune-A-Video, which runs beside
diffusers 0.11.1. FOLDER holds request.json and tensors.safetensors, and gets answer.safetensors, the latents of each
edit after each pause of the tuning; the seconds of the processor are written as JSON. It does what train_tuneavideo.py,
its ddim_inversion and its pipeline do from latents to latents, in float32, with four repairs:

- its loader names the four blocks of Stable Diffusion; here the model's own blocks are taken;
- its inversion takes each prediction for noise; here a velocity is made noise;
- its temporal attention starts with a random bias, which adds noise to every frame; here the bias starts at zero;
- with its gradient checkpointing the down path is not trained; here it is off, which is faster too.
"""

import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

TRAINED = ("attn1.to_q", "attn2.to_q", "attn_temp")


def inflated(config, weights):
    """The UNet from those of the image model; the temporal attention keeps its own."""
    from tuneavideo.models.unet import UNet3DConditionModel

    names = ("down_block_types", "up_block_types")
    blocks = {name: [kind.replace("2D", "3D") for kind in config[name]] for name in names}
    unet = UNet3DConditionModel.from_config(config | blocks | {"mid_block_type": "UNetMidBlock3DCrossAttn"})
    image = {name: tensor.float() for name, tensor in load_file(weights).items()}
    made = {name: tensor for name, tensor in unet.state_dict().items() if "_temp." in name}
    unet.load_state_dict(image | made)
    unet.requires_grad_(False)
    for name, module in unet.named_modules():
        if name.endswith(TRAINED):
            module.requires_grad_(True)
        if name.endswith("attn_temp"):
            torch.nn.init.zeros_(module.to_out[0].bias)
    return unet


def tuning(unet, latents, text, scheduler, rate):
    """One update a call to `next`."""
    optimizer = torch.optim.AdamW(unet.parameters(), lr=rate, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
    while True:
        unet.train()
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, scheduler.config.num_train_timesteps, latents.shape[:1])
        target = noise
        if scheduler.config.prediction_type == "v_prediction":
            target = scheduler.get_velocity(latents, noise, timesteps)
        predicted = unet(scheduler.add_noise(latents, noise, timesteps), timesteps, text).sample
        F.mse_loss(predicted, target, reduction="mean").backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield


@torch.no_grad()
def inverted(unet, latents, empty, scheduler, steps):
    """ddim_inversion of tuneavideo/util.py."""
    scheduler.set_timesteps(steps)
    for t in reversed(scheduler.timesteps):
        before = int(t) - scheduler.config.num_train_timesteps // steps
        now = scheduler.alphas_cumprod[before] if before >= 0 else scheduler.final_alpha_cumprod
        then = scheduler.alphas_cumprod[t]
        noise = unet(latents, t, encoder_hidden_states=empty).sample
        if scheduler.config.prediction_type == "v_prediction":
            noise = now**0.5 * noise + (1 - now) ** 0.5 * latents
        clean = (latents - (1 - now) ** 0.5 * noise) / now**0.5
        latents = then**0.5 * clean + (1 - then) ** 0.5 * noise
    return latents


@torch.no_grad()
def sampled(unet, latents, prompt, empty, scheduler, steps, guidance):
    """The loop of TuneAVideoPipeline."""
    scheduler.set_timesteps(steps)
    text = torch.cat([empty, prompt])
    for t in scheduler.timesteps:
        without, under = unet(torch.cat([latents] * 2), t, encoder_hidden_states=text).sample.chunk(2)
        latents = scheduler.step(without + guidance * (under - without), t, latents).prev_sample
    return latents


def schedulers(settings):
    """Of the tuning and of sampling. 0.11.1 knows no zero terminal SNR; its noise levels are given as betas."""
    from diffusers import DDIMScheduler, DDPMScheduler

    shared = dict(trained_betas=settings["betas"], prediction_type=settings["prediction_type"], clip_sample=False)
    sampler = DDIMScheduler(**shared, set_alpha_to_one=False, steps_offset=settings["steps_offset"])
    return DDPMScheduler(**shared), sampler


def main():
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print too
    directory, folder = sys.argv[1], Path(sys.argv[2])
    sys.path[0] = directory
    torch.set_num_threads(1)
    request = json.loads((folder / "request.json").read_text())
    tensors = load_file(folder / "tensors.safetensors")
    prompts = {name: tensor for name, tensor in tensors.items() if name not in ("latents", "caption", "empty")}
    trainer, sampler = schedulers(request["scheduler"])
    torch.manual_seed(request["seed"])
    unet = inflated(request["config"], request["weights"])
    updates = tuning(unet, tensors["latents"], tensors["caption"], trainer, request["learning_rate"])
    edits, seconds, spent = {}, {}, 0.0
    for step in range(max(request["pauses"]) + 1):
        if step:
            began = time.process_time()
            next(updates)
            spent += time.process_time() - began
        if step not in request["pauses"]:
            continue
        unet.eval()
        began = time.process_time()
        start = inverted(unet, tensors["latents"], tensors["empty"], sampler, request["inversion_steps"])
        seconds[str(step)] = {"tune": spent, "invert": time.process_time() - began}
        for name, prompt in prompts.items():
            began = time.process_time()
            settings = (request["sampling_steps"], request["guidance_scale"])
            edits[f"{step}/{name}"] = sampled(unet, start, prompt, tensors["empty"], sampler, *settings).contiguous()
            seconds[str(step)][name] = time.process_time() - began
    save_file(edits, folder / "answer.safetensors")
    print(json.dumps(seconds), file=answers)


if __name__ == "__main__":
    main()
