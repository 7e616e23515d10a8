"""The reader of words and joints, and its training, on a few pictures."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bundled_model import data, train_reader
from bundled_model.reader import Reader, joint_error, load_reader, read
from tav_core.demo import world

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name in ("train", "test"):
        data.draw_set(folder, name, 12)
    return data.load_set(folder, "train"), data.load_set(folder, "test")


def make_loss(training, pictures, held_out, config):
    reader = training.modules["reader"]
    batch = train_reader.make_batch(pictures, held_out, training.rng, config)
    return train_reader.reader_loss(reader(batch.images), batch, reader.grid, config)


def test_it_learns_a_few_pictures(pictures, tmp_path):
    torch.manual_seed(0)
    train, test = pictures
    config = train_reader.ReaderConfig(batch=8)
    held_out = train_reader.draw_held_out(tmp_path / "held_out", 4)
    training = train_reader.make_training(tmp_path, config)
    training.schedule = train_reader.Schedule(60.0, 0.4, warmup_steps=4)
    losses = [training.update(make_loss(training, train, held_out, config)) for _ in range(25)]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    measures = train_reader.measure(training.averages["reader"], test, 12, degraded=True)
    assert np.isfinite(list(measures.values())).all()


def test_held_out_pictures_are_drawn_once(tmp_path, monkeypatch):
    first = train_reader.draw_held_out(tmp_path, 3)
    monkeypatch.setattr(train_reader, "_draw", lambda seeds: pytest.fail("drawn again"))
    again = train_reader.draw_held_out(tmp_path, 3)
    np.testing.assert_array_equal(first.pictures, again.pictures)
    scene, words = world.random_scene(train_reader.HELD_OUT_SEED + 2, held_out=True)
    assert scene.motion is not None
    assert [world.VOCABULARY[k][n] for k, n in zip(words, first.words[2], strict=True)] == list(words.values())


def test_frames_are_read_from_a_file(tmp_path, pictures):
    reader = Reader()
    assert 4e5 < sum(p.numel() for p in reader.parameters()) < 7e5
    save_file(reader.state_dict(), tmp_path / "reader.safetensors")
    words, joints = read(load_reader(tmp_path / "reader.safetensors"), pictures[1].pictures / 255)
    assert joints.shape == (12, len(world.JOINTS), 2)
    for found in words:
        world.check_words(found)


def test_heat_in_one_cell_is_a_joint_in_its_middle():
    """A heat map that is all in the cell of column 5 and row 9 puts the joint at its centre."""
    reader = Reader()
    heat = torch.zeros(32, 32)
    heat[9, 5] = 1
    torch.testing.assert_close(heat.flatten() @ reader.grid, torch.tensor([22.0, 38.0]))


def test_joints_outside_of_the_picture_do_not_count():
    true = np.array([[[10.0, 10.0], [140.0, 10.0]]])
    assert joint_error(np.array([[[13.0, 14.0], [0.0, 0.0]]]), true) == pytest.approx([5.0])


def test_degraded_pictures_stay_near_and_in_range(pictures):
    images = torch.from_numpy(pictures[0].pictures[:8].copy()).permute(0, 3, 1, 2) / 127.5 - 1
    degraded = train_reader.degrade(images, np.random.default_rng(0))
    assert degraded.min() >= -1 and degraded.max() <= 1
    assert 0.005 < (degraded - images).abs().mean() < 0.2
    torch.testing.assert_close(
        train_reader.blurred(torch.full((2, 3, 16, 16), 0.3), 1.0), torch.full((2, 3, 16, 16), 0.3)
    )
