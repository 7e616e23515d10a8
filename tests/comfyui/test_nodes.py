"""The nodes in a real ComfyUI, over its HTTP interface."""

import io
import json
import re
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tav_core import ClipEditor, Store, load_model, read_video
from tav_core.editing.heat_maps import word_mask
from tav_core.editing.reconstruction import POOR_SNR
from tests.comfyui import prompts
from tests.comfyui.client import FOLDER, Events, Server
from tests.comfyui.prompts import edit_prompt, node
from tools.make_pictures import ON_STABLE_DIFFUSION, on_bundled_model

SNAPSHOT = Path(__file__).parents[2] / "tools" / "object_info.json"
EXAMPLES = Path(__file__).parents[2] / "example_workflows"
EXAMPLE_NAMES = sorted(path.stem for path in EXAMPLES.glob("*.json"))
CLIP_FILE = Path(__file__).parents[2] / "tav_core" / "assets" / "demo-clip.mp4"
NODES = [
    "TAVAnotherClip", "TAVApplyMotion", "TAVCompareVideos", "TAVContextWindows", "TAVDDIMInvert", "TAVDrawHints",
    "TAVEvaluate", "TAVExportTuned", "TAVFindStrength", "TAVInflateUNet", "TAVInversionSampler", "TAVLoadDemoControl",
    "TAVLoadDemoModel", "TAVLoadTuned", "TAVLoadVideo", "TAVOneShotTune", "TAVPromptGrid", "TAVPromptList", "TAVSample",
    "TAVSaveTuned", "TAVSaveVideo", "TAVSteady", "TAVWordHeatMaps",
]  # fmt: skip


GROUPS = ("required", "optional")
HOST_NODES = [
    "BasicScheduler", "CLIPTextEncode", "CheckpointLoaderSimple", "ControlNetApplyAdvanced", "CreateVideo",
    "FlipSigmas", "KSamplerAdvanced", "LoraLoader", "LoraLoaderModelOnly", "PreviewImage", "SamplerCustom", "VAEDecode",
    "VAEEncode",
]  # fmt: skip


def described(server: Server, names: list[str] = NODES) -> dict[str, Any]:
    """The server's description of nodes, without fields that depend on its files or that older versions lack."""
    info = {name: server.get(f"/object_info/{name}").get(name) for name in names}
    if "TAVLoadTuned" in info:
        info["TAVLoadTuned"]["input"]["required"]["file"][1]["options"] = []
        info["TAVLoadVideo"]["input"]["required"]["file"][1]["options"] = []
    if "TAVEvaluate" in info:
        for encoder in ("clip", "pickscore", "dino"):
            info["TAVEvaluate"]["input"]["optional"][encoder][1]["options"] = ["none"]
    for node_info in info.values():
        node_info.pop("python_module")
        node_info.pop("has_intermediate_output", None)
    return info


def test_pack_loads_without_a_warning(server: Server) -> None:
    log = re.sub(r"\x1b\[[0-9;]*m", "", server.log_path.read_text(errors="replace"))
    log = log[: log.index("To see the GUI go to")]
    ours = [line for line in log.splitlines() if FOLDER in line or "tav_core" in line]
    assert ours, "the host lists the pack with its import time"
    assert not [line for line in ours if re.search(r"warn|error|failed|traceback", line, re.IGNORECASE)]


def test_nodes_are_registered_and_described(server: Server) -> None:
    info = described(server)
    for name, shown in info.items():
        assert shown["description"] and shown["display_name"] != name and shown["search_aliases"], name
        assert all(shown["output_tooltips"]), name
        for group in ("required", "optional"):
            for key, (_, options) in shown["input"].get(group, {}).items():
                assert options.get("tooltip"), (name, key)
                if "default" in options and isinstance(options["default"], (int, float)):
                    assert isinstance(options["default"], bool) or ("min" in options and "max" in options), (name, key)


