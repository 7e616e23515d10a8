"""`python -m tav_core export` on the bundled model."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tav_core import inflate, load_model, save_tuned, trainable_parameters
from tav_core.cli.main import main
from tests.conftest import draw


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Tuned weights of the bundled model, inflated with norms over single frames."""
    video_unet = inflate(load_model().unet, group_norm="frame")
    with torch.no_grad():
        for seed, parameter in enumerate(trainable_parameters(video_unet).values()):
            parameter.add_(0.01 * draw(*parameter.shape, seed=seed))
    return save_tuned(video_unet, tmp_path / "tuned.safetensors", metadata={"prompt": "a man"})


def test_lora_reports_its_ranks_and_its_error(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "lora.safetensors"
    assert main(["export", "--weights", str(weights), "--output", str(output), "--error", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert str(output) in printed and "Ranks " in printed and "% lost." in printed
    assert all(name.startswith("lora_unet_") for name in load_file(output))


def test_temporal_part_is_that_of_the_file(weights: Path, tmp_path: Path) -> None:
    output, tuned = tmp_path / "temporal.safetensors", load_file(weights)
    assert main(["export", "--weights", str(weights), "--output", str(output), "--kind", "temporal"]) == 0
    written = load_file(output)
    assert written.keys() == {name for name in tuned if ".attn_temp." in name}
    assert all(torch.equal(tensor, tuned[name]) for name, tensor in written.items())


def test_other_files_end_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", "--weights", str(tmp_path / "none.safetensors"), "--output", str(tmp_path / "a.safetensors")]
    assert main(arguments) == 1
    assert "none.safetensors" in capsys.readouterr().err
