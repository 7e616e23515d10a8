"""TAVLoadVideo: a clip of a video file, or of a VIDEO, at the size the model works at."""

from functools import partial
from pathlib import Path
from typing import Any

from comfy_api.latest import io, ui

from .adapters.data import audio_from_core, read_any_video, read_file, with_warnings
from .adapters.folders import bundled_clip, check_file, file_stamp, input_file, input_videos
from .sockets import CATEGORY, advanced, widget

BUNDLED = "bundled: cartwheel"
FITS = ["crop", "pad", "stretch"]
SIDE = dict(min=64, max=2048, step=8)  # pixels
UNCONNECTED = object()


class LoadVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        num_frames = "How many frames to take. Memory and time grow with it; 8 to 32 are usual."
        width = "Width in pixels: 512 for Stable Diffusion 1.5, 768 for 2.1, 128 for the bundled model."
        stride = (
            "Take every n-th frame: 2 to 4 shows more motion in the same number of frames. Seconds used: num_frames x "
            "stride / fps of the video."
        )
        fit = "How to fit a video of another shape: crop the middle, pad with black, or stretch it."
        return io.Schema(
            node_id="TAVLoadVideo",
            display_name="Load Clip (Tune-A-Video)",
            category=CATEGORY,
            description="Reads a short clip from a video and brings its frames to one size. Decoding stops after the "
            "last frame that is needed, so the length of the video does not matter.",
            search_aliases=["load video", "video to images", "read clip", "import video", "tune a video"],
            inputs=[
                io.Combo.Input(
                    "file",
                    # The host draws an upload button only for a required input, so the list must never be empty.
                    options=[*input_videos(), BUNDLED],
                    upload=io.UploadType.video,
                    tooltip="A video or GIF in ComfyUI's input folder, or the clip that comes with the pack. Ignored "
                    "if a VIDEO is connected.",
                ),
                widget(io.Int, "num_frames", 16, num_frames, min=1, max=256),
                widget(io.Int, "width", 512, width, **SIDE),
                widget(io.Int, "height", 512, "Height in pixels, usually the same as the width.", **SIDE),
                widget(io.Int, "stride", 1, stride, min=1, max=64),
                advanced(io.Float, "start", 0.0, "Where the clip begins, in seconds.", min=0.0, max=86400.0, step=0.1),
                advanced(io.Combo, "fit", FITS[0], fit, options=FITS),
                io.Video.Input("video", optional=True, tooltip="A VIDEO from another node, in place of the file."),
            ],
            outputs=[
                io.Image.Output("images", display_name="IMAGE", tooltip="The frames, for VAE Encode."),
                io.Float.Output("fps", display_name="fps", tooltip="Frames per second of these frames."),
                io.Int.Output("count", display_name="num_frames", tooltip="How many frames there are."),
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
    def execute(cls, file: str, video: Any = None, **request: Any) -> io.NodeOutput:
        read = partial(read_file, _path(file)) if video is None else partial(read_any_video, video)
        clip, warned = with_warnings(partial(read, **request))
        outputs = clip.frames, float(clip.fps), len(clip.frames), audio_from_core(clip.audio)
        return io.NodeOutput(*outputs, ui=ui.PreviewText(warned) if warned else None)


def _path(file: str) -> Path:
    return bundled_clip() if file == BUNDLED else input_file(file)