def relied_on(info: dict[str, Any]) -> dict[str, Any]:
    """The parts of a host node that the workflows need; its texts change from version to version.

    Outputs of output nodes do not count; only some versions have them.
    """
    outputs = [] if info["output_node"] else info["output"]
    return {group: list(info["input"].get(group, {})) for group in GROUPS} | {"output": outputs}


def test_snapshot_equals_the_nodes(server: Server) -> None:
    info = json.loads(json.dumps(described(server, NODES + HOST_NODES)))
    if not SNAPSHOT.exists():
        SNAPSHOT.write_text(json.dumps(info, indent=1) + "\n")
    expected, renew = json.loads(SNAPSHOT.read_text()), f"delete {SNAPSHOT} and run again to renew it"
    assert {name: info[name] for name in NODES} == {name: expected[name] for name in NODES}, renew
    for name in HOST_NODES:
        assert relied_on(info[name]) == relied_on(expected[name]), renew


def test_edit_in_one_prompt(server: Server) -> None:
    prompt = edit_prompt()
    outcome = server.run(prompt, extra={"workflow": {"nodes": [], "name": "Wörkflow"}})
    (file,) = outcome.files(prompts.SAVE)
    assert re.fullmatch(r"edit_\d{5}_\.mp4", file["filename"]) and file["subfolder"] == "test"
    with av.open(io.BytesIO(server.view(file))) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert (len(frames), stream.width, stream.height) == (4, 64, 64)
        assert stream.average_rate == 4  # every second frame of 8 a second
        kept = json.loads(container.metadata["prompt"])  # the host adds fields to each node
        assert {name: (entry["class_type"], entry["inputs"]) for name, entry in kept.items()} == {
            name: (entry["class_type"], entry["inputs"]) for name, entry in prompt.items()
        }
        assert json.loads(container.metadata["workflow"])["name"] == "Wörkflow"


