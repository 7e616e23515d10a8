"""The parts that the templates are put together from: clip and model, tuning, the edit, what holds it, the result."""

from typing import Any

from tav_core.presets import BUNDLED, CHANGES, Preset
from tools.layout import EMPTY_TITLE, SECOND_TITLE
from tools.workflows.formats import SD15, Workflow, is_link

CAPTION_TITLE, EDIT_TITLE = "What the clip shows", "What the edit shows"
SECOND_CAPTION_TITLE = "What the second clip shows"
SECOND = "a blue person jumps in the snow, flat colours"  # of the second bundled clip
SOURCE = "a red person jumps on the beach, flat colours"  # of the bundled clip


def base(workflow: Workflow, bundled: bool, caption: str = SOURCE, lora: bool = False) -> None:
    """Clip, model, prompts, latents and the inflated model. It sets `workflow.text`."""
    size = dict(width=128, height=128) if bundled else dict(width=512, height=512, stride=3)
    workflow.add("clip", "TAVLoadVideo", file="tune-a-video-cartwheel.mp4", num_frames=24, **size)
    if bundled:
        workflow.add("model", "TAVLoadDemoModel")
    else:
        workflow.add("model", "CheckpointLoaderSimple", ckpt_name=SD15["name"])
    model = ("model", 0)
    if lora:
        workflow.add("lora", "LoraLoader", model=model, clip=workflow.text, lora_name="your-lora.safetensors")
        model, workflow.text = ("lora", 0), ("lora", 1)
    text = workflow.text
    workflow.add("caption", "CLIPTextEncode", CAPTION_TITLE, clip=text, text=caption)
    workflow.add("empty", "CLIPTextEncode", EMPTY_TITLE, clip=text, text="")
    workflow.add("latents", "VAEEncode", pixels=("clip", 0), vae=("model", 2))
    workflow.add("inflate", "TAVInflateUNet", model=model)


def tuned(workflow: Workflow, preset: Preset, **more: Any) -> tuple[str, int]:
    config = preset.tuning
    return workflow.add(
        "tune",
        "TAVOneShotTune",
        **dict(model=("inflate", 0), latents=("latents", 0), caption=("caption", 0)),
        **dict(steps=config.steps, learning_rate=config.learning_rate, timestep_range=config.timestep_range) | more,
    )


def another_clip(workflow: Workflow) -> dict[str, Any]:
    """The second bundled clip of the motion under its caption. Returns what One-Shot Tune takes of it."""
    _, inputs, _ = workflow.nodes["clip"]
    workflow.add("second", "TAVLoadVideo", SECOND_TITLE, **inputs | dict(file="tune-a-video-cartwheel-2.mp4"))
    workflow.add("second caption", "CLIPTextEncode", SECOND_CAPTION_TITLE, clip=workflow.text, text=SECOND)
    workflow.add("second latents", "VAEEncode", pixels=("second", 0), vae=("model", 2))
    inputs = dict(latents=("second latents", 0), caption=("second caption", 0), fps=("second", 1))
    return dict(more_clips=workflow.add("another", "TAVAnotherClip", **inputs), fps=("clip", 1))


def inverted(workflow: Workflow, model: tuple[str, int], preset: Preset) -> None:
    steps = preset.inversion.num_inference_steps
    workflow.add("invert", "TAVDDIMInvert", model=model, latents=("latents", 0), conditioning=("empty", 0), steps=steps)


def edited(
    workflow: Workflow,
    model: tuple[str, int],
    preset: Preset,
    prompt: Any,
    way: str,
    infos: dict[str, Any],
    deflickered: bool = True,
) -> tuple[str, int]:
    """The edit, and its pictures; deflickered where the clip is preserved. `prompt` is a text, or a link to texts."""
    name = "bundled" if preset is BUNDLED else "stable_diffusion"
    values = infos["TAVSample"]["input"]["optional"]["way"][1]["ways"][name][way]
    workflow.add("prompt", "CLIPTextEncode", EDIT_TITLE, clip=workflow.text, text=prompt)
    start = "invert" if "invert" in workflow.nodes else "latents"
    workflow.add(
        "sample",
        "TAVSample",
        **dict(model=model, latents=(start, 0), positive=("prompt", 0), negative=("empty", 0)),
        **dict(caption=("caption", 0), clip_latents=("latents", 0), way=way, **values),
    )
    edit = workflow.add("decode", "VAEDecode", "The edit", samples=("sample", 0), vae=("model", 2))
    if way not in CHANGES or not deflickered:
        return edit
    title = "The clip, decoded by the VAE"
    workflow.add("decoded", "VAEDecode", title, samples=("latents", 0), vae=("model", 2))
    clips = dict(images=edit, clip=("clip", 0), decoded_clip=("decoded", 0))
    return workflow.add("deflicker", "TAVSteady", **clips)


