"""Steps of the published implementation, in an interpreter that can import it. Started by published.py.

    PYTHON benchmarks/speed/published_worker.py DIRECTORY REQUEST

It imports nothing of this project. DIRECTORY is a checkout of github.com/showlab/Tune-A-Video, which runs beside
diffusers 0.11.1. REQUEST is JSON: `kind`, `config` of the UNet, `frames`, `latent`. One line of JSON is written when
the model is built, {"resident": bytes}, and one after each step, {"seconds", "peak", "trained", "trainable"}; a step is
made for each line read. It is what train_tuneavideo.py does with the UNet, in float32, or one call of its pipeline.
"""

import json
import resource
import sys
import time

import torch
import torch._dynamo
import torch.nn.functional as F

TRAINED = ("attn1.to_q", "attn2.to_q", "attn_temp")


def sampling_step(unet, latents, text):
    """Both prompts in one batch, as the published pipeline makes a guided prediction."""
    twice, prompts = torch.cat([latents, latents]), torch.cat([-text, text])
    unet.eval()

    def step():
        with torch.no_grad():
            unet(twice, 500, encoder_hidden_states=prompts)

    return step


def tuning_step(unet, latents, text, repaired):
    """One update; all parameters are given to AdamW and to the clipping, the frozen ones too.

    repaired: let the clip require a gradient, without which checkpoints keep the down path from being trained.
    """
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-6, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
    unet.train()

    def step():
        noise, timesteps = torch.randn_like(latents), torch.randint(0, 1000, latents.shape[:1])
        noisy = (latents + noise).requires_grad_(repaired)
        loss = F.mse_loss(unet(noisy, timesteps, text).sample, noise, reduction="mean")
        loss.item()
        loss.backward()
        reached.update(name for name, parameter in unet.named_parameters() if parameter.grad is not None)
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    reached = step.reached = set()
    return step


def build(request):
    """The step of a request, on made-up weights."""
    from tuneavideo.models.unet import UNet3DConditionModel

    torch.manual_seed(0)
    unet = UNet3DConditionModel(**request["config"])
    unet.requires_grad_(False)
    for name, module in unet.named_modules():
        if name.endswith(TRAINED):
            module.requires_grad_(True)
    latents = torch.randn(1, 4, request["frames"], request["latent"], request["latent"])
    text = torch.randn(1, 77, request["config"]["cross_attention_dim"])
    kind = request["kind"]
    if "checkpointing" in kind:
        unet.enable_gradient_checkpointing()
    if kind.startswith("sampling"):
        return unet, sampling_step(unet, latents, text)
    return unet, tuning_step(unet, latents, text, repaired="repaired" in kind)


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def peak_resident():
    """Since `main` reset it."""
    with open("/proc/self/status") as file:
        return int(file.read().partition("VmHWM:")[2].split()[0]) * 1024


def main():
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print too
    directory, request = sys.argv[1:]
    sys.path[0] = directory
    unet, step = build(json.loads(request))
    trainable = sum(parameter.requires_grad for parameter in unet.parameters())

    def answer(**values):
        print(json.dumps(values), file=answers, flush=True)

    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # reset the peak
    answer(resident=resident())
    for _ in sys.stdin:
        began = time.process_time()
        step()
        seconds = time.process_time() - began
        answer(seconds=seconds, peak=peak_resident(), trained=len(getattr(step, "reached", ())), trainable=trainable)


if __name__ == "__main__":
    main()
