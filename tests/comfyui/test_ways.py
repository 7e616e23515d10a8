"""Sample Edit: one choice, way, sets the rest; what is left out of a prompt has the value of the way."""

import io
from typing import Any

import av
import pytest

from tav_core import BUNDLED_CLIPS, Store
from tav_core.presets import BUNDLED, CONTENT, LOOK, PUBLISHED
from tests.comfyui import prompts
from tests.comfyui.client import Server
from tests.comfyui.prompts import edit_prompt, node

SHOWN = ("steps", "guidance", "denoise", "early_guidance", "source_guidance", "cross_replace_steps")
SHOWN += ("self_replace_steps", "guide_from_caption", "propagate", "start_from", "eta", "guidance_rescale")


def way_values(server: Server, model: str) -> dict[str, dict[str, Any]]:
    """What the page writes into the widgets, for each way."""
    return server.get("/object_info/TAVSample")["TAVSample"]["input"]["optional"]["way"][1]["ways"][model]


def sample_prompt(way: str | None, **given: Any) -> dict[str, Any]:
    """An edit in which Sample Edit has both starts connected, and no settings but those given."""
    beside = dict(caption=[prompts.CAPTION, 0], clip_latents=[prompts.ENCODE, 0], way=way)
    return edit_prompt(sample=beside | dict(steps=None, guidance=None) | given)


def pixels(server: Server, prompt: dict[str, Any]) -> list[bytes]:
    """The frames of the edit."""
    with av.open(io.BytesIO(server.view(server.run(prompt).files(prompts.SAVE)[0]))) as container:
        return [frame.to_ndarray(format="rgb24").tobytes() for frame in container.decode(video=0)]


def test_values_of_each_way_are_those_of_the_presets(server: Server) -> None:
    for model, preset in (("stable_diffusion", PUBLISHED), ("bundled", BUNDLED)):
        ways = way_values(server, model)
        assert ways["published"]["start_from"] == "inversion"
        assert {ways[name]["start_from"] for name in (CONTENT, LOOK)} == {"source branch"}
        for name, config in {"published": preset.sampling, **preset.source_branch}.items():
            assert set(ways[name]) == set(SHOWN)
            assert ways[name]["steps"] == config.num_inference_steps
            assert ways[name]["guidance"] == config.guidance_scale
            assert ways[name]["early_guidance"] == (config.high_noise_guidance_scale or 0)
            assert ways[name]["cross_replace_steps"] == config.cross_replace_steps


def test_published_is_the_default_and_shows_the_published_values(server: Server) -> None:
    inputs = server.get("/object_info/TAVSample")["TAVSample"]["input"]["optional"]
    assert inputs["way"][1]["default"] == "published"
    published = way_values(server, "stable_diffusion")["published"]
    assert {name: inputs[name][1]["default"] for name in SHOWN} == published


@pytest.mark.parametrize("way", [CONTENT, LOOK])
def test_a_way_alone_equals_its_values_written_out(server: Server, way: str) -> None:
    alone = pixels(server, sample_prompt(way))
    server.free()
    assert alone == pixels(server, sample_prompt("custom", **way_values(server, "bundled")[way]))
    assert alone != pixels(server, sample_prompt(way, guidance=6.0)), "a value that is given counts"


def test_one_choice_decides_whether_the_clip_is_inverted(server: Server) -> None:
    server.free()
    assert prompts.INVERT not in ran(server, sample_prompt(CONTENT))
    assert prompts.INVERT in ran(server, sample_prompt("published", steps=4))


def test_the_next_prompt_finds_the_source_branch(server: Server) -> None:
    store = Store(server.base / "models" / "tune_a_video_store")

    def branches() -> set[str]:
        return {entry.key for entry in store.entries() if entry.kind == "branch"}

    before = branches()
    given = dict(keep=True, seed=71)  # noise that no other test drew
    first, second = sample_prompt(CONTENT, **given), edited("a green person jumps on the beach", **given)
    server.run(first)
    (kept,) = branches() - before
    found = pixels(server, second)
    assert branches() == before | {kept}, "the same entry"
    server.free()
    assert found == pixels(server, edited("a green person jumps on the beach", keep=False, seed=71))


