"""Errors and rare features in a real ComfyUI: each error is clear, and the next prompt works."""

import io
import json
import os
import shutil
import threading
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from tav_core import write_video
from tests.comfyui import prompts
from tests.comfyui.client import Events, Outcome, Refused, Server
from tests.comfyui.prompts import edit_prompt, node


def video_stream(server: Server, outcome: Outcome, save: str = prompts.SAVE) -> tuple[str, list[Any], Any]:
    """Codec, pictures and rate of the file that a node saved."""
    with av.open(io.BytesIO(server.view(outcome.files(save)[0]))) as container:
        stream = container.streams.video[0]
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return stream.codec_context.name, pictures, stream.average_rate


def pixels(server: Server, prompt: dict[str, Any]) -> bytes:
    return b"".join(picture.tobytes() for picture in video_stream(server, server.run(prompt))[1])


def saved_clip(**inputs: Any) -> dict[str, Any]:
    """Load Clip straight into Save Clip."""
    clip = node("TAVLoadVideo", file="bundled: cartwheel", num_frames=4, width=64, height=64, stride=1) | {}
    clip["inputs"] |= inputs
    save = node("TAVSaveVideo", images=["clip", 0], fps=["clip", 1], filename_prefix="clip", audio=["clip", 3])
    return {"clip": clip, prompts.SAVE: save}


def frames_of_newest(server: Server) -> list[np.ndarray]:
    """The frames of the newest mkv file that was saved."""
    with av.open(str(max((server.base / "output").glob("clip*.mkv")))) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_video_of_frames_in_memory(server: Server) -> None:
    """CreateVideo holds frames in memory; every second one of 8, from 0.25 s on, at 8 a second."""
    made = {
        "pictures": node("TAVLoadVideo", file="bundled: cartwheel", num_frames=12, width=96, height=64, stride=1),
        "made": node("CreateVideo", images=["pictures", 0], fps=8.0),
    }
    prompt = made | saved_clip(video=["made", 0], stride=2, start=0.25)
    _, pictures, rate = video_stream(server, server.run(prompt))
    assert (len(pictures), pictures[0].shape, rate) == (4, (64, 64, 3), 4)
    _, pictures, _ = video_stream(server, server.run(made | saved_clip(video=["made", 0], num_frames=13)))
    assert len(pictures) == 12, "frame_load_cap is a cap"
    where, message = server.error_of(made | saved_clip(video=["made", 0], skip_first_frames=12))
    assert where == "clip" and "no frame" in message and "skip_first_frames=12" in message


def test_video_of_frames_that_cannot_be_encoded(server: Server) -> None:
    prompt = {"made": node("TestOddVideo")} | saved_clip(video=["made", 0])
    _, pictures, rate = video_stream(server, server.run(prompt))
    assert (len(pictures), pictures[0].shape, rate) == (4, (64, 64, 3), 8)
    assert all(abs(picture.mean() - 0.8 * 255) < 3 for picture in pictures)


def test_dates_in_a_prefix_follow_the_host(server: Server) -> None:
    prompt = saved_clip()
    prompt[prompts.SAVE]["inputs"]["filename_prefix"] = "%date:yyyy-MM%/a%date:yy%_%date:d%"
    before = date.today()
    saved = server.run(prompt).files(prompts.SAVE)[0]
    expected = [(f"{day:%Y-%m}", f"a{day:%y}_{day.day}_00001_.mp4") for day in (before, date.today())]
    assert (saved["subfolder"], saved["filename"]) in expected


@pytest.mark.parametrize("form, codec", [("mkv", "ffv1"), ("mov", "prores"), ("png", "png")])
def test_files_for_an_editor(server: Server, form: str, codec: str) -> None:
    """Saved files lie in the output folder; the node shows what browsers can."""
    prompt = saved_clip()
    prompt[prompts.SAVE]["inputs"] |= dict(filename_prefix="for editors v1.0/clip", format=form)
    prompt["size"] = node("GetVideoComponents", video=[prompts.SAVE, 0])
    prompt["seen"] = node("PreviewImage", images=["size", 0])
    outcome = server.run(prompt)
    assert outcome.files(prompts.SAVE)
    assert len(outcome.files("seen")) == 4
    folder = server.base / "output" / "for editors v1.0"
    path = next(folder.iterdir()) if form == "png" else next(folder.glob(f"*.{form}"))
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    assert len(files) == (4 if form == "png" else 1)
    with av.open(str(files[0])) as container:
        context = container.streams.video[0].codec_context
        assert context.name == codec
        assert form == "png" or context.color_primaries == 1
    for file in files:
        file.unlink()
    if path.is_dir():
        path.rmdir()


