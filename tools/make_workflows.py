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

from tav_core.presets import BUNDLED, CONTENT, PUBLISHED

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "example_workflows"
SNAPSHOT = Path(__file__).with_name("object_info.json")
PACK = {"cnr_id": "tune-a-video", "ver": "0.1.0"}
CORE = {"cnr_id": "comfy-core"}
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
COLUMN, GAP = 380, 40
BELOW = {"TAVDDIMInvert", "VAEDecode", "TAVSaveVideo", "TAVSaveTuned"}
SD15 = {
    "name": "v1-5-pruned-emaonly-fp16.safetensors",
    "url": "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors",
    "directory": "checkpoints",
}
SOURCE, BLUE = "a red person jumps on the beach, flat colours", "a blue person jumps on the beach, flat colours"
ROBOT, MOON = "a red robot jumps on the beach, flat colours", "a red person jumps on the moon, flat colours"
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
    nodes = [_ui_node(workflow, infos, key, number, links, numbers) for key, number in numbers.items()]
    for link_id, source, slot, *_ in links:
        nodes[source - 1]["outputs"][slot]["links"].append(link_id)
    _lay_out(nodes, links)
    note_id = len(nodes) + 1
    nodes.append(
        dict(
            **dict(
                id=note_id, type="MarkdownNote", pos=[0, -240], size=[COLUMN * 2 - 60, 180], flags={}, order=0, mode=0
            ),
            **dict(inputs=[], outputs=[], title="Read me", properties={}, widgets_values=[workflow.note]),
        )
    )
    return dict(
        **dict(id=str(uuid.uuid5(uuid.NAMESPACE_URL, name)), revision=0, last_node_id=note_id, last_link_id=len(links)),
        **dict(nodes=nodes, links=links, groups=[], config={}, extra={}, version=0.4),
    )


def _ui_node(
    workflow: Workflow, infos: dict[str, Any], name: str, number: int, links: list, numbers: dict[str, int]
) -> dict[str, Any]:
    kind, given, title = workflow.nodes[name]
    info = infos[kind]
    widgets = widgets_of(info)
    inputs = [{"name": key, "type": kind_of, "link": None} for key, kind_of in sockets_of(info).items()]
    for key in widgets:
        if is_link(given.get(key)):
            inputs.append({"name": key, "type": "FLOAT", "link": None, "widget": {"name": key}})
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
    rows = len(inputs) + len(outputs) + len(values)
    room = {"TAVSaveVideo": 260, "PreviewImage": 200, "CLIPTextEncode": 70}.get(kind, 0)  # for pictures and long texts
    return dict(
        **dict(
            id=number, type=kind, pos=[0, 0], size=[COLUMN - 60, 40 + 21 * rows + room], flags={}, order=number, mode=0
        ),
        **dict(inputs=inputs, outputs=outputs, properties=properties, widgets_values=values),
        **({"title": title} if title else {}),
    )


def _lay_out(nodes: list[dict[str, Any]], links: list[list[Any]]) -> None:
    """Columns by the longest way from a source; in a column from top to bottom, some below what they come after."""
    depth = {node["id"]: 0 for node in nodes}
    steps = {node["id"]: 0 if node["type"] in BELOW else 1 for node in nodes}
    for _ in nodes:
        for _, source, _, target, *_ in links:
            depth[target] = max(depth[target], depth[source] + steps[target])
    bottom: dict[int, int] = {}
    for node in nodes:
        column = depth[node["id"]]
        node["pos"] = [column * COLUMN, bottom.get(column, 0)]
        bottom[column] = bottom.get(column, 0) + node["size"][1] + GAP


