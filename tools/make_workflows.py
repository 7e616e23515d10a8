"""Write example_workflows/: each in the format of the browser and, under api/, in that of POST /prompt.

It also writes the English locale, from the schemas of the nodes; the Chinese one is written by hand.

    python -m tools.make_workflows

The settings are those of the bundled model, and the published ones for Stable Diffusion. Sockets, widgets and their
order come from object_info.json, a snapshot that the ComfyUI tests compare with a running host.
"""

import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tav_core.presets import BUNDLED, CHANGES, CONTENT, LOOK, PUBLISHED, Preset
from tools.layout import lay_out

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "example_workflows"
SNAPSHOT = Path(__file__).with_name("object_info.json")
PACK = {"cnr_id": "tune-a-video", "ver": "0.1.0"}
CORE = {"cnr_id": "comfy-core"}
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
SD15 = {
    "name": "v1-5-pruned-emaonly-fp16.safetensors",
    "url": "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors",
    "directory": "checkpoints",
}
CAPTION_TITLE, EDIT_TITLE = "What the clip shows", "What the edit shows"
SOURCE = "a red person jumps on the beach, flat colours"  # of the bundled clip
BLUE, GREEN, YELLOW, PURPLE = (SOURCE.replace("red", coat) for coat in ("blue", "green", "yellow", "purple"))
INK = SOURCE.replace("flat colours", "ink drawing")
ROBOT = SOURCE.replace("person", "robot")
MOON = "a red person jumps on the moon, flat colours"
LONG = dict(context_length=12, overlap=4)


@dataclass
class Workflow:
    """Nodes by name: (type, inputs, title). A link is a pair (name, slot)."""

    note: str
    nodes: dict[str, tuple[str, dict[str, Any], str]] = field(default_factory=dict)
    text: tuple[str, int] = ("model", 1)  # the CLIP that prompts are encoded with

    def add(self, name: str, kind: str, title: str = "", **inputs: Any) -> tuple[str, int]:
        self.nodes[name] = (kind, inputs, title)
        return name, 0


def widgets_of(info: dict[str, Any]) -> dict[str, Any]:
    """Names and defaults of a node's widgets, in the order in which the browser keeps their values."""
    found = {}
    for group in ("required", "optional"):
        for name, (kind, *rest) in info["input"].get(group, {}).items():
            options = rest[0] if rest else {}
            if isinstance(kind, list) or (kind in WIDGETS and not options.get("forceInput")):
                choices = kind if isinstance(kind, list) else options.get("options")
                found[name] = options.get("default", choices[0] if choices else "")
    return found


def options_of(info: dict[str, Any], name: str) -> dict[str, Any]:
    """The options of an input."""
    _, *rest = {**info["input"].get("required", {}), **info["input"].get("optional", {})}[name]
    return rest[0] if rest else {}


def sockets_of(info: dict[str, Any]) -> dict[str, str]:
    widgets = widgets_of(info)
    inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    return {name: spec[0] for name, spec in inputs.items() if name not in widgets}


def is_link(value: Any) -> bool:
    return isinstance(value, tuple)


def api_format(workflow: Workflow, infos: dict[str, Any]) -> dict[str, Any]:
    """What POST /prompt takes; every widget is written out."""
    numbers = {name: str(index) for index, name in enumerate(workflow.nodes, 1)}
    prompt = {}
    for name, (kind, given, title) in workflow.nodes.items():
        inputs = widgets_of(infos[kind]) | given
        inputs = {key: [numbers[v[0]], v[1]] if is_link(v) else v for key, v in inputs.items()}
        entry = {"class_type": kind, "inputs": inputs, "_meta": {"title": title or infos[kind]["display_name"]}}
        prompt[numbers[name]] = entry
    return prompt


