"""Read and write video files.

read.py      reads a clip: choose.py chooses its frames, decode.py opens files (tracks.py, pictures.py, interlace.py),
             picture.py converts frames to RGB, colour.py HDR and wide gamut to BT.709, sound.py reads the sound
memory.py    takes a clip from frames that are in memory
hints.py     draws edges and lines of a clip, for ControlNets
encode.py    writes a clip: output.py checks the arguments, streams.py and png.py write files and folders
media.py     what reading and writing share; channels.py mixes many channels to stereo
"""

from .encode import check_output, write_video
from .media import Audio, VideoError
from .memory import choose_frames
from .read import VideoClip, read_video

__all__ = ["Audio", "VideoClip", "VideoError", "check_output", "choose_frames", "read_video", "write_video"]
