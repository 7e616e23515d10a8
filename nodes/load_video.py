"""TAVLoadVideo: a clip of a video file, or of a VIDEO, at the size the model works at."""

from functools import partial
from pathlib import Path
from typing import Any

from comfy_api.v0_0_2 import io

from .adapters.cut import MAX_FRAMES, described, read_cut, show_cut
from .adapters.data import audio_from_core, with_warnings
from .adapters.folders import (
    BUNDLED,
    BUNDLED_FILE,
    BUNDLED_FILES,
    bundled_clip,
    check_file,
    file_stamp,
    input_file,
    input_videos,
)
from .adapters.labels import CUT, labelled
from .adapters.progress import show_text
from .adapters.work import shows_work
from .sockets import CATEGORY, advanced, widget

FITS = ["crop", "pad", "stretch"]
SIDE = dict(min=0, max=2048, step=8)  # pixels
UNCONNECTED = object()


class LoadVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVLoadVideo",
            display_name="Load Clip (Tune-A-Video)",
            category=CATEGORY,
            description="Reads a short clip from a video and brings its frames to one size. After a run it shows "
            "exactly the frames that were taken. Decoding stops after the last one, however long the video is.",
            search_aliases=["load video", "video to images", "read clip", "import video", "tune a video"],
            inputs=[
                io.Combo.Input(
                    "file",
                    # The host draws an upload button only for a required input, so the list must never be empty.
                    options=input_videos() or [BUNDLED],
                    upload=io.UploadType.video,
                    default=BUNDLED_FILE if BUNDLED_FILE in input_videos() else None,
                    tooltip="A video or GIF in ComfyUI's input folder; tune-a-video-cartwheel.mp4 comes with the pack. "
                    "Ignored if a VIDEO is connected.",
                ),
                *_cut_inputs(),
                io.Video.Input("video", optional=True, tooltip="A VIDEO from another node, in place of the file."),
            ],
            outputs=[
                io.Image.Output("images", display_name="IMAGE", tooltip="The frames, for VAE Encode."),
                io.Float.Output("fps", display_name="fps", tooltip="Frames per second of these frames."),
                io.Int.Output("count", display_name="frame_count", tooltip="How many frames there are."),
                io.Audio.Output("audio", display_name="AUDIO", tooltip="The sound of the clip, if it has any."),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None, video: Any = UNCONNECTED) -> bool | str:
        """See `check_file`. A VIDEO replaces the file."""
        return check_file(file if video is UNCONNECTED else None, _path)

    @classmethod
    def fingerprint_inputs(cls, file: str | None, video: Any = UNCONNECTED, **others: Any) -> str:
        """See `file_stamp`. A VIDEO replaces the file."""
        return file_stamp(file if video is UNCONNECTED else None, _path)

    @classmethod
    @shows_work
    def execute(cls, file: str, video: Any = None, **request: Any) -> io.NodeOutput:
        with labelled(CUT):
            source = _path(file) if video is None else video
            clip, warned = with_warnings(partial(read_cut, source, **request))
        show_text("\n".join(filter(None, [described(clip), warned])))
        audio = audio_from_core(clip.audio)
        shown = show_cut(clip).as_dict() | ({"text": (warned,)} if warned else {})
        return io.NodeOutput(clip.frames, float(clip.fps), len(clip.frames), audio, ui=shown)


def _path(file: str) -> Path:
    if file == BUNDLED:
        return bundled_clip()
    try:
        return input_file(file)
    except ValueError:
        if file not in BUNDLED_FILES:
            raise
        return bundled_clip(file)  # where its copy was removed


def _cut_inputs() -> list[io.Input]:
    """What to take of the video, under the labels of Load Video of VideoHelperSuite."""
    cap = "Frames to take at most; 0 for all, up to 256. Memory and time grow with it; 8 to 32 are usual."
    width = "512 for Stable Diffusion 1.5, 768 for 2.1, 128 for the bundled model; 0 follows the video."
    nth = (
        "Take every n-th frame: 2 to 4 shows more motion in the same number of frames. Seconds used: frame_load_cap x "
        "select_every_nth / fps of the video."
    )
    rate = "Bring the video to this many frames a second first, by leaving out or repeating frames; 0 for its own."
    skip = "Leave out so many frames at the beginning, of the video at force_rate."
    fit = "How to fit a video of another shape: crop the middle, pad with black, or stretch it."
    start = "Where the clip begins, in seconds; skip_first_frames counts from there."
    return [
        widget(io.Int, "num_frames", 16, cap, display_name="frame_load_cap", min=0, max=MAX_FRAMES),
        widget(io.Int, "width", 512, width, display_name="custom_width", **SIDE),
        widget(io.Int, "height", 512, "As custom_width.", display_name="custom_height", **SIDE),
        widget(io.Int, "stride", 1, nth, display_name="select_every_nth", min=1, max=64),
        widget(io.Int, "skip_first_frames", 0, skip, optional=True, min=0, max=100000),
        advanced(io.Float, "force_rate", 0.0, rate, min=0.0, max=240.0, step=0.1),
        advanced(io.Float, "start", 0.0, start, min=0.0, max=86400.0, step=0.1),
        advanced(io.Combo, "fit", FITS[0], fit, options=FITS),
    ]