def test_source_preserving_edit_stays_within_its_mask(server: Server) -> None:
    beside = dict(latents=[prompts.ENCODE, 0], caption=[prompts.CAPTION, 0], start_from="source branch")
    prompt = edit_prompt(
        "a blue person jumps on the moon, flat colours", steps=6, sample=beside | dict(denoise=0.7, early_guidance=4.0)
    )
    prompt |= {
        "back": node("VAEDecode", samples=[prompts.ENCODE, 0], vae=[prompts.MODEL, 2]),
        "clip_save": node("SaveImage", images=["back", 0], filename_prefix="clip"),
        "edit_save": node("SaveImage", images=[prompts.DECODE, 0], filename_prefix="beside"),
        "black": node("SolidMask", value=0.0, width=64, height=64),
        "white": node("SolidMask", value=1.0, width=16, height=64),
        "mask": node("MaskComposite", destination=["black", 0], source=["white", 0], x=48, y=0, operation="add"),
    }

    def changed(prompt: dict[str, Any]) -> tuple[float, float]:
        """Mean difference of the edit and the round trip of the clip in the left third and the right eighth, of 255."""
        outcome = server.run(prompt)
        difference = np.abs(pixels(outcome, "edit_save") - pixels(outcome, "clip_save"))
        width = difference.shape[2]
        return float(difference[:, :, : width // 3].mean()), float(difference[:, :, -width // 8 :].mean())

    def pixels(outcome: Any, name: str) -> np.ndarray:
        pictures = []
        for file in outcome.files(name):
            with av.open(io.BytesIO(server.view(file))) as container:
                pictures.append(next(container.decode(video=0)).to_ndarray(format="rgb24").astype(float))
        return np.stack(pictures)

    free = changed(prompt)
    prompt[prompts.SAMPLE]["inputs"]["mask"] = ["mask", 0]
    locked, open_ = changed(prompt)
    assert 3 * locked < free[0] and open_ > 2, "the decoder's attention sees the whole picture"


def heat_prompt(**inputs: Any) -> dict[str, Any]:
    """Heat maps of the bundled clip, the maps and the mask saved as pictures."""
    prompt = edit_prompt()
    prompt = {name: prompt[name] for name in (prompts.MODEL, prompts.CLIP, prompts.ENCODE, prompts.INFLATE)}
    given = dict(model=[prompts.INFLATE, 0], latents=[prompts.ENCODE, 0], images=[prompts.CLIP, 0])
    given |= dict(clip=[prompts.MODEL, 1], prompt=prompts.SOURCE)
    return prompt | {
        "heat": node("TAVWordHeatMaps", **given | inputs),
        "mask_image": node("MaskToImage", mask=["heat", 1]),
        "save_maps": node("SaveImage", images=["heat", 0], filename_prefix="maps"),
        "save_mask": node("SaveImage", images=["mask_image", 0], filename_prefix="mask"),
    }


def saved_pictures(server: Server, outcome: Any, name: str) -> np.ndarray:
    pictures = []
    for file in outcome.files(name):
        with av.open(io.BytesIO(server.view(file))) as container:
            pictures.append(next(container.decode(video=0)).to_ndarray(format="rgb24").astype(float) / 255)
    return np.stack(pictures)


def test_word_heat_maps_show_each_word_and_mask_some(server: Server) -> None:
    outcome = server.run(heat_prompt(mask_words="jumps", threshold=0.5))
    assert saved_pictures(server, outcome, "save_maps").shape[::2] == (4, 4 * 256)  # 9 words, 4 in a row
    mask = saved_pictures(server, outcome, "save_mask")[..., 0]
    assert mask.shape == (4, 64, 64) and set(np.unique(mask)) == {0, 1}
    assert 0.02 < mask.mean() < 0.4
    whole = server.run(heat_prompt())
    assert saved_pictures(server, whole, "save_mask").min() == 1


def test_word_heat_maps_are_those_of_the_library(server: Server) -> None:
    """A long prompt is encoded in several parts, and weights and punctuation name no word."""
    outcome = server.run(
        heat_prompt(prompt="a (red:1.3) person, jumps on the beach", mask_words="jumps", threshold=0.0)
    )
    given = saved_pictures(server, outcome, "save_mask")[..., 0]
    frames = read_video(CLIP_FILE, num_frames=4, width=64, height=64, stride=2).frames
    editor = ClipEditor(load_model(), frames, prompts.SOURCE)
    *_, last = editor.heat_maps(prompts.SOURCE)
    expected = word_mask(editor.word_heat_maps(prompts.SOURCE, last.maps), ["jumps"], (64, 64), 0.0)
    assert np.corrcoef(given.flatten(), expected.numpy().flatten())[0, 1] > 0.95
    words = " ".join(["a", *["very"] * 90, "red", "person"])
    assert saved_pictures(server, server.run(heat_prompt(prompt=words, mask_words="person")), "save_mask").any()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [({"mask_words": "moon"}, "no word 'moon'"), ({"prompt": "..."}, "has no word")],
)
def test_word_heat_maps_refuse_words_that_are_not_there(server: Server, inputs: dict[str, str], message: str) -> None:
    name, text = server.error_of(heat_prompt(**inputs))
    assert name == "heat" and message in text


def test_reconstruction_check_is_off_and_says_what_it_means(server: Server) -> None:
    def said(**inputs: Any) -> str:
        outputs = server.run(edit_prompt(invert=inputs)).history["outputs"]
        return outputs[prompts.INVERT]["text"][0]

    plain, refined = (said(refinements=count, check=True) for count in (0, 10))
    decibels = [float(words.split("Reconstruction SNR ")[1].split()[0]) for words in (plain, refined)]
    assert ("does not come back" if decibels[0] < POOR_SNR else "does for most edits") in plain
    assert "et refinements to 10" in plain
    assert decibels[1] > decibels[0] + 3
    server.free()
    assert "Reconstruction" not in said()


def test_reconstruction_snr_of_a_stored_inversion_is_stored(server: Server) -> None:
    def said() -> str:
        server.free()
        prompt = edit_prompt(tune=dict(seed=11), invert=dict(keep=True, check=True))
        return server.run(prompt).history["outputs"][prompts.INVERT]["text"][0]

    store = Store(server.base / "models" / "tune_a_video_store")
    before = {entry.path for entry in store.entries()}
    first = said()
    (kept,) = [entry for entry in store.entries() if entry.kind == "reconstruction" and entry.path not in before]
    assert said() == first
    store.save_snr(kept.key, 12.3)
    assert said().startswith("Reconstruction SNR 12.3 dB")


def test_new_edit_prompt_reruns_neither_tuning_nor_inversion(server: Server) -> None:
    server.run(edit_prompt())
    outcome = server.run(edit_prompt("a blue person jumps on the beach, flat colours"))
    assert {prompts.TUNE, prompts.INVERT, prompts.ENCODE, prompts.INFLATE} <= outcome.cached
    assert not {prompts.PROMPT, prompts.SAMPLE, prompts.SAVE} & outcome.cached


@pytest.mark.parametrize("shared", [False, True])
def test_new_edit_prompt_does_not_tune_again_if_the_preview_has_its_own(server: Server, shared: bool) -> None:
    """The host runs a node again when any node before it changes, so the tooltip recommends a separate text."""

    def prompt(edit: str) -> dict[str, Any]:
        text = [prompts.PROMPT, 0] if shared else ["own", 0]
        made = edit_prompt(edit, tune=dict(preview_every=3, preview_prompt=text, preview_vae=[prompts.MODEL, 2]))
        return made | {"own": node("CLIPTextEncode", clip=[prompts.MODEL, 1], text="a preview")}

    server.run(prompt("a blue person jumps on the beach, flat colours"))
    cached = server.run(prompt("a red person jumps on the beach, flat colours")).cached
    assert (prompts.TUNE in cached, prompts.INVERT in cached) == (not shared, not shared)
    tooltip = described(server)["TAVOneShotTune"]["input"]["optional"]["preview_prompt"][1]["tooltip"]
    assert "a CLIP Text Encode of its own" in tooltip


def test_same_prompt_gives_the_same_bytes_after_another_one(server: Server) -> None:
    def fresh(prompt: dict[str, Any]) -> bytes:
        server.free()
        outcome = server.run(prompt)
        return server.view(outcome.files(prompts.SAVE)[0])

    first = fresh(edit_prompt())
    other = fresh(edit_prompt("a green person jumps on the beach, flat colours", tune=dict(seed=7)))
    assert other != first
    assert fresh(edit_prompt()) == first


def test_tuning_does_not_change_its_input_model(server: Server) -> None:
    """Two samplers on one inflated model, before and after its tuning in the same prompt, use different weights."""
    prompt = edit_prompt()
    untuned = json.loads(json.dumps({name: prompt[name] for name in (prompts.INVERT, prompts.SAMPLE)}))
    untuned[prompts.INVERT]["inputs"]["model"] = untuned[prompts.SAMPLE]["inputs"]["model"] = [prompts.INFLATE, 0]
    untuned[prompts.SAMPLE]["inputs"]["latents"] = ["plain_invert", 0]
    prompt |= {"plain_invert": untuned[prompts.INVERT], "plain_sample": untuned[prompts.SAMPLE]}
    prompt["plain_decode"] = node("VAEDecode", samples=["plain_sample", 0], vae=[prompts.MODEL, 2])
    prompt["plain_save"] = node("SaveImage", images=["plain_decode", 0], filename_prefix="plain")
    with_tuning = server.run(prompt)
    alone = {name: prompt[name] for name in prompt if name not in (prompts.TUNE, prompts.INVERT, prompts.SAMPLE)}
    alone = {name: value for name, value in alone.items() if name not in (prompts.DECODE, prompts.SAVE)}
    server.free()
    by_itself = server.run(alone)

    def pixels(outcome: Any) -> list[bytes]:
        pictures = []
        for file in outcome.files("plain_save"):
            with av.open(io.BytesIO(server.view(file))) as container:
                pictures.append(next(container.decode(video=0)).to_ndarray(format="rgb24").tobytes())
        return pictures

    assert pixels(with_tuning) == pixels(by_itself)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (prompts.TUNE, dict(tune=dict(steps=10000, seed=11))),
        (prompts.INVERT, dict(invert=dict(steps=1000), sample=dict(steps=1000))),
        (prompts.SAMPLE, dict(sample=dict(steps=900, start_from="noise", seed=3, eta=0.0))),
    ],
)
def test_stop_acts_within_one_step(server: Server, name: str, changes: dict[str, Any]) -> None:
    events = Events(server, "stop")
    prompt_id = server.submit(edit_prompt(**changes), client_id="stop")
    reached = before = events.until_step(name, 2)
    server.post("/interrupt", {})
    while True:
        event = events.next()
        if event["type"] == "progress_state" and name in event["data"]["nodes"]:
            reached = max(reached, int(event["data"]["nodes"][name]["value"]))
        if event["type"] == "execution_interrupted":
            break
    outcome = server.wait(prompt_id)
    stopped = outcome.message("execution_interrupted")
    assert stopped is not None and stopped["node_id"] == name
    assert reached <= before + 5  # steps before the request arrived, and one after
    events.close()
    server.run(edit_prompt("a white person jumps on the beach, flat colours"))


