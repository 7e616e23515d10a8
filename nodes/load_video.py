"""TAVLoadVideo: a clip of a video file, or of a VIDEO, at the size the model works at."""

from pathlib import Path
from typing import Any

from comfy_api.latest import io

from .adapters.data import audio_from_core, read_any_video, read_file
from .adapters.folders import bundled_clip, input_file, input_videos, stamp
from .sockets import CATEGORY, advanced

BUNDLED = "bundled: pink star"
FITS = ["crop", "pad", "stretch"]
UNCONNECTED = object()


class LoadVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
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
                io.Int.Input(
                    "num_frames",
                    default=16,
                    min=1,
                    max=256,
                    tooltip="How many frames to take. Memory and time grow with it; 8 to 32 are usual.",
                ),
                io.Int.Input(
                    "width",
                    default=512,
                    min=64,
                    max=2048,
                    step=8,
                    tooltip="Width in pixels: 512 for Stable Diffusion 1.5, 768 for 2.1, 128 for the bundled model.",
                ),
                io.Int.Input(
                    "height",
                    default=512,
                    min=64,
                    max=2048,
                    step=8,
                    tooltip="Height in pixels, usually the same as the width.",
                ),
                io.Int.Input(
                    "stride",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Take every n-th frame: 2 to 4 shows more motion in the same number of frames. "
                    "Seconds used: num_frames x stride / fps of the video.",
                ),
                advanced(io.Float, "start", 0.0, "Where the clip begins, in seconds.", min=0.0, max=86400.0, step=0.1),
                advanced(
                    io.Combo,
                    "fit",
                    FITS[0],
                    "How to fit a video of another shape: crop the middle, pad with black, or stretch it.",
                    options=FITS,
                ),
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
        """A linked name is None here: its value is not known yet. A VIDEO replaces the file."""
        if file is None or video is not UNCONNECTED:
            return True
        try:
            _path(file)
        except (TypeError, ValueError) as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str | None, video: Any = UNCONNECTED, **others: Any) -> str:
        """The file's time and size. A linked name is constant here: only a change upstream runs the node again."""
        if file is None or video is not UNCONNECTED:
            return "linked"
        try:
            return stamp(_path(file))
        except (TypeError, ValueError):
            return "missing"

    @classmethod
    def execute(
        cls,
        file: str,
        num_frames: int,
        width: int,
        height: int,
        stride: int,
        start: float = 0.0,
        fit: str = FITS[0],
        video: Any = None,
    ) -> io.NodeOutput:
        request = dict(num_frames=num_frames, width=width, height=height, stride=stride, start=start, fit=fit)
        clip = read_file(_path(file), **request) if video is None else read_any_video(video, **request)
        return io.NodeOutput(clip.frames, float(clip.fps), len(clip.frames), audio_from_core(clip.audio))


def _path(file: str) -> Path:
    return bundled_clip() if file == BUNDLED else input_file(file)