def base(workflow: Workflow, bundled: bool, caption: str, lora: bool = False) -> None:
    """Model, clip, prompts, latents and the inflated model. It sets `workflow.text`."""
    if bundled:
        workflow.add("model", "TAVLoadDemoModel")
        clip = dict(file="bundled: cartwheel", num_frames=24, width=128, height=128)
    else:
        workflow.add("model", "CheckpointLoaderSimple", ckpt_name=SD15["name"])
        clip = dict(file="bundled: cartwheel", num_frames=24, width=512, height=512, stride=3)
    workflow.add("clip", "TAVLoadVideo", **clip)
    model = ("model", 0)
    if lora:
        workflow.add("lora", "LoraLoader", model=model, clip=workflow.text, lora_name="your-lora.safetensors")
        model, workflow.text = ("lora", 0), ("lora", 1)
    text = workflow.text
    workflow.add("caption", "CLIPTextEncode", "What the clip shows", clip=text, text=caption)
    workflow.add("empty", "CLIPTextEncode", "Empty prompt", clip=text, text="")
    workflow.add("latents", "VAEEncode", pixels=("clip", 0), vae=("model", 2))
    workflow.add("inflate", "TAVInflateUNet", model=model)


def tuned(workflow: Workflow, bundled: bool) -> tuple[str, int]:
    config = (BUNDLED if bundled else PUBLISHED).tuning
    return workflow.add(
        "tune",
        "TAVOneShotTune",
        **dict(model=("inflate", 0), latents=("latents", 0), caption=("caption", 0)),
        **dict(steps=config.steps, learning_rate=config.learning_rate, timestep_range=config.timestep_range),
    )


def inverted(workflow: Workflow, model: tuple[str, int], bundled: bool) -> None:
    steps = (BUNDLED if bundled else PUBLISHED).inversion.num_inference_steps
    workflow.add("invert", "TAVDDIMInvert", model=model, latents=("latents", 0), conditioning=("empty", 0), steps=steps)


def edited(workflow: Workflow, model: tuple[str, int], bundled: bool, prompt: str, mark: str = "") -> tuple[str, int]:
    title = "What the edit shall show"
    config = (BUNDLED if bundled else PUBLISHED).sampling
    workflow.add(f"prompt{mark}", "CLIPTextEncode", title, clip=workflow.text, text=prompt)
    workflow.add(
        f"sample{mark}",
        "TAVSample",
        **dict(model=model, latents=("invert", 0), positive=(f"prompt{mark}", 0), negative=("empty", 0)),
        **dict(steps=config.num_inference_steps, guidance=config.guidance_scale, denoise=config.denoise),
    )
    return workflow.add(f"decode{mark}", "VAEDecode", samples=(f"sample{mark}", 0), vae=("model", 2))


def source_preserving(workflow: Workflow, model: tuple[str, int], prompt: str) -> tuple[str, int]:
    config = BUNDLED.source_branch[CONTENT]
    title = "What the edit shall show"
    workflow.add("prompt", "CLIPTextEncode", title, clip=workflow.text, text=prompt)
    workflow.add(
        "sample",
        "TAVSample",
        **dict(model=model, latents=("latents", 0), positive=("prompt", 0), negative=("empty", 0)),
        **dict(steps=config.num_inference_steps, guidance=config.guidance_scale, denoise=config.denoise),
        **dict(start_from="source branch", caption=("caption", 0), early_guidance=config.high_noise_guidance_scale),
        guide_from_caption=config.guide_from_caption,
    )
    workflow.add("decode", "VAEDecode", samples=("sample", 0), vae=("model", 2))
    title = "The clip, decoded by the VAE"
    workflow.add("decoded", "VAEDecode", title, samples=("latents", 0), vae=("model", 2))
    clips = dict(images=("decode", 0), clip=("clip", 0), decoded_clip=("decoded", 0))
    return workflow.add("deflicker", "TAVSteady", **clips)


def with_motion(workflow: Workflow, tav_model: tuple[str, int], model: tuple[str, int]) -> tuple[str, int]:
    return workflow.add("motion", "TAVApplyMotion", model=model, tav_model=tav_model)


