"""The drawn world: jointed figures in six places, with exact truth for every pixel.

    scene, words = random_scene(seed)          # hidden variables, and the words that a caption says
    drawing = draw(scene, words)               # frames and their truth
    drawing = draw(scene, words | {"coat": "blue"})   # the true edit: same motion, camera, size and position

The bundled model is trained on single pictures of this world, the demo edits its clips, and the judge compares an edit
with the true one. Everything is seeded: a seed means the same scene on any machine.
"""

from .canvas import SIZE
from .drawing import Drawing, draw, draw_frames
from .scene import Scene, Words, random_scene
from .skeleton import JOINTS
from .words import NUM_WORDINGS, VOCABULARY, caption, caption_words, check_words

__all__ = [
    "JOINTS",
    "NUM_WORDINGS",
    "SIZE",
    "VOCABULARY",
    "Drawing",
    "Scene",
    "Words",
    "caption",
    "caption_words",
    "check_words",
    "draw",
    "draw_frames",
    "random_scene",
]
