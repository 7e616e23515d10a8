"""Real video files: `read.py` chooses frames, `decode.py` opens files, `picture.py` makes RGB, `encode.py` writes."""

from .encode import check_output, write_video
from .media import Audio, VideoError
from .read import VideoClip, read_video

__all__ = ["Audio", "VideoClip", "VideoError", "check_output", "read_video", "write_video"]