@pytest.mark.parametrize("form", ["mp4", "png"])
def test_names_that_are_too_long_are_refused_before_anything_runs(server: Server, form: str) -> None:
    prompt = saved_clip()
    prompt[prompts.SAVE]["inputs"] |= dict(filename_prefix="long/" + "x" * 250, format=form)
    with pytest.raises(Refused, match="would have names of 2[5-9][0-9] bytes, and at most 255 can be written"):
        server.run(prompt)


def test_a_slice_of_a_video_with_wide_pixels(server: Server) -> None:
    """Frames 4 to 7 of 10 a second, whose pixels are twice as wide as high: a square is 16 of 32 pixels wide."""
    with av.open(str(server.base / "input" / "wide.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        for index in range(12):
            picture = np.full((64, 64, 3), 20 * index, np.uint8)
            picture[24:40, 28:36] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    cut = {
        "file": node("LoadVideo", file="wide.mp4"),
        "cut": node("Video Slice", video=["file", 0], start_time=0.4, duration=0.4, strict_duration=False),
    }
    prompt = cut | saved_clip(video=["cut", 0], width=128, height=64)
    prompt[prompts.SAVE]["inputs"]["format"] = "mkv"
    server.run(prompt)
    pictures = frames_of_newest(server)
    assert [round(float(picture[0, 0, 0]) / 20) for picture in pictures] == [4, 5, 6, 7]
    bright = pictures[0][..., 0] > 180
    assert (int(bright.any(0).sum()), int(bright.any(1).sum())) == (16, 16)
    server.run(cut | saved_clip(video=["cut", 0], num_frames=5))
    assert len(frames_of_newest(server)) == 4, "frame_load_cap is a cap"


def test_a_dropped_sound_track_is_told_on_the_node(server: Server) -> None:
    case = Path(__file__).parents[1] / "video" / "cases" / "ac4.mp4"
    shutil.copy(case, server.base / "input" / "ac4.mp4")
    outcome = server.run(saved_clip(file="ac4.mp4", num_frames=8))
    (text,) = outcome.history["outputs"]["clip"]["text"]
    assert "Sound track 1" in text and "unsupported codec: the clip has no sound" in text
    quiet = server.run(saved_clip())
    assert "text" not in quiet.history["outputs"]["clip"]


@pytest.mark.skipif(os.name == "nt", reason="There it is the system's own separator.")
def test_file_in_a_subfolder_by_its_windows_name(server: Server, tmp_path: Any) -> None:
    file = write_video(tmp_path / "grey.mp4", torch.full((4, 64, 64, 3), 0.5), Fraction(10))
    folder = server.base / "input" / "deep" / "er"
    folder.mkdir(parents=True)
    (folder / "grey.mp4").write_bytes(file.read_bytes())
    assert server.run(saved_clip(file=r"deep\er\grey.mp4")).files(prompts.SAVE)
    with pytest.raises(Refused, match="lies outside of ComfyUI's input folder"):
        server.run(saved_clip(file=r"..\..\secret.mp4"))


def test_output_folder_that_cannot_be_made_is_named(server: Server) -> None:
    (server.base / "output" / "blocked").write_text("no folder")
    prompt = saved_clip()
    prompt[prompts.SAVE]["inputs"]["filename_prefix"] = "blocked/clip"
    where, message = server.error_of(prompt)
    assert where == prompts.SAVE and "No file of filename_prefix 'blocked/clip' can be made" in message


def test_missing_file_is_ignored_if_a_video_is_connected(server: Server) -> None:
    made = {
        "pictures": node("TAVLoadVideo", file="bundled: cartwheel", num_frames=4, width=64, height=64, stride=1),
        "made": node("CreateVideo", images=["pictures", 0], fps=8.0),
    }
    assert server.run(made | saved_clip(video=["made", 0], file="gone.mp4")).files(prompts.SAVE)


def linked(name: str, widget: str, value: Any) -> dict[str, Any]:
    """An edit with one of its widgets linked to a node that gives this value."""
    prompt = edit_prompt() | {"value": node("TestAnything", value=json.dumps(value))}
    if name == "load":
        prompt["load"] = node("TAVLoadTuned", model=[prompts.INFLATE, 0], strength=1.0)
        prompt[prompts.INVERT]["inputs"]["model"] = prompt[prompts.SAMPLE]["inputs"]["model"] = ["load", 0]
    prompt[name]["inputs"][widget] = ["value", 0]
    return prompt


@pytest.mark.parametrize(
    ("name", "widget", "value"),
    [
        (prompts.CLIP, "file", "bundled: cartwheel"),
        (prompts.TUNE, "gradient_checkpointing", "on"),
        ("load", "file", "linked_00001_.safetensors"),
    ],
)
def test_widgets_with_own_validation_can_be_linked(server: Server, name: str, widget: str, value: str) -> None:
    kept = server.base / "models" / "tune_a_video" / "linked_00001_.safetensors"
    if name == "load" and not kept.exists():
        server.run(edit_prompt() | {"keep": node("TAVSaveTuned", model=[prompts.TUNE, 0], filename_prefix="linked")})
    prompt = linked(name, widget, value)
    server.run(prompt)
    assert name in server.run(prompt).cached


@pytest.mark.parametrize(
    ("name", "widget", "value", "words"),
    [
        (prompts.CLIP, "file", 5, "file must be text, not 5."),
        (prompts.CLIP, "file", None, "file must be text, not None."),
        (prompts.CLIP, "file", "gone.mp4", "There is no 'gone.mp4'"),
        (prompts.TUNE, "gradient_checkpointing", "sometimes", "gradient_checkpointing must be one of 'auto'"),
        ("load", "file", 5, "file must be text, not 5."),
        ("load", "file", "gone.safetensors", "not found"),
    ],
)
def test_invalid_value_of_a_linked_widget_is_named(
    server: Server, name: str, widget: str, value: Any, words: str
) -> None:
    where, message = server.error_of(linked(name, widget, value))
    assert where == name and words in message and "\n" not in message.strip()


def test_pad_a_video_of_another_shape(server: Server, tmp_path: Any) -> None:
    file = write_video(tmp_path / "bright.mp4", torch.full((5, 32, 64, 3), 0.8), Fraction(10))
    server.upload("bright.mp4", file.read_bytes())
    _, (picture, *_), _ = video_stream(server, server.run(saved_clip(file="bright.mp4", fit="pad")))
    assert picture[:14].max() < 20 and picture[50:].max() < 20 and picture[20:44].min() > 180


def test_load_a_saved_video_by_its_annotated_name(server: Server) -> None:
    prompt = saved_clip(start=0.5)
    prompt[prompts.SAVE]["inputs"]["filename_prefix"] = "again/clip"
    first = server.run(prompt)
    saved = first.files(prompts.SAVE)[0]
    name = f"{saved['subfolder']}/{saved['filename']} [{saved['type']}]"
    _, pictures, _ = video_stream(server, server.run(saved_clip(file=name)))
    _, expected, _ = video_stream(server, first)
    assert name.endswith(" [output]") and np.abs(np.subtract(pictures, expected, dtype=float)).mean() < 3
    with pytest.raises(Refused, match="lies outside of ComfyUI's output folder"):
        server.run(saved_clip(file="../secret.mp4 [output]"))


def test_webm_is_written(server: Server) -> None:
    prompt = saved_clip()
    prompt[prompts.SAVE]["inputs"]["format"] = "webm"
    codec, pictures, rate = video_stream(server, server.run(prompt))
    assert (codec, len(pictures), rate) == ("vp9", 4, 8)


@pytest.mark.parametrize("file", ["../../../input/secret.safetensors", "../red.safetensors", "/etc/passwd", "none"])
def test_tuned_weights_are_read_from_their_folder_only(server: Server, file: str) -> None:
    (server.base / "input" / "secret.safetensors").write_bytes(b"not for you")
    load = node("TAVLoadTuned", model=[prompts.INFLATE, 0], file=file, strength=1.0)
    prompt = edit_prompt(invert=dict(model=["load", 0]), sample=dict(model=["load", 0])) | {"load": load}
    where, message = server.error_of(prompt)
    assert where == "load" and "not found" in message


@pytest.mark.parametrize("prefix", ["../gone", "../../output/gone", "/tmp/gone"])
def test_tuned_weights_are_written_to_their_folder_only(server: Server, prefix: str) -> None:
    prompt = edit_prompt() | {"keep": node("TAVSaveTuned", model=[prompts.TUNE, 0], filename_prefix=prefix)}
    where, message = server.error_of(prompt)
    assert where == "keep" and "leads out of" in message


def test_strength_of_loaded_weights(server: Server) -> None:
    keep = edit_prompt(tune=dict(learning_rate=1e-2)) | {
        "keep": node("TAVSaveTuned", model=[prompts.TUNE, 0], filename_prefix="fade/star")
    }

    def at(strength: float) -> bytes:
        later = edit_prompt(invert=dict(model=["load", 0]), sample=dict(model=["load", 0]))
        del later[prompts.TUNE], later[prompts.CAPTION]
        file = "fade/star_00001_.safetensors"
        later["load"] = node("TAVLoadTuned", model=[prompts.INFLATE, 0], file=file, strength=strength)
        return pixels(server, later)

    tuned = pixels(server, keep)
    untuned = edit_prompt(invert=dict(model=[prompts.INFLATE, 0]), sample=dict(model=[prompts.INFLATE, 0]))
    del untuned[prompts.TUNE], untuned[prompts.CAPTION]
    half = at(0.5)
    assert at(1.0) == tuned and at(0.0) == pixels(server, untuned)
    assert half not in (tuned, at(0.0))


def test_denoise_starts_within_the_inversion(server: Server) -> None:
    """The last step alone has almost no noise, so the result is close to the clip."""
    source = saved_clip(stride=2)
    _, clip, _ = video_stream(server, server.run(source))

    def distance(denoise: float) -> float:
        _, edit, _ = video_stream(server, server.run(edit_prompt(sample=dict(denoise=denoise))))
        return sum(float(abs(a.astype(float) - b).mean()) for a, b in zip(edit, clip, strict=True))

    whole, half, last_step = (distance(denoise) for denoise in (1.0, 0.5, 0.25))
    assert last_step < 0.6 * min(half, whole) and half != whole


@pytest.mark.parametrize(
    ("sample", "words"),
    [(dict(start_from="noise"), "Set denoise to 1"), (dict(latents=[prompts.ENCODE, 0]), "LATENT of DDIM Invert")],
)
def test_denoise_needs_the_inversion(server: Server, sample: dict[str, Any], words: str) -> None:
    where, message = server.error_of(edit_prompt(sample=sample | dict(denoise=0.5)))
    assert where == prompts.SAMPLE and words in message


def test_two_prompts_at_once_give_the_same_as_alone(server: Server) -> None:
    first, second = (
        edit_prompt("a green person jumps on the beach, flat colours"),
        edit_prompt("a red robot jumps on the beach, flat colours"),
    )
    alone = [video_stream(server, server.run(prompt))[1] for prompt in (first, second)]
    for prompt in (first, second):
        prompt[prompts.SAVE]["inputs"]["filename_prefix"] = "test/at once"
    queued: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda index=index, prompt=prompt: queued.update({index: server.submit(prompt)}))
        for index, prompt in enumerate((first, second))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, expected in enumerate(alone):
        outcome = server.wait(queued[index])
        assert outcome.succeeded
        assert np.array_equal(video_stream(server, outcome)[1], expected)


def test_stopped_tuning_resumes_and_finished_one_is_loaded(server: Server) -> None:
    """A, stopped; A resumed to its end; B; A again without a step. The same bytes as without the store."""
    steps, store = 60, server.base / "models" / "tune_a_video_store"
    before = set(store.glob("*.safetensors"))
    whole = pixels(server, edit_prompt(tune=dict(steps=steps, seed=31)))
    kept = edit_prompt(tune=dict(steps=steps, seed=31, keep=True), invert=dict(keep=True))

    def first_step() -> tuple[int, bytes]:
        events = Events(server, "kept")
        prompt_id = server.submit(kept, client_id="kept")
        first = events.until_step(prompts.TUNE, 1)
        events.close()
        outcome = server.wait(prompt_id)
        assert outcome.succeeded
        return first, b"".join(picture.tobytes() for picture in video_stream(server, outcome)[1])

    events = Events(server, "stopped")
    stopped = server.submit(kept, client_id="stopped")
    reached = events.until_step(prompts.TUNE, 5)
    server.post("/interrupt", {})
    assert not server.wait(stopped).succeeded
    events.close()
    first, pictures = first_step()
    assert reached <= first < steps and pictures == whole
    server.run(edit_prompt())
    assert first_step() == (steps, whole)
    assert {path.name.split("-")[0] for path in {*store.glob("*.safetensors")} - before} == {"inversion", "tuned"}


def test_file_deleted_while_its_prompt_waits_is_named(server: Server) -> None:
    keep = edit_prompt() | {"keep": node("TAVSaveTuned", model=[prompts.TUNE, 0], filename_prefix="doomed")}
    server.run(keep)
    load = node("TAVLoadTuned", model=[prompts.INFLATE, 0], file="doomed_00001_.safetensors", strength=1.0)
    waiting = edit_prompt(invert=dict(model=["load", 0]), sample=dict(model=["load", 0])) | {"load": load}
    running = server.submit(edit_prompt(tune=dict(steps=10000, seed=21)))
    queued = server.submit(waiting)
    (server.base / "models" / "tune_a_video" / "doomed_00001_.safetensors").unlink()
    server.post("/interrupt", {})
    server.wait(running)
    failed = server.wait(queued).message("execution_error")
    assert failed is not None and failed["node_id"] == "load"
    assert "doomed_00001_.safetensors" in failed["exception_message"] and "not found" in failed["exception_message"]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (
            prompts.TUNE,
            "while tuning on 4 frames of 64 x 64 pixels. First set gradient_checkpointing to on; then set frame_load",
        ),
        (
            prompts.INVERT,
            "while running the model on 4 frames of 64 x 64 pixels. First set frame_load_cap of Load Clip to 2",
        ),
        (
            prompts.SAMPLE,
            "while running the model on 4 frames of 64 x 64 pixels. First set frame_load_cap of Load Clip to 2",
        ),
    ],
)
def test_out_of_memory_has_advice_and_the_next_prompt_works(server: Server, where: str, words: str) -> None:
    prompt = edit_prompt(tune=dict(seed=31))
    error = "cuDNN" if where == prompts.INVERT else "torch"
    fault = node("TestRunOutOfMemory", model=prompt[where]["inputs"]["model"], at_pass=2, error=error)
    if where == prompts.SAMPLE:  # the fault sits on the module that the inversion shares
        fault["inputs"]["after"] = [prompts.INVERT, 0]
    prompt["fault"] = fault
    prompt[where]["inputs"]["model"] = ["fault", 0]
    name, message = server.error_of(prompt)
    assert name == where and words in message
    server.run(edit_prompt(tune=dict(seed=31)))


