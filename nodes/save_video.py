"""TAVSaveVideo: a new video file, or a folder of PNG files, in ComfyUI's output folder, with sound and workflow."""

from fractions import Fraction
from pathlib import Path
from typing import Any

from comfy_api.v0_0_2 import InputImpl, Types, io, ui

from .. import tav_core
from .adapters.data import audio_to_core
from .adapters.folders import check_prefix, next_output, video_metadata
from .adapters.progress import raise_if_interrupted
from .adapters.work import shows_work
from .sockets import CATEGORY, advanced, widget

PLAYED = ("mp4", "webm", "gif")  # by browsers
FOR_EDITORS = ("png", "mkv", "mov")
FRAME = "frame_%05d.png"


class SaveVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        fps = "Frames per second. Connect fps of Load Clip to keep the speed."
        prefix = "Folder and beginning of the name, within ComfyUI's output folder; a number is added."
        formats = (
            "mp4 (H.264) plays everywhere; gif has no sound and holds no workflow. For a video editor: png (a folder "
            "of frames), mkv (FFV1, lossless) or mov (ProRes 422 HQ)."
        )
        crf = "Quality of mp4 and webm: lower is better and larger; 17 looks like the original."
        return io.Schema(
            node_id="TAVSaveVideo",
            display_name="Save Clip (Tune-A-Video)",
            category=CATEGORY,
            description="Writes frames as a video that plays in browsers and shows it here. The workflow is inside: "
            "drop the file on ComfyUI to open it.",
            search_aliases=["save video", "export video", "images to video", "video combine", "mp4", "gif", "webm"],
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="The frames, from VAE Decode or Compare Videos."),
                widget(io.Float, "fps", 8.0, fps, min=0.1, max=240.0, step=0.01),
                widget(io.String, "filename_prefix", "tune-a-video/edit", prefix),
                advanced(io.Combo, "format", "mp4", formats, options=[*PLAYED, *FOR_EDITORS]),
                advanced(io.Int, "crf", 17, crf, min=0, max=51),
                io.Audio.Input("audio", optional=True, tooltip="Sound, cut where the frames end."),
            ],
            outputs=[io.Video.Output("video", display_name="VIDEO", tooltip="The file as a VIDEO.")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None, format: str | None = None) -> bool | str:
        """See `check_prefix`; before the frames are computed."""
        return check_prefix(filename_prefix, f".{format or PLAYED[0]}")

    @classmethod
    @shows_work
    def execute(
        cls,
        images: Any,
        fps: float,
        filename_prefix: str,
        format: str = "mp4",  # the host passes inputs by their names
        crf: int = 17,
        audio: dict | None = None,
    ) -> io.NodeOutput:
        folder = format == "png"
        path, subfolder = next_output(filename_prefix, "" if folder else f".{format}", images.shape[2], images.shape[1])
        tav_core.write_video(
            path / FRAME if folder else path,
            images[..., :3],
            fps,
            audio=audio_to_core(audio),
            crf=crf,
            metadata=video_metadata(cls.hidden.prompt, cls.hidden.extra_pnginfo),
            before_frame=raise_if_interrupted,
        )
        if format in PLAYED:
            shown: Any = ui.PreviewVideo([ui.SavedResult(path.name, subfolder, io.FolderType.output)])
        elif folder:
            names = [file.name for file in sorted(path.iterdir())]
            shown = ui.SavedImages(
                [ui.SavedResult(name, str(Path(subfolder, path.name)), io.FolderType.output) for name in names]
            )
        else:  # browsers play neither; programs that ask for the outputs find the file
            saved = ui.SavedResult(path.name, subfolder, io.FolderType.output)
            shown = {**ui.PreviewImage(images[:1, ..., :3]).as_dict(), "files": [saved]}
        return io.NodeOutput(_as_video(path, images, fps, audio), ui=shown)


def _as_video(path: Path, images: Any, fps: float, audio: dict | None) -> Any:
    """The file as the host's VIDEO; of a folder, its frames."""
    if path.is_file():
        return InputImpl.VideoFromFile(str(path))
    rate = Fraction(fps).limit_denominator(1000)
    return InputImpl.VideoFromComponents(Types.VideoComponents(images[..., :3], rate, audio))
