"""The mask under which the benchmark locks an edit."""

from benchmarks.fidelity.clips import draw_clip, random_clip
from benchmarks.fidelity.preservation import Truth
from tav_core.demo import shapes as world


def test_mask_covers_the_object_before_and_after_and_all_of_a_changed_background() -> None:
    scenes = random_clip(1003, 3)
    truth = Truth(scenes, draw_clip(scenes))
    mask = truth.mask({"shape": "ring"}).numpy()
    for frame, scene in zip(mask, scenes, strict=True):
        for shown in (scene, scene.edited(shape="ring")):
            assert frame[world.draw(shown)[1] > 0].all()
    assert 0 < mask.mean() < 0.5
    assert truth.mask({"shape": "ring", "background": "grey"}).all()
