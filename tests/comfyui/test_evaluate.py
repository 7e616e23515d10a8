"""Evaluate Edit in a real ComfyUI."""

import json
import shutil

from tests.comfyui.client import Server
from tests.comfyui.prompts import node
from tests.encoders import make_clip, make_dino

CLIP = node("TAVLoadVideo", file="bundled: cartwheel", num_frames=4, width=64, height=64, stride=2)


def evaluation(**inputs):
    return {
        "clip": CLIP,
        "edit": node("ImageInvert", image=["clip", 0]),
        "mask": node("SolidMask", value=0.0, width=64, height=64),
        "evaluate": node("TAVEvaluate", source=["clip", 0], edit=["edit", 0], prompt="a dark dog", **inputs),
        "plot": node("PreviewImage", images=["evaluate", 1]),
        "figures": node("PreviewAny", source=["evaluate", 2]),
    }


def figures_of(server: Server, **inputs) -> dict:
    outcome = server.run(evaluation(**inputs))
    assert "SSIM" in outcome.history["outputs"]["evaluate"]["text"][0]
    assert outcome.files("plot")
    return json.loads(outcome.history["outputs"]["figures"]["text"][0])


def test_measures_without_weights(server: Server) -> None:
    figures = figures_of(server, mask=["mask", 0])
    assert figures["psnr"] < 10
    assert abs(figures["background_psnr"] - figures["psnr"]) < 0.01  # the mask is empty
    assert figures["flow_cosine"] > 0.5
    assert "clip_frame_loveu" not in figures


def test_encoders_from_the_models_folder(server: Server) -> None:
    root = server.base / "models" / "tune_a_video_encoders"
    make_clip(root / "tiny clip")
    make_dino(root / "tiny dino")
    options = server.get("/object_info/TAVEvaluate")["TAVEvaluate"]["input"]["optional"]
    assert options["clip"][1]["options"] == ["none", "tiny clip"]
    assert options["dino"][1]["options"] == ["none", "tiny dino"]
    chosen = {"clip": "tiny clip", "pickscore": "tiny clip", "dino": "tiny dino", "source_prompt": "a red person"}
    figures = figures_of(server, **chosen)
    shutil.rmtree(root)  # other tests look at what the server offers
    assert {"clip_frame_loveu", "pickscore_v2vbench", "dino_frame_v2vbench", "frame_accuracy"} <= set(figures)
