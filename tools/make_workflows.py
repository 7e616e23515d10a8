"""Write example_workflows/: each in the format of the browser and, under api/, in that of POST /prompt.

It also writes the English locale, from the schemas of the nodes; the Chinese one is written by hand.

    python -m tools.make_workflows

The settings are those of the bundled model, and the published ones for Stable Diffusion. Sockets, widgets and their
order come from object_info.json, a snapshot that the ComfyUI tests compare with a running host.
"""

from pathlib import Path

from tav_core.presets import CONTENT
from tools.workflows import native_templates as native
from tools.workflows import templates
from tools.workflows.formats import api_format, ui_format, write
from tools.workflows.schemas import english, read_schemas

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "example_workflows"

WORKFLOWS = {
    "quickstart_bundled_model": templates.quickstart,
    "source_branch": templates.source_branch,
    "edit_sd15": lambda infos: templates.sd15_edit(infos, "published", templates.BLUE, "sd15"),
    "edit_sd15_content": lambda infos: templates.sd15_edit(infos, CONTENT, templates.MOON, "content"),
    "edit_sd15_lora": lambda infos: templates.sd15_edit(infos, "published", templates.BLUE, "lora", lora=True),
    "several_prompts": templates.several_prompts,
    "several_clips": templates.several_clips,
    "tune_and_save": templates.tune_and_save,
    "load_and_edit": templates.load_and_edit,
    "native_ksampler": native.plain,
    "native_style_sd15": native.style,
    "native_long_clip": native.long_clip,
    "native_control_pose": native.control_pose,
    "native_few_steps_sd15": native.few_steps,
    "control_canny": templates.control_canny,
    "control_depth": templates.control_depth,
    "control_pose": templates.control_pose,
    "word_heat_maps": templates.heat_maps,
}


def main() -> None:
    infos = read_schemas()
    write(ROOT / "locales" / "en" / "nodeDefs.json", english(infos))
    for name, make in WORKFLOWS.items():
        workflow = make(infos)
        write(FOLDER / f"{name}.json", ui_format(workflow, infos, name))
        write(FOLDER / "api" / f"{name}.json", api_format(workflow, infos))


if __name__ == "__main__":
    main()
