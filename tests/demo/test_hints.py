"""Depth and pose as hints of the drawn world."""

import numpy as np

from tav_core.demo.world import JOINTS, draw, random_scene
from tav_core.demo.world.hints import depth_hints, pose_hints


def test_depth_is_bright_where_it_is_near() -> None:
    drawing = draw(*random_scene(3), 2)
    hints = depth_hints(drawing)
    assert hints.shape == (2, 128, 128, 3) and hints.min() >= 0 and hints.max() <= 1
    order, grey = np.argsort(drawing.depth[0], axis=None), hints[0, ..., 0].ravel()
    assert (np.diff(grey[order]) <= 1e-6).all()
    figure = hints[0, ..., 0][drawing.figure_mask[0]]
    assert 0.5 < np.median(figure) < 1 and np.mean(np.abs(figure - np.median(figure)) < 1e-6) > 0.9


def test_bones_lie_between_their_joints() -> None:
    drawing = draw(*random_scene(3), 2)
    hints = pose_hints(drawing.joints)
    for frame, joints in zip(hints, drawing.joints, strict=True):
        neck, hip = joints[JOINTS.index("neck")], joints[JOINTS.index("hip")]
        x, y = np.floor((neck + hip) / 2).astype(int)
        assert frame[y, x].min() > 0.5, "the body is white"
        lit = np.argwhere(frame.any(axis=-1))
        distance = np.linalg.norm(lit[:, None, ::-1] + 0.5 - joints[None], axis=-1).min(axis=1)
        assert 0 < len(lit) < 2000 and distance.max() < 40