def ui_format(workflow: Workflow, infos: dict[str, Any], name: str) -> dict[str, Any]:
    """What the browser loads."""
    numbers = {key: index for index, key in enumerate(workflow.nodes, 1)}
    links: list[list[Any]] = []
    nodes = [ui_node(workflow, infos, key, number, links, numbers) for key, number in numbers.items()]
    for link_id, source, slot, *_ in links:
        nodes[source - 1]["outputs"][slot]["links"].append(link_id)
    note_id = len(nodes) + 1
    note = dict(id=note_id, type="MarkdownNote", flags={}, order=0, mode=0, inputs=[], outputs=[], title="Read me")
    note |= dict(properties={}, widgets_values=[workflow.note])
    groups, extra = lay_out([note, *nodes])
    return dict(
        **dict(id=str(uuid.uuid5(uuid.NAMESPACE_URL, name)), revision=0, last_node_id=note_id, last_link_id=len(links)),
        **dict(nodes=[*nodes, note], links=links, groups=groups, config={}, extra=extra, version=0.4),
    )


def ui_node(
    workflow: Workflow, infos: dict[str, Any], name: str, number: int, links: list, numbers: dict[str, int]
) -> dict[str, Any]:
    kind, given, title = workflow.nodes[name]
    info = infos[kind]
    widgets = widgets_of(info)
    types = {key: spec[0] for group in ("required", "optional") for key, spec in info["input"].get(group, {}).items()}
    inputs = [{"name": key, "type": kind_of, "link": None} for key, kind_of in sockets_of(info).items()]
    for key in widgets:
        if is_link(given.get(key)):
            inputs.append({"name": key, "type": types[key], "link": None, "widget": {"name": key}})
    for slot, entry in enumerate(inputs):
        if is_link(given.get(entry["name"])):
            source, source_slot = given[entry["name"]]
            kind_of = infos[workflow.nodes[source][0]]["output"][source_slot]
            links.append([len(links) + 1, numbers[source], source_slot, number, slot, kind_of])
            entry["link"] = len(links)
    values = []
    for key in widgets:
        values.append(widgets[key] if is_link(given.get(key)) else given.get(key, widgets[key]))
        if options_of(info, key).get("control_after_generate"):
            values.append("fixed")  # the browser's own widget, beside a seed
    if kind == "TAVLoadVideo":
        values.append("image")  # the browser's upload button, which it puts behind all others
    names = info["output_name"]
    outputs = [{"name": label, "type": out, "links": []} for label, out in zip(names, info["output"], strict=True)]
    properties = {"Node name for S&R": kind, **(PACK if kind.startswith("TAV") else CORE)}
    if kind == "CheckpointLoaderSimple":
        properties["models"] = [SD15]
    return dict(
        **dict(id=number, type=kind, flags={}, order=number, mode=0),
        **dict(inputs=inputs, outputs=outputs, properties=properties, widgets_values=values),
        **({"title": title} if title else {}),
    )


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
    workflow.add("empty", "CLIPTextEncode", "Empty prompt", clip=text, text="")
    workflow.add("latents", "VAEEncode", pixels=("clip", 0), vae=("model", 2))
    workflow.add("inflate", "TAVInflateUNet", model=model)


def tuned(workflow: Workflow, preset: Preset) -> tuple[str, int]:
    config = preset.tuning
    return workflow.add(
        "tune",
        "TAVOneShotTune",
        **dict(model=("inflate", 0), latents=("latents", 0), caption=("caption", 0)),
        **dict(steps=config.steps, learning_rate=config.learning_rate, timestep_range=config.timestep_range),
    )


def inverted(workflow: Workflow, model: tuple[str, int], preset: Preset) -> None:
    steps = preset.inversion.num_inference_steps
    workflow.add("invert", "TAVDDIMInvert", model=model, latents=("latents", 0), conditioning=("empty", 0), steps=steps)


