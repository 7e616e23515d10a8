"""The templates that sample by ComfyUI's own samplers."""

from typing import Any

from tav_core.presets import BUNDLED, PUBLISHED
from tools.workflows.formats import Workflow
from tools.workflows.parts import base, compared, hold, native_edit, saved, tuned, with_motion
from tools.workflows.templates import BLUE, ROBOT

LONG = dict(context_length=12, overlap=4)


def plain(infos: dict[str, Any]) -> Workflow:
    workflow = Workflow(
        "*Apply Motion* puts the tuned clip into ComfyUI's own MODEL, for KSampler, ControlNet, LoRAs. Press "
        "**Run**.\n\nSteps divide 1000 and are the same in both samplers; add_noise is off."
    )
    base(workflow, True)
    model = with_motion(workflow, tuned(workflow, BUNDLED), ("model", 0))
    saved(workflow, compared(workflow, native_edit(workflow, model, BLUE, BUNDLED), 2), "native")
    return workflow


def style(infos: dict[str, Any]) -> Workflow:
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


def control_pose(infos: dict[str, Any]) -> Workflow:
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
        "An LCM LoRA samples the edit in 8 steps, with the sampler *lcm* and little guidance; the inversion goes "
        "without it.\n\nTurbo and Hyper LoRAs go the same way, with their own samplers."
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