@pytest.mark.parametrize(
    ("name", "words", "changes"),
    [
        (prompts.SAMPLE, "inverted with 4 steps and is sampled with 5", dict(sample=dict(steps=5))),
        (prompts.SAMPLE, "need the clip's caption", dict(sample=dict(start_from="source branch"))),
        (
            prompts.SAMPLE,
            "connect VAE Encode to clip_latents",
            dict(sample=dict(start_from="source branch", caption=[prompts.CAPTION, 0])),
        ),
        (prompts.CLIP, "no 'nothing.mp4'", dict(clip=dict(file="nothing.mp4"))),
        (prompts.CLIP, "outside", dict(clip=dict(file="../server.log"))),
        (prompts.CLIP, "skip_first_frames=500", dict(clip=dict(skip_first_frames=500))),
        (prompts.TUNE, "Value 0 smaller than min", dict(tune=dict(steps=0))),
        (prompts.TUNE, "preview_prompt and preview_vae", dict(tune=dict(preview_every=1))),
        (prompts.SAVE, "leads out of", dict(save=dict(filename_prefix="../../gone"))),
    ],
)
def test_bad_inputs_name_node_and_remedy(server: Server, name: str, words: str, changes: dict[str, Any]) -> None:
    where, message = server.error_of(edit_prompt(**changes))
    assert where == name
    assert words in message


