"""The reconstruction that the benchmark measures."""

from argparse import Namespace

import pytest

from benchmarks.fidelity import inversion


def test_refined_inversion_reconstructs_from_every_share() -> None:
    options = Namespace(
        num_frames=1, model="demo", store=None, tuning_steps=1, num_inference_steps=5, refinements=[0, 10]
    )
    bound, *records = inversion.measure_clip(1003, options)
    assert bound["variant"] == "round trip" and bound["psnr"] > 34
    assert len(records) == 2 * 2 * len(inversion.SHARES)
    for record in records:
        refined = "refinements 10" in record["variant"]
        assert (record["predictions"] > 1) == refined
        assert (record["below"] < 0.5) == refined, record
        assert record["psnr"] == pytest.approx(bound["psnr"] - record["below"])
