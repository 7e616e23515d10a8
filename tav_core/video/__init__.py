"""Real video.

read.py     reads a clip; choose.py says which frames, decode.py opens files, picture.py makes RGB of them
memory.py   takes frames that are there already
encode.py   writes; output.py checks what is to be written, streams.py and png.py bring it into a file or a folder
media.py    what both sides share
"""

from .encode import check_output, write_video
from .media import Audio, VideoError
from .memory import choose_frames
from .read import VideoClip, read_video

__all__ = ["Audio", "VideoClip", "VideoError", "check_output", "choose_frames", "read_video", "write_video"]