@pytest.mark.parametrize(
    ("kind", "inputs", "words"),
    [
        ("ConditioningCombine", dict(conditioning_1=[prompts.PROMPT, 0], conditioning_2=[prompts.CAPTION, 0]), "2 ent"),
        (
            "ConditioningSetArea",
            dict(conditioning=[prompts.PROMPT, 0], width=64, height=64, x=0, y=0, strength=1.0),
            "Set Area",
        ),
        ("ConditioningSetTimestepRange", dict(conditioning=[prompts.PROMPT, 0], start=0.2, end=1.0), "TimestepRange"),
    ],
)
def test_conditioning_with_more_than_one_prompt_gives_an_error(
    server: Server, kind: str, inputs: dict, words: str
) -> None:
    prompt = edit_prompt(sample=dict(positive=["strange", 0])) | {"strange": node(kind, **inputs)}
    where, message = server.error_of(prompt)
    assert where == prompts.SAMPLE
    assert words in message


def test_ksampler_runs_on_the_bundled_model_after_our_nodes(server: Server) -> None:
    prompt = edit_prompt("a silver person jumps on the beach, flat colours") | {
        "latent": node("EmptyLatentImage", width=128, height=128, batch_size=1),
        "ksampler": node(
            "KSampler",
            **dict(model=[prompts.MODEL, 0], positive=[prompts.CAPTION, 0], negative=[prompts.EMPTY, 0]),
            **dict(latent_image=["latent", 0], seed=1, steps=4, cfg=5.0, sampler_name="euler", scheduler="normal"),
            denoise=1.0,
        ),
        "picture": node("VAEDecode", samples=["ksampler", 0], vae=[prompts.MODEL, 2]),
        "png": node("SaveImage", images=["picture", 0], filename_prefix="after"),
    }
    outcome = server.run(prompt)
    assert outcome.files("png") and outcome.files(prompts.SAVE)