def with_memory(mebibytes: int, **tune: Any) -> dict[str, Any]:
    """An edit on a host that believes so much memory is free; 0 for what there is."""
    prompt = edit_prompt(tune=dict(model=["memory", 0]) | tune)
    return prompt | {"memory": node("TestFreeMemory", model=[prompts.INFLATE, 0], mebibytes=mebibytes)}


def test_auto_checkpointing_follows_free_memory_and_is_bit_exact(server: Server) -> None:
    """The host keeps 400 MiB to itself: of 390 nothing is left, of 410 a part of the 13 that a step takes.

    What it would unload from a GPU counts too, and depends on what ran before: there the middle is left out.
    """
    second = os.environ.get("COMFYUI_DEVICE") == "second"
    expected_levels = {100_000: "off", 390: "on"} | ({} if second else {410: "selective"})
    expected = pixels(server, edit_prompt(tune=dict(gradient_checkpointing="off")))
    try:
        for mebibytes, chosen in expected_levels.items():
            before = len(server.log_path.read_text(errors="replace"))
            assert pixels(server, with_memory(mebibytes)) == expected
            log = server.log_path.read_text(errors="replace")[before:]
            assert f"gradient_checkpointing is {chosen}: tuning on 4 frames of 64 x 64 pixels takes about" in log
    finally:
        server.run(with_memory(0))


@pytest.mark.parametrize("wanted", ["on", "selective", True, False])
def test_checkpointing_values_of_older_workflows(server: Server, wanted: str | bool) -> None:
    off = pixels(server, edit_prompt(tune=dict(gradient_checkpointing="off")))
    assert pixels(server, edit_prompt(tune=dict(gradient_checkpointing=wanted))) == off


@pytest.mark.parametrize("wanted", ["sometimes", 2, None])
def test_unknown_checkpointing_gives_an_error(server: Server, wanted: object) -> None:
    prompt = edit_prompt()
    prompt[prompts.TUNE]["inputs"]["gradient_checkpointing"] = wanted
    where, message = server.error_of(prompt)
    assert where == prompts.TUNE and "gradient_checkpointing" in message
