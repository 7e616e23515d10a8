"""Published definitions, on tiny encoders with made-up weights, against the definitions written out anew."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer, CLIPVisionModel, Dinov2Model

from tav_core.metrics import EncoderError, clip_measures, dino_measures, load_clip, load_dino, pick_measures
from tav_core.metrics.encoders import FramePreparation, as_pictures
from tav_core.metrics.learned import adjacent_consistency, all_pairs_consistency, frame_accuracy, text_alignment
from tests.encoders import SIZE, make_clip, make_dino

PROMPT, SOURCE_PROMPT = "a red star on a navy background", "a blue circle on a grey background"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoders")
    return {
        "clip": make_clip(root / "clip"),
        "pick": make_clip(root / "pick", seed=1),
        "dino": make_dino(root / "dino"),
    }


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).random((5, 40, 56, 3)).astype(np.float32)


def prepared(frames, size=None):
    """Frames as transformers' PIL processor gives them, after LOVEU-TGVE's resizing where a size is given."""
    module = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    processor = module.CLIPImageProcessorPil(size={"shortest_edge": SIZE + 4}, crop_size=SIZE)
    pictures = [Image.fromarray((frame * 255).round().astype(np.uint8)) for frame in frames]
    pictures = [picture.resize(size, Image.Resampling.BICUBIC) if size else picture for picture in pictures]
    return processor(pictures, return_tensors="pt").pixel_values


def forward(folder, pixels, prompt):
    """The whole model at once, as the published scripts call it."""
    tokens = CLIPTokenizer.from_pretrained(folder)([prompt], return_tensors="pt")
    with torch.no_grad():
        return CLIPModel.from_pretrained(folder).eval()(pixel_values=pixels, **tokens)


def cosine(a, b):
    return float(a @ b / a.norm() / b.norm())


def test_frames_are_prepared_as_the_library_does(folders, frames):
    for clip in (frames, frames.swapaxes(1, 2)):
        ours = FramePreparation.from_folder(folders["clip"])(as_pictures(clip))
        torch.testing.assert_close(ours, torch.as_tensor(prepared(clip)), atol=1e-5, rtol=0)


def test_older_preprocessor_files_with_plain_numbers(folders, tmp_path):
    config = json.loads((folders["clip"] / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config | {"size": SIZE + 4, "crop_size": SIZE}))
    assert FramePreparation.from_folder(tmp_path) == FramePreparation.from_folder(folders["clip"])


def test_clip_as_loveu_tgve_computes_it(folders, frames):
    got = clip_measures(load_clip(folders["clip"]), frames, PROMPT)
    output = forward(folders["clip"], prepared(frames, (480, 480)), PROMPT)
    pairs = [cosine(output.image_embeds[i], output.image_embeds[j]) for i in range(5) for j in range(5) if i != j]
    assert np.mean(pairs) < 0.999  # or else the test would prove little
    assert got["clip_frame_loveu"] == pytest.approx(np.mean(pairs), abs=1e-5)
    assert got["clip_text_loveu"] == pytest.approx(float(output.logits_per_image.mean()), abs=1e-4)


def test_clip_as_v2vbench_and_the_paper_compute_it(folders, frames):
    got = clip_measures(load_clip(folders["clip"]), frames, PROMPT, SOURCE_PROMPT)
    output = forward(folders["clip"], prepared(frames), PROMPT)
    images = output.image_embeds
    with torch.no_grad():
        pooled = CLIPVisionModel.from_pretrained(folders["clip"]).eval()(pixel_values=prepared(frames)).pooler_output
    neighbours = [max(0, cosine(pooled[i], pooled[i + 1])) for i in range(4)]
    assert got["clip_frame_v2vbench"] == pytest.approx(np.mean(neighbours), abs=1e-5)
    assert got["clip_text_v2vbench"] == pytest.approx(float(output.logits_per_image.mean()), abs=1e-4)
    pairs = [cosine(images[i], images[j]) for i in range(5) for j in range(i)]
    assert got["clip_frame_paper"] == pytest.approx(100 * np.mean(pairs), abs=1e-3)
    texts = [cosine(image, output.text_embeds[0]) for image in images]
    assert got["clip_text_paper"] == pytest.approx(100 * np.mean(texts), abs=1e-3)
    other = forward(folders["clip"], prepared(frames), SOURCE_PROMPT).text_embeds[0]
    assert got["frame_accuracy"] == np.mean([a > cosine(image, other) for a, image in zip(texts, images, strict=True)])
    assert "frame_accuracy" not in clip_measures(load_clip(folders["clip"]), frames, PROMPT)


def test_pickscore(folders, frames):
    got = pick_measures(load_clip(folders["pick"]), frames, PROMPT)
    for name, size in {"pickscore_loveu": (480, 480), "pickscore_v2vbench": None}.items():
        expected = forward(folders["pick"], prepared(frames, size), PROMPT).logits_per_text.mean()
        assert got[name] == pytest.approx(float(expected), abs=1e-4)


def test_dino(folders, frames):
    with torch.no_grad():
        pooled = Dinov2Model.from_pretrained(folders["dino"]).eval()(pixel_values=prepared(frames)).pooler_output
    expected = np.mean([max(0, cosine(pooled[i], pooled[i + 1])) for i in range(4)])
    got = dino_measures(load_dino(folders["dino"]), frames)["dino_frame_v2vbench"]
    assert got == pytest.approx(expected, abs=1e-5)


def test_formulas_by_hand():
    vectors = torch.tensor([[1.0, 0], [0, 1], [-1, 0]])
    assert all_pairs_consistency(vectors) == pytest.approx((0 + 0 - 1) / 3)
    assert adjacent_consistency(vectors[:1].expand(3, 2)) == 1
    assert adjacent_consistency(torch.stack([vectors[0], vectors[2]])) == 0  # not -1
    assert text_alignment(vectors, vectors[1], 50.0) == pytest.approx(50 / 3)
    assert frame_accuracy(vectors, vectors[0], vectors[2]) == pytest.approx(1 / 3)
    for measure in (all_pairs_consistency, adjacent_consistency):
        with pytest.raises(ValueError, match="two frames"):
            measure(vectors[:1])


def test_a_long_prompt_is_cut(folders, frames):
    encoder = load_clip(folders["clip"])
    torch.testing.assert_close(encoder.encode_text("red star " * 90), encoder.encode_text("red star " * 200))


def test_a_list_of_shards_that_names_a_pickle_raises(folders, tmp_path):
    copy = shutil.copytree(folders["dino"], tmp_path / "dino")
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "pytorch_model.bin"}}))
    with pytest.raises(EncoderError, match="'pytorch_model.bin'"):
        load_dino(copy)


def test_unusable_folders_are_named(folders, tmp_path):
    with pytest.raises(EncoderError, match="no folder"):
        load_clip(tmp_path / "missing")
    with pytest.raises(EncoderError, match="type 'dinov2', not 'clip'"):
        load_clip(folders["dino"])
    lacking = {
        "config.json": "config.json",
        "preprocessor_config.json": "preprocessor_config.json",
        "model.safetensors": "safetensors",
    }
    for index, (file, words) in enumerate(lacking.items()):
        copy = tmp_path / str(index)
        shutil.copytree(folders["dino"], copy)
        (copy / file).unlink()
        with pytest.raises(EncoderError, match=words):
            load_dino(copy)
    shutil.copytree(folders["clip"], tmp_path / "clip", ignore=shutil.ignore_patterns("tokenizer*", "vocab*"))
    with pytest.raises(EncoderError, match="tokenizer"):
        load_clip(tmp_path / "clip")