def with_motion(workflow: Workflow, tav_model: tuple[str, int], model: tuple[str, int]) -> tuple[str, int]:
    return workflow.add("motion", "TAVApplyMotion", model=model, tav_model=tav_model)


def native_edit(workflow: Workflow, model: tuple[str, int], prompt: str, preset: Preset) -> tuple[str, int]:
    """Inversion and edit by ComfyUI's own samplers."""
    quiet = dict(scheduler="ddim_uniform")
    steps, config = preset.inversion.num_inference_steps, preset.sampling
    workflow.add("inverse", "TAVInversionSampler")  # first: else its badge covers the title of the node above
    workflow.add("levels", "BasicScheduler", model=model, steps=steps, **quiet)
    workflow.add("rising", "FlipSigmas", sigmas=("levels", 0))
    prompts = dict(positive=("empty", 0), negative=("empty", 0))
    kind = dict(sampler=("inverse", 0), sigmas=("rising", 0), latent_image=("latents", 0))
    workflow.add("invert", "SamplerCustom", "Invert", model=model, add_noise=False, cfg=1.0, **prompts, **kind)
    workflow.add("prompt", "CLIPTextEncode", EDIT_TITLE, clip=workflow.text, text=prompt)
    workflow.add(
        "sample",
        "KSamplerAdvanced",
        "Sample the edit",
        **dict(model=model, add_noise="disable", steps=steps, cfg=config.guidance_scale, sampler_name="euler", **quiet),
        **dict(positive=("prompt", 0), negative=("empty", 0), latent_image=("invert", 0)),
    )
    return workflow.add("decode", "VAEDecode", samples=("sample", 0), vae=("model", 2))


def saved(workflow: Workflow, images: tuple[str, int], prefix: str) -> None:
    inputs = dict(images=images, fps=("clip", 1), audio=("clip", 3))
    workflow.add("save", "TAVSaveVideo", filename_prefix=f"tune-a-video/{prefix}", **inputs)


def compared(workflow: Workflow, edit: tuple[str, int], enlarge: int) -> tuple[str, int]:
    """Clip and edit side by side, to play in step."""
    clips = dict(images_1=("clip", 0), images_2=edit, caption_1="before", caption_2="after")
    return workflow.add("compare", "TAVCompareVideos", "Before and after", enlarge=enlarge, **clips)


def under_control(workflow: Workflow, prompt: str, strength: float = 1.0) -> tuple[str, int]:
    """A prompt and the empty one under the bundled ControlNet; the latter is slot 1 of what is returned."""
    hints = dict(control_net=("control", 0), image=("control", 1), strength=strength)
    prompts = dict(positive=(prompt, 0), negative=("empty", 0))
    return workflow.add(f"{prompt} under control", "ControlNetApplyAdvanced", **prompts, **hints)


def hold(workflow: Workflow, hint: str) -> None:
    """Let a ControlNet act wherever a prompt does."""
    workflow.add("control", "TAVLoadDemoControl", "Load Bundled ControlNet", hint=hint)
    links = {prompt: under_control(workflow, prompt) for prompt in ("caption", "prompt")}
    for name, inputs, _ in workflow.nodes.values():
        if name.startswith("ControlNet"):
            continue
        for key, value in inputs.items():
            if value == ("empty", 0):
                inputs[key] = (links["caption"][0], 1)
            elif is_link(value) and value[0] in links:
                inputs[key] = links[value[0]]