def edited(words: str, **given: Any) -> dict[str, Any]:
    """An edit of content under another prompt."""
    prompt = sample_prompt(CONTENT, **given)
    prompt["other words"] = node("CLIPTextEncode", clip=[prompts.MODEL, 1], text=words)
    prompt[prompts.SAMPLE]["inputs"]["positive"] = ["other words", 0]
    return prompt


def ran(server: Server, prompt: dict[str, Any]) -> set[str]:
    """The nodes that a prompt ran, which report: those that have an output in its history."""
    return set(server.run(prompt).history["outputs"])


def test_a_start_that_is_not_that_of_the_way_is_refused(server: Server) -> None:
    where, message = server.error_of(sample_prompt(CONTENT, start_from="inversion"))
    assert where == prompts.SAMPLE
    assert "way is content, which starts from source branch" in message and "custom" in message


def test_prompts_without_a_way_work_as_before(server: Server) -> None:
    beside = dict(latents=[prompts.ENCODE, 0], caption=[prompts.CAPTION, 0], start_from="source branch", denoise=0.5)
    assert server.run(edit_prompt(sample=beside)).files(prompts.SAVE)


WARNED = {
    "untuned": (prompts.SAMPLE, "not tuned"),
    "untuned at inversion": (prompts.INVERT, "not tuned"),
    "other weights": (prompts.SAMPLE, "inverted with other weights"),
    "another clip": (prompts.INVERT, "tuned on another clip"),
    "another clip in look": (prompts.SAMPLE, "tuned on another clip"),
}


def wrong_turn(name: str) -> dict[str, Any]:
    other = {
        "other": node("TAVLoadVideo", **edit_prompt()[prompts.CLIP]["inputs"] | {"start": 1.0}),
        "other latents": node("VAEEncode", pixels=["other", 0], vae=[prompts.MODEL, 2]),
    }
    untuned = dict(model=[prompts.INFLATE, 0])
    if name.startswith("untuned"):
        return edit_prompt(invert=untuned, sample=untuned)
    if name == "other weights":
        return edit_prompt(invert=untuned)
    if name == "another clip":
        return edit_prompt(invert=dict(latents=["other latents", 0])) | other
    return sample_prompt(LOOK, clip_latents=["other latents", 0]) | other


@pytest.mark.parametrize("name", WARNED)
def test_wrong_turns_that_may_be_meant_warn_on_the_node(server: Server, name: str) -> None:
    where, words = WARNED[name]
    server.free()
    (shown,) = server.run(wrong_turn(name)).history["outputs"][where]["text"]
    assert "Warning: " in shown and words in shown and "onnect" in shown


def test_right_turns_do_not_warn(server: Server) -> None:
    for prompt in (edit_prompt(), sample_prompt(LOOK)):
        outputs = server.run(prompt).history["outputs"]
        texts = [text for shown in outputs.values() for text in shown.get("text", ())]
        assert texts and not [text for text in texts if "Warning" in text]


def refused_turn(name: str) -> tuple[str, str, dict[str, Any]]:
    """The node, words of its error, and the prompt."""
    if name == "no inversion":
        return (
            prompts.SAMPLE,
            "Connect the LATENT of DDIM Invert",
            edit_prompt(sample=dict(latents=[prompts.ENCODE, 0])),
        )
    if name == "black mask":
        black = {"black": node("SolidMask", value=0.0, width=64, height=64)}
        return prompts.SAMPLE, "The mask is black", sample_prompt(CONTENT, mask=["black", 0]) | black
    if name == "mask as published":
        white = {"white": node("SolidMask", value=1.0, width=64, height=64)}
        return prompts.SAMPLE, "remove the mask", edit_prompt(sample=dict(mask=["white", 0])) | white
    if name == "noise for content":
        return prompts.SAMPLE, "connect VAE Encode to clip_latents", sample_prompt(CONTENT, clip_latents=None)
    blank = edit_prompt() if name == "empty caption" else sample_prompt(LOOK, caption=[prompts.EMPTY, 0])
    if name == "empty caption":
        blank[prompts.CAPTION]["inputs"]["text"] = "  "
    return (prompts.TUNE if name == "empty caption" else prompts.SAMPLE), "write what the clip shows", blank