def native_edit(
    workflow: Workflow, model: tuple[str, int], latents: tuple[str, int], prompt: str, bundled: bool
) -> Any:
    """Inversion and edit by ComfyUI's own samplers."""
    preset, quiet = BUNDLED if bundled else PUBLISHED, dict(scheduler="ddim_uniform")
    steps, config = preset.inversion.num_inference_steps, preset.sampling
    workflow.add("levels", "BasicScheduler", model=model, steps=steps, **quiet)
    workflow.add("rising", "FlipSigmas", sigmas=("levels", 0))
    workflow.add("inverse", "TAVInversionSampler")
    prompts = dict(positive=("empty", 0), negative=("empty", 0))
    kind = dict(sampler=("inverse", 0), sigmas=("rising", 0), latent_image=latents)
    workflow.add("invert", "SamplerCustom", "Invert", model=model, add_noise=False, cfg=1.0, **prompts, **kind)
    workflow.add("prompt", "CLIPTextEncode", "What the edit shall show", clip=workflow.text, text=prompt)
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


def compared(workflow: Workflow, clips: dict[str, tuple[str, int]], enlarge: int) -> tuple[str, int]:
    inputs: dict[str, Any] = dict(enlarge=enlarge)
    for number, (caption, images) in enumerate(clips.items(), 1):
        inputs |= {f"images_{number}": images, f"caption_{number}": caption}
    return workflow.add("compare", "TAVCompareVideos", **inputs)


def quickstart() -> Workflow:
    workflow = Workflow(
        "## Quickstart\nNothing to download. Press **Run**: the bundled model is tuned on the bundled clip, and the "
        "person who turns cartwheels is blue.\n\nThen change *What the edit shall show*: red, green, yellow, purple; "
        "robot, dog, horse, crab; in the park, in the snow, on the moon; ink drawing. Only sampling runs again."
    )
    base(workflow, True, SOURCE)
    model = tuned(workflow, True)
    inverted(workflow, model, True)
    prompt = BLUE
    edit = edited(workflow, model, True, prompt)
    saved(workflow, compared(workflow, {SOURCE: ("clip", 0), prompt: edit}, 2), "quickstart")
    return workflow


def source_branch() -> Workflow:
    workflow = Workflow(
        "## Source branch\nThe edit is sampled along a source branch, which preserves what the prompt does not change: "
        "place, motion and camera. No inversion is needed. *Deflicker Edit* removes the flicker.\n\nIn your own "
        "workflow: *source branch* in *Sample Edit*, LATENT from *VAE Encode*, and the caption connected once more."
    )
    base(workflow, True, SOURCE)
    prompt = MOON
    edit = source_preserving(workflow, tuned(workflow, True), prompt)
    saved(workflow, compared(workflow, {SOURCE: ("clip", 0), prompt: edit}, 2), "source-branch")
    return workflow


def sd15_edit(lora: bool = False) -> Workflow:
    words = "with a LoRA in the base model" if lora else "on Stable Diffusion 1.5"
    workflow = Workflow(
        f"## One-shot edit {words}\n1. Upload a clip of 3 to 4 seconds and choose it in *Load Clip*. Seconds used: "
        "num_frames x stride / fps, so 24 x 3 / 24 are 3.\n2. Write what it shows.\n3. Write what the edit shall show: "
        "the same sentence with few words changed.\n4. Press **Run**. Out of memory? Fewer frames first, then 384 x 384"
        " pixels."
    )
    base(workflow, False, "a man is skiing", lora)
    model = tuned(workflow, False)
    inverted(workflow, model, False)
    saved(workflow, edited(workflow, model, False, "a robot is skiing"), "lora" if lora else "sd15")
    return workflow


def several_prompts() -> Workflow:
    workflow = Workflow(
        "## Several prompts from one tuning\nThe clip is tuned and inverted once; each prompt only samples."
    )
    base(workflow, True, SOURCE)
    model = tuned(workflow, True)
    inverted(workflow, model, True)
    clips = {SOURCE: ("clip", 0)}
    for mark, prompt in enumerate((BLUE, ROBOT, MOON), 1):
        clips[prompt] = edited(workflow, model, True, prompt, str(mark))
    saved(workflow, compared(workflow, clips, 2), "several")
    return workflow