def test_video_in_a_subfolder_is_uploaded_and_edited(server: Server) -> None:
    stored = server.upload("a clip é.mp4", CLIP_FILE.read_bytes(), subfolder="my clips")
    name = f"{stored['subfolder']}/{stored['name']}"
    prompt = edit_prompt(clip=dict(file=name))
    assert server.run(prompt).files(prompts.SAVE)


def test_sound_and_frame_rate_are_preserved(server: Server) -> None:
    with io.BytesIO() as file:
        with wave.open(file, "wb") as sound:
            sound.setnchannels(1), sound.setsampwidth(2), sound.setframerate(16000)
            sound.writeframes(b"\0\10" * 16000)
        server.upload("tone.wav", file.getvalue())
    prompt = {
        "clip": edit_prompt()[prompts.CLIP],
        "tone": node("LoadAudio", audio="tone.wav"),
        "save": node("TAVSaveVideo", images=["clip", 0], fps=["clip", 1], filename_prefix="sound", audio=["tone", 0]),
    }
    (file,) = server.run(prompt).files("save")
    with av.open(io.BytesIO(server.view(file))) as container:
        assert container.streams.video[0].average_rate == 4
        assert container.streams.audio[0].duration * container.streams.audio[0].time_base == pytest.approx(1, abs=0.1)


def test_saved_weights_give_the_same_edit(server: Server) -> None:
    prompt = edit_prompt() | {
        "keep": node("TAVSaveTuned", model=[prompts.TUNE, 0], filename_prefix="kept/person"),
    }
    direct = server.view(server.run(prompt).files(prompts.SAVE)[0])
    later = edit_prompt(invert=dict(model=["again", 0]), sample=dict(model=["again", 0]))
    del later[prompts.TUNE], later[prompts.CAPTION]
    later["again"] = node(
        "TAVLoadTuned", model=[prompts.INFLATE, 0], file="kept/person_00001_.safetensors", strength=1.0
    )
    server.free()
    loaded = server.view(server.run(later).files(prompts.SAVE)[0])

    def pixels(data: bytes) -> list[bytes]:
        with av.open(io.BytesIO(data)) as container:
            return [frame.to_ndarray(format="rgb24").tobytes() for frame in container.decode(video=0)]

    assert pixels(loaded) == pixels(direct)


def test_comparison_and_loss_plot(server: Server) -> None:
    prompt = edit_prompt() | {
        "compare": node(
            "TAVCompareVideos",
            **dict(images_1=[prompts.CLIP, 0], images_2=[prompts.DECODE, 0], caption_1="source", caption_2="edit"),
        ),
        "grid": node("TAVSaveVideo", images=["compare", 0], fps=8.0, filename_prefix="grid", format="gif"),
        "curve": node("SaveImage", images=[prompts.TUNE, 2], filename_prefix="curve"),
        "plot": node("LossGraphNode", loss=[prompts.TUNE, 1], filename_prefix="plot"),
    }
    outcome = server.run(prompt)
    assert outcome.files("grid")[0]["filename"].endswith(".gif")
    assert outcome.files("curve")