@pytest.mark.parametrize(
    "name",
    ["no inversion", "black mask", "mask as published", "noise for content", "empty caption", "empty caption in look"],
)
def test_wrong_turns_are_refused_with_the_remedy(server: Server, name: str) -> None:
    node_id, words, prompt = refused_turn(name)
    where, message = server.error_of(prompt)
    assert where == node_id
    assert words in message


def test_caption_of_the_bundled_clip_under_another_clip_warns(server: Server) -> None:
    server.upload("mine.mp4", BUNDLED_CLIPS["cartwheel"].read_bytes())

    def shown(file: str, text: str, **clip: Any) -> str:
        prompt = edit_prompt(clip=dict(file=file) | clip, caption=dict(text=text))
        prompt["video"] = node("LoadVideo", file="mine.mp4")
        server.free()
        return server.run(prompt).history["outputs"][prompts.TUNE]["text"][0]

    assert "still that of the bundled clip, and the clip is mine.mp4" in shown("mine.mp4", prompts.SOURCE)
    assert "still that of the bundled clip" in shown("bundled: cartwheel", prompts.SOURCE, video=["video", 0])
    assert "Warning" not in shown("mine.mp4", "somebody jumps")
    assert "Warning" not in shown("bundled: cartwheel", prompts.SOURCE)


def test_load_clip_takes_what_its_labels_say_and_shows_exactly_that(server: Server) -> None:
    """The bundled clip has 24 frames of 128 x 128 at 8 a second."""

    def cut(**inputs: Any) -> tuple[list[int], float]:
        prompt = {
            "clip": node(
                "TAVLoadVideo", file="bundled: cartwheel", **dict(num_frames=0, width=0, height=0, stride=1) | inputs
            ),
            "shown": node("PreviewImage", images=["clip", 0]),
        }
        outcome = server.run(prompt)
        assert len(outcome.files("shown")) == len(frames(server, outcome.files("clip")[0])[0])
        shown, rate = frames(server, outcome.files("clip")[0])
        return [len(shown), *shown[0].shape[:2]], rate

    assert cut() == ([24, 128, 128], 8)
    assert cut(num_frames=6, stride=2) == ([6, 128, 128], 4)
    assert cut(skip_first_frames=20) == ([4, 128, 128], 8)
    assert cut(force_rate=4.0, skip_first_frames=2) == ([10, 128, 128], 4)
    assert cut(width=64, height=0) == ([24, 64, 64], 8)


def frames(server: Server, file: dict[str, str]) -> tuple[list[Any], float]:
    """The frames of a file of the server, and their rate."""
    with av.open(io.BytesIO(server.view(file))) as container:
        rate = float(container.streams.video[0].average_rate)
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], rate


def test_a_list_of_prompts_becomes_a_labelled_grid(server: Server) -> None:
    """Two prompts, so two edits and the clip, in rows of two: four panels of 64 x 64 under captions."""
    lines = [prompts.EDIT, "a blue person jumps on the beach, flat colours"]
    prompt = sample_prompt("custom", **dict(steps=4, guidance=2.0)) | {
        "list": node("TAVPromptList", prompts="\n".join([lines[0], "", f"  {lines[1]}"])),
        "grid": node("TAVPromptGrid", images=[prompts.DECODE, 0], prompts=["list", 0], clip=[prompts.CLIP, 0]),
        "shown": node("PreviewImage", images=["grid", 0]),
    }
    prompt[prompts.PROMPT]["inputs"]["text"] = ["list", 0]
    del prompt[prompts.SAVE]
    outcome = server.run(prompt)
    (picture, *_), _ = frames(server, outcome.files("shown")[0])
    assert len(outcome.files("shown")) == 4
    assert picture.shape[1] >= 2 * 64 and picture.shape[0] > 2 * 64
    prompt["list"]["inputs"]["prompts"] = " "
    assert "write a prompt in each line" in server.error_of(prompt)[1]