def tune_and_save() -> Workflow:
    workflow = Workflow("## Tune and save\nThe tuned weights go to `models/tune_a_video`. *Load and edit* loads them.")
    base(workflow, True, SOURCE)
    model = tuned(workflow, True)
    workflow.add("keep", "TAVSaveTuned", model=model, filename_prefix="cartwheel")
    workflow.add("curve", "PreviewImage", "Loss of each step", images=("tune", 2))
    return workflow


def load_and_edit() -> Workflow:
    workflow = Workflow("## Load and edit\nRun *Tune and save* first, then choose its file in *Load Tuned Weights*.")
    base(workflow, True, SOURCE)
    del workflow.nodes["caption"]
    inputs = dict(model=("inflate", 0), file="cartwheel_00001_.safetensors", strength=1.0)
    model = workflow.add("tuned", "TAVLoadTuned", **inputs)
    inverted(workflow, model, True)
    saved(workflow, edited(workflow, model, True, "a purple person jumps on the beach, flat colours"), "loaded")
    return workflow


def native() -> Workflow:
    workflow = Workflow(
        "## Edit with KSampler\n*Apply Motion* puts the tuned clip into ComfyUI's own MODEL. ComfyUI's nodes invert "
        "the clip and sample the edit: any sampler, ControlNet, LoRAs, FreeU.\n\nThe number of steps divides 1000 "
        "and is the same in *BasicScheduler* and *KSampler (Advanced)*; add_noise is off in both samplers."
    )
    base(workflow, True, SOURCE)
    model = with_motion(workflow, tuned(workflow, True), ("model", 0))
    edit = native_edit(workflow, model, ("latents", 0), BLUE, True)
    saved(workflow, compared(workflow, {SOURCE: ("clip", 0), BLUE: edit}, 2), "native")
    return workflow


def native_style() -> Workflow:
    workflow = Workflow(
        "## The motion in another style\nThe clip is tuned on the plain checkpoint. A LoRA is loaded afterwards, and "
        "*Apply Motion* adds the tuning to it: choose your own LoRA in *Load LoRA*, or load another checkpoint of "
        "Stable Diffusion 1.5 in its place. Only sampling runs again."
    )
    base(workflow, False, "a man is skiing")
    tav_model = tuned(workflow, False)
    lora = dict(lora_name="your-lora.safetensors", strength_model=1.0)
    styled = workflow.add("lora", "LoraLoaderModelOnly", "Another style", model=("model", 0), **lora)
    model = with_motion(workflow, tav_model, styled)
    edit = native_edit(workflow, model, ("latents", 0), "a robot is skiing", False)
    saved(workflow, edit, "native-style")
    return workflow


def long_clip() -> Workflow:
    workflow = Workflow(
        "## A long clip in windows\n24 frames in windows of 12. Each update of *One-Shot Tune* sees a window, drawn "
        "anew (*context_length*), and *Context Windows* inverts and samples the clip in windows as long. So a clip of "
        "any length takes the memory of a short one. Raise *overlap* if you see seams."
    )
    base(workflow, True, SOURCE)
    model = with_motion(workflow, tuned(workflow, True), ("model", 0))
    workflow.nodes["tune"][1]["context_length"] = LONG["context_length"]
    windows = workflow.add("windows", "TAVContextWindows", model=model, **LONG)
    edit = native_edit(workflow, windows, ("latents", 0), BLUE, True)
    saved(workflow, compared(workflow, {SOURCE: ("clip", 0), BLUE: edit}, 2), "long")
    return workflow


WORKFLOWS = {
    "quickstart_bundled_model": quickstart,
    "source_branch": source_branch,
    "edit_sd15": sd15_edit,
    "edit_sd15_lora": lambda: sd15_edit(lora=True),
    "several_prompts": several_prompts,
    "tune_and_save": tune_and_save,
    "load_and_edit": load_and_edit,
    "native_ksampler": native,
    "native_style_sd15": native_style,
    "native_long_clip": long_clip,
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
        workflow = make()
        write(FOLDER / f"{name}.json", ui_format(workflow, infos, name))
        write(FOLDER / "api" / f"{name}.json", api_format(workflow, infos))


if __name__ == "__main__":
    main()