def test_deflicker_an_edit_and_refuse_one_of_another_clip(server: Server) -> None:
    prompt = edit_prompt() | {
        "decoded": node("VAEDecode", samples=[prompts.ENCODE, 0], vae=[prompts.MODEL, 2]),
        "steady": node("TAVSteady", images=[prompts.DECODE, 0], clip=[prompts.CLIP, 0], decoded_clip=["decoded", 0]),
    }
    prompt[prompts.SAVE]["inputs"]["images"] = ["steady", 0]
    outcome = server.run(prompt)
    with av.open(io.BytesIO(server.view(outcome.files(prompts.SAVE)[0]))) as container:
        assert len(list(container.decode(video=0))) == prompt[prompts.CLIP]["inputs"]["num_frames"]
    other = prompt | {"other": node("TAVLoadVideo", **prompt[prompts.CLIP]["inputs"] | {"num_frames": 2})}
    other["steady"] = node("TAVSteady", images=[prompts.DECODE, 0], clip=["other", 0])
    failed = server.wait(server.submit(other)).message("execution_error")
    assert failed is not None
    assert "give the frames that were edited" in failed["exception_message"]


def test_strength_search_and_edit_at_the_best_strength(server: Server) -> None:
    found = dict(model=[prompts.TUNE, 0], latents=[prompts.ENCODE, 0], caption=[prompts.CAPTION, 0])
    found |= dict(positive=[prompts.PROMPT, 0], negative=[prompts.EMPTY, 0])
    found |= dict(conditioning=[prompts.EMPTY, 0], steps=3, guidance=2.5, denoise=0.8)
    prompt = edit_prompt(invert=dict(model=["find", 0]), sample=dict(model=["find", 0]))
    prompt |= {"find": node("TAVFindStrength", **found), "show": node("PreviewAny", source=["find", 1])}
    outcome = server.run(prompt)
    *tried, taken = outcome.history["outputs"]["find"]["text"][0].splitlines()
    assert [line.split(":")[0] for line in tried] == [f"strength {share}" for share in ("0.25", "0.5", "0.75", "1")]
    assert taken.removeprefix("taken: ") in ("0.25", "0.5", "0.75", "1")
    assert outcome.files(prompts.SAVE)
    untuned = edit_prompt() | {"find": node("TAVFindStrength", **found | {"model": [prompts.INFLATE, 0]})}
    untuned["again"] = node(
        "TAVDDIMInvert", model=["find", 0], latents=[prompts.ENCODE, 0], conditioning=[prompts.EMPTY, 0]
    )
    untuned["again"]["inputs"] |= dict(steps=2, keep=False)
    untuned[prompts.SAMPLE]["inputs"] |= dict(latents=["again", 0], steps=2)
    failed = server.wait(server.submit(untuned)).message("execution_error")
    assert failed is not None and "connect One-Shot Tune" in failed["exception_message"]


def test_preview_while_tuning(server: Server) -> None:
    tune = dict(preview_every=2, preview_prompt=[prompts.PROMPT, 0], preview_vae=[prompts.MODEL, 2], seed=5)
    server.run(edit_prompt(tune=tune))


@pytest.mark.parametrize("name", ["tune_and_save", *(name for name in EXAMPLE_NAMES if name != "tune_and_save")])
def test_example_workflows_run(server: Server, name: str) -> None:
    """With few steps on few frames; other tests measure the edits. Those of Stable Diffusion on the bundled model.

    The first one makes the file that another loads.
    """
    prompt = json.loads((EXAMPLES / "api" / f"{name}.json").read_text(encoding="utf-8"))
    if name in ON_STABLE_DIFFUSION:
        prompt = on_bundled_model(prompt)
    few = {"steps": 2} if "control" in name else {"steps": 2, "num_frames": 2}  # a hint for each of the 24 frames
    for entry in prompt.values():
        entry["inputs"] |= {key: value for key, value in few.items() if key in entry["inputs"]}
    outputs = server.run(prompt).history["outputs"]
    assert any("images" in shown for shown in outputs.values())


def test_server_serves_templates_help_pages_and_locales(server: Server) -> None:
    templates = server.get("/workflow_templates")[FOLDER]
    assert sorted(templates) == sorted(path.stem for path in EXAMPLES.glob("*.json"))
    for page in ("TAVSample.md", "TAVSample/zh.md"):
        assert server.text(f"/extensions/{FOLDER}/docs/{page}").startswith("# ")
    texts = server.get("/i18n")
    assert texts["zh"]["nodeDefs"]["TAVSample"]["display_name"].startswith("采样")
