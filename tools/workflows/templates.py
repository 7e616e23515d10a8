"""The templates that sample by the nodes of the pack."""

from typing import Any

from tav_core.presets import BUNDLED, CONTENT, LOOK, PUBLISHED
from tools.workflows.formats import Workflow
from tools.workflows.parts import SOURCE, another_clip, base, compared, edited, hold, inverted, saved, tuned

BLUE, GREEN, YELLOW, PURPLE = (SOURCE.replace("red", coat) for coat in ("blue", "green", "yellow", "purple"))
INK = SOURCE.replace("flat colours", "ink drawing")
ROBOT = SOURCE.replace("person", "robot")
MOON = "a red person jumps on the moon, flat colours"


def quickstart(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow(
        "Press **Run**: nothing is downloaded, and the person in red turns blue.\n\nThen change *What the edit shows*: "
        "green, yellow.\n\nYour clip: upload it, write both texts. Filmed clips need *edit_sd15*."
    )
    base(workflow, True)
    model = tuned(workflow, BUNDLED)
    inverted(workflow, model, BUNDLED)
    edited(workflow, model, BUNDLED, BLUE, LOOK, infos, deflickered=False)
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
        "Choose a clip of 3 to 4 seconds and a checkpoint, write what the clip shows and what the edit shows (few "
        "words changed), press **Run**.\n\n*way* says what may change."
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
    edited(workflow, model, BUNDLED, ("prompts", 0), LOOK, infos, deflickered=False)
    grid = dict(images=("decode", 0), prompts=("prompts", 0), clip=("clip", 0), clip_caption=SOURCE, enlarge=2)
    saved(workflow, workflow.add("grid", "TAVPromptGrid", **grid), "several")
    return workflow


def several_clips(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow(
        "Two clips of **one motion**, tuned on together; the edit is of the first. Press **Run**.\n\nYour clips: open "
        "*Second clip*, take as many frames, write each caption."
    )
    base(workflow, True)
    workflow.nodes["clip"][1].update(num_frames=8, stride=2)
    edit = edited(workflow, tuned(workflow, BUNDLED, **another_clip(workflow)), BUNDLED, MOON, CONTENT, infos)
    saved(workflow, compared(workflow, edit, 2), "several-clips")
    return workflow


def tune_and_save(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow(
        "The tuned weights go to *models/tune_a_video*. Press **Run**, then open *load_and_edit*, which tunes nothing."
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
    edited(workflow, model, BUNDLED, PURPLE, LOOK, infos, deflickered=False)
    saved(workflow, compared(workflow, ("decode", 0), 2), "loaded")
    return workflow


def control_depth(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow(
        "Another place, held by **depth**: the outline of the figure stays. Press **Run**.\n\nFor another model load "
        "its ControlNet, and give *Apply ControlNet* a depth video of the clip."
    )
    base(workflow, True)
    edit = edited(workflow, tuned(workflow, BUNDLED), BUNDLED, MOON, CONTENT, infos)
    hold(workflow, "depth")
    saved(workflow, compared(workflow, edit, 2), "control-depth")
    return workflow


def control_canny(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow(
        "Another style, held by the **edges** of the clip: its lines stay. Press **Run**.\n\nFor another model load "
        "its Canny ControlNet, and put *Draw Hints* behind *Load Clip*."
    )
    base(workflow, True)
    edited(workflow, tuned(workflow, BUNDLED), BUNDLED, INK, LOOK, infos, deflickered=False)
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


def heat_maps(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow(
        "Where each word of the caption acts, and an edit within the mask of *jumps*: in this model the verb marks the "
        "figure. Press **Run**.\n\nName other words in *mask_words*; in Stable Diffusion take nouns."
    )
    base(workflow, True)
    model = tuned(workflow, BUNDLED)
    shown = dict(model=model, latents=("latents", 0), images=("clip", 0), clip=workflow.text)
    workflow.add("maps", "TAVWordHeatMaps", **shown, prompt=SOURCE, mask_words="jumps", threshold=0.2)
    edited(workflow, model, BUNDLED, BLUE, LOOK, infos, deflickered=False)
    workflow.nodes["sample"][1]["mask"] = ("maps", 1)
    workflow.add("shown", "PreviewImage", "Where each word acts", images=("maps", 0))
    saved(workflow, compared(workflow, ("decode", 0), 2), "heat-maps")
    return workflow