def edited(
    workflow: Workflow, model: tuple[str, int], preset: Preset, prompt: Any, way: str, infos: dict[str, Any]
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
    if way not in CHANGES:
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
    workflow.add("levels", "BasicScheduler", model=model, steps=steps, **quiet)
    workflow.add("rising", "FlipSigmas", sigmas=("levels", 0))
    workflow.add("inverse", "TAVInversionSampler")
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


def quickstart(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow(
        "Press **Run**: nothing is downloaded, and the person in red turns blue.\n\nThen change *What the edit shows*: "
        "green, yellow. *way* says what may change.\n\nFor a clip of your own open *edit_sd15*."
    )
    base(workflow, True)
    model = tuned(workflow, BUNDLED)
    inverted(workflow, model, BUNDLED)
    edited(workflow, model, BUNDLED, BLUE, LOOK, infos)
    del workflow.nodes["deflicker"], workflow.nodes["decoded"]
    saved(workflow, compared(workflow, ("decode", 0), 2), "quickstart")
    return workflow


def source_branch(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow(
        "*way* is **content**: another place or subject; the rest of the clip is preserved. Press **Run**.\n\nFor "
        "another colour or style set *way* to **look**."
    )
    base(workflow, True)
    edit = edited(workflow, tuned(workflow, BUNDLED), BUNDLED, MOON, CONTENT, infos)
    saved(workflow, compared(workflow, edit, 2), "source-branch")
    return workflow


def sd15_edit(infos: dict[str, Any], way: str, prompt: str, prefix: str, lora: bool = False) -> Workflow:
    workflow = Workflow(
        "1. Choose a clip of 3 to 4 seconds and a checkpoint.\n2. Write what the clip shows.\n3. Write what the edit "
        "shows: few words changed.\n4. Press **Run**. *way* says what may change."
    )
    base(workflow, False, lora=lora)
    model = tuned(workflow, PUBLISHED)
    if way == "published":
        inverted(workflow, model, PUBLISHED)
    saved(workflow, compared(workflow, edited(workflow, model, PUBLISHED, prompt, way, infos), 1), prefix)
    return workflow


def several_prompts(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow(
        "Tuned once, edited once for each line of *Prompt List*. Press **Run**.\n\nA new line runs only the edits."
    )
    base(workflow, True)
    workflow.add("prompts", "TAVPromptList", "What the edits show", prompts="\n".join((BLUE, GREEN, YELLOW)))
    model = tuned(workflow, BUNDLED)
    edited(workflow, model, BUNDLED, ("prompts", 0), LOOK, infos)
    del workflow.nodes["deflicker"], workflow.nodes["decoded"]
    grid = dict(images=("decode", 0), prompts=("prompts", 0), clip=("clip", 0), clip_caption=SOURCE, enlarge=2)
    saved(workflow, workflow.add("grid", "TAVPromptGrid", **grid), "several")
    return workflow


def tune_and_save(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow(
        "The tuned weights go to `models/tune_a_video`. Press **Run**, then open *load_and_edit*, which tunes nothing."
    )
    base(workflow, True)
    del workflow.nodes["empty"]
    model = tuned(workflow, BUNDLED)
    workflow.add("keep", "TAVSaveTuned", model=model, filename_prefix="cartwheel")
    workflow.add("curve", "PreviewImage", "Loss of each step", images=("tune", 2))
    return workflow


def load_and_edit(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow("Run *tune_and_save* first, then choose its file in *Load Tuned Weights* and press **Run**.")
    base(workflow, True)
    inputs = dict(model=("inflate", 0), file="cartwheel_00001_.safetensors", strength=1.0)
    model = workflow.add("tuned", "TAVLoadTuned", **inputs)
    edited(workflow, model, BUNDLED, PURPLE, LOOK, infos)
    del workflow.nodes["deflicker"], workflow.nodes["decoded"]
    saved(workflow, compared(workflow, ("decode", 0), 2), "loaded")
    return workflow


def under_control(workflow: Workflow, prompt: str, strength: float = 1.0) -> tuple[str, int]:
    """A prompt and the empty one under the bundled ControlNet; the latter is slot 1 of what is returned."""
    hints = dict(control_net=("control", 0), image=("control", 1), strength=strength)
    prompts = dict(positive=(prompt, 0), negative=("empty", 0))
    return workflow.add(f"{prompt} under control", "ControlNetApplyAdvanced", **prompts, **hints)


def hold(workflow: Workflow, hint: str) -> None:
    """Let a ControlNet act wherever a prompt does."""
    workflow.add("control", "TAVLoadDemoControl", hint=hint)
    links = {prompt: under_control(workflow, prompt) for prompt in ("caption", "prompt")}
    for name, inputs, _ in workflow.nodes.values():
        if name.startswith("ControlNet"):
            continue
        for key, value in inputs.items():
            if value == ("empty", 0):
                inputs[key] = (links["caption"][0], 1)
            elif is_link(value) and value[0] in links:
                inputs[key] = links[value[0]]


def control_depth(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow(
        "Another place, held by **depth**: the figure's outline stays where it is. Press **Run**.\n\nFor a model of "
        "your own load its ControlNet, and give *Apply ControlNet* a depth video with one frame for each of the clip."
    )
    base(workflow, True)
    edit = edited(workflow, tuned(workflow, BUNDLED), BUNDLED, MOON, CONTENT, infos)
    hold(workflow, "depth")
    saved(workflow, compared(workflow, edit, 2), "control-depth")
    return workflow


def control_canny(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow(
        "Another style, held by the clip's own **edges**: every line stays where it is. Press **Run**.\n\nFor a clip "
        "of your own put *Draw Hints* behind *Load Clip*, and load a Canny ControlNet of your model."
    )
    base(workflow, True)
    edited(workflow, tuned(workflow, BUNDLED), BUNDLED, INK, LOOK, infos)
    del workflow.nodes["deflicker"], workflow.nodes["decoded"]
    hold(workflow, "canny")
    saved(workflow, compared(workflow, ("decode", 0), 2), "control-canny")
    return workflow


def control_pose(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow(
        "Another figure, held by **pose**: the joints keep the motion, and the shape is free. Press **Run**.\n\nDepth "
        "would impose the old silhouette."
    )
    base(workflow, True)
    model = tuned(workflow, BUNDLED)
    inverted(workflow, model, BUNDLED)
    edited(workflow, model, BUNDLED, ROBOT, "published", infos)
    hold(workflow, "pose")
    saved(workflow, compared(workflow, ("decode", 0), 2), "control-pose")
    return workflow


def native_control(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow(
        "The pose of the clip holds another figure, in **KSampler**: *Apply ControlNet* works on the MODEL of *Apply "
        "Motion* as on any other. Press **Run**."
    )
    base(workflow, True)
    model = with_motion(workflow, tuned(workflow, BUNDLED), ("model", 0))
    edit = native_edit(workflow, model, ROBOT, BUNDLED)
    hold(workflow, "pose")
    saved(workflow, compared(workflow, edit, 2), "native-control")
    return workflow


def few_steps(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow(
        "An LCM LoRA samples the edit in 8 steps: inverted by the plain MODEL, sampled by the one with the LoRA, with "
        "the sampler *lcm* and little guidance.\n\nTurbo and Hyper LoRAs go the same way, with their own samplers."
    )
    base(workflow, False)
    motion = with_motion(workflow, tuned(workflow, PUBLISHED), ("model", 0))
    edit = native_edit(workflow, motion, BLUE, PUBLISHED)
    fast = dict(lora_name="lcm-lora-sdv1-5.safetensors", strength_model=1.0)
    lora = workflow.add("fast", "LoraLoaderModelOnly", "Few steps", model=motion, **fast)
    settings = dict(steps=8, cfg=1.5, sampler_name="lcm", scheduler="sgm_uniform")
    workflow.nodes["sample"][1].update(model=lora, **settings)
    saved(workflow, compared(workflow, edit, 1), "few-steps")
    return workflow


def heat_maps(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow(
        "Where each word of the caption acts, and an edit within the mask of one of them: the person's coat changes, "
        "and nothing else may. Press **Run**.\n\nName other words in *mask_words*."
    )
    base(workflow, True)
    model = tuned(workflow, BUNDLED)
    shown = dict(model=model, latents=("latents", 0), images=("clip", 0), clip=workflow.text)
    workflow.add("maps", "TAVWordHeatMaps", **shown, prompt=SOURCE, mask_words="person")
    edited(workflow, model, BUNDLED, BLUE, LOOK, infos)
    del workflow.nodes["deflicker"], workflow.nodes["decoded"]
    workflow.nodes["sample"][1]["mask"] = ("maps", 1)
    workflow.add("shown", "PreviewImage", "Where each word acts", images=("maps", 0))
    saved(workflow, compared(workflow, ("decode", 0), 2), "heat-maps")
    return workflow


def native(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow(
        "*Apply Motion* puts the tuned clip into ComfyUI's own MODEL, for KSampler, ControlNet, LoRAs. Press "
        "**Run**.\n\nSteps divide 1000 and are the same in both samplers; add_noise is off."
    )
    base(workflow, True)
    model = with_motion(workflow, tuned(workflow, BUNDLED), ("model", 0))
    saved(workflow, compared(workflow, native_edit(workflow, model, BLUE, BUNDLED), 2), "native")
    return workflow


def native_style(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow(
        "Tuned on the plain checkpoint; a LoRA, or another checkpoint of the family, gives the style.\n\nChoose yours "
        "in *Load LoRA*. Another one only samples again."
    )
    base(workflow, False)
    tav_model = tuned(workflow, PUBLISHED)
    lora = dict(lora_name="your-lora.safetensors", strength_model=1.0)
    styled = workflow.add("lora", "LoraLoaderModelOnly", "Another style", model=("model", 0), **lora)
    model = with_motion(workflow, tav_model, styled)
    saved(workflow, compared(workflow, native_edit(workflow, model, BLUE, PUBLISHED), 1), "native-style")
    return workflow


def long_clip(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow(
        "24 frames, tuned (*context_length*) and sampled (*Context Windows*) in windows of 12, in the memory of a "
        "short clip. Press **Run**.\n\nRaise *overlap* if you see seams."
    )
    base(workflow, True)
    model = with_motion(workflow, tuned(workflow, BUNDLED), ("model", 0))
    workflow.nodes["tune"][1]["context_length"] = LONG["context_length"]
    windows = workflow.add("windows", "TAVContextWindows", model=model, **LONG)
    saved(workflow, compared(workflow, native_edit(workflow, windows, BLUE, BUNDLED), 2), "long")
    return workflow


WORKFLOWS = {
    "quickstart_bundled_model": quickstart,
    "source_branch": source_branch,
    "edit_sd15": lambda infos: sd15_edit(infos, "published", BLUE, "sd15"),
    "edit_sd15_content": lambda infos: sd15_edit(infos, CONTENT, MOON, "content"),
    "edit_sd15_lora": lambda infos: sd15_edit(infos, "published", BLUE, "lora", lora=True),
    "several_prompts": several_prompts,
    "tune_and_save": tune_and_save,
    "load_and_edit": load_and_edit,
    "native_ksampler": native,
    "native_style_sd15": native_style,
    "native_long_clip": long_clip,
    "native_control_pose": native_control,
    "native_few_steps_sd15": few_steps,
    "control_canny": control_canny,
    "control_depth": control_depth,
    "control_pose": control_pose,
    "word_heat_maps": heat_maps,
}


def english(infos: dict[str, Any]) -> dict[str, Any]:
    """The texts of our nodes as the browser's locale files hold them."""
    texts = {}
    for name in sorted(name for name in infos if name.startswith("TAV")):
        info = infos[name]
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        labels = zip(info["output_name"], info["output_tooltips"], strict=True)
        texts[name] = dict(
            display_name=info["display_name"],
            description=info["description"],
            inputs={
                key: dict(name=spec[1].get("display_name") or key, tooltip=spec[1]["tooltip"])
                for key, spec in inputs.items()
            },
            outputs={str(slot): dict(name=label, tooltip=tip) for slot, (label, tip) in enumerate(labels)},
        )
    return texts


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    infos = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    write(ROOT / "locales" / "en" / "nodeDefs.json", english(infos))
    for name, make in WORKFLOWS.items():
        workflow = make(infos)
        write(FOLDER / f"{name}.json", ui_format(workflow, infos, name))
        write(FOLDER / "api" / f"{name}.json", api_format(workflow, infos))


if __name__ == "__main__":
    main()
