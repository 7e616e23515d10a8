"""Small prompts in API format, to build tests from."""

from typing import Any

SOURCE = "a red person jumps on the beach, flat colours"
EDIT = "a yellow person jumps on the beach, flat colours"
MODEL, CLIP, CAPTION, EMPTY, PROMPT, ENCODE = "model", "clip", "caption", "empty", "prompt", "encode"
INFLATE, TUNE, INVERT, SAMPLE, DECODE, SAVE = "inflate", "tune", "invert", "sample", "decode", "save"


def node(kind: str, /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def edit_prompt(edit: str = EDIT, steps: int = 4, tuning_steps: int = 3, **changes: dict[str, Any]) -> dict[str, Any]:
    """Load, tune, invert, sample, save on the bundled model, 4 frames of 64 x 64, without the store.

    Arguments:
        changes: by the name of a node, inputs to replace; None removes one.
    """
    prompt = {
        MODEL: node("TAVLoadDemoModel"),
        CLIP: node(
            "TAVLoadVideo",
            **dict(file="bundled: cartwheel", num_frames=4, width=64, height=64, stride=2, start=0.0, fit="crop"),
        ),
        CAPTION: node("CLIPTextEncode", clip=[MODEL, 1], text=SOURCE),
        EMPTY: node("CLIPTextEncode", clip=[MODEL, 1], text=""),
        PROMPT: node("CLIPTextEncode", clip=[MODEL, 1], text=edit),
        ENCODE: node("VAEEncode", pixels=[CLIP, 0], vae=[MODEL, 2]),
        INFLATE: node("TAVInflateUNet", model=[MODEL, 0]),
        TUNE: node(
            "TAVOneShotTune",
            **dict(model=[INFLATE, 0], latents=[ENCODE, 0], caption=[CAPTION, 0]),
            **dict(steps=tuning_steps, learning_rate=3e-4, seed=1, keep=False),
        ),
        INVERT: node(
            "TAVDDIMInvert",
            **dict(model=[TUNE, 0], latents=[ENCODE, 0], conditioning=[EMPTY, 0], steps=steps, keep=False),
        ),
        SAMPLE: node(
            "TAVSample",
            **dict(model=[TUNE, 0], latents=[INVERT, 0], positive=[PROMPT, 0], negative=[EMPTY, 0]),
            **dict(steps=steps, guidance=5.0),
        ),
        DECODE: node("VAEDecode", samples=[SAMPLE, 0], vae=[MODEL, 2]),
        SAVE: node("TAVSaveVideo", images=[DECODE, 0], fps=[CLIP, 1], filename_prefix="test/edit", audio=[CLIP, 3]),
    }
    for name, inputs in changes.items():
        prompt[name]["inputs"] |= inputs
        prompt[name]["inputs"] = {key: value for key, value in prompt[name]["inputs"].items() if value is not None}
    return prompt
