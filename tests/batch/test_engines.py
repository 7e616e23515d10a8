"""60 edits of the stage world over 12 clips: the same frames from all engines, and from ComfyUI servers nearly so.

The edits are real, of four frames and few steps. TAV_BATCH_CLIPS takes fewer clips.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.batch_engines import (
    CLIPS,
    EDITS,
    Run,
    least_psnr,
    make_table,
    num_tunings,
    records_of,
    run,
    same_frames,
)
from tests.batch.cluster import guide_cluster
from tests.batch.tables import ROOT
from tests.comfyui.client import Server
from tests.comfyui.conftest import comfyui  # noqa: F401

pytest.importorskip("pyarrow")
pytestmark = pytest.mark.soak
NUM_CLIPS = int(os.environ.get("TAV_BATCH_CLIPS", CLIPS))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_table(tmp_path_factory.mktemp("engines"), NUM_CLIPS)


@pytest.fixture(scope="module")
def one_worker(table: Path) -> Run:
    return run(table, table.parent / "one", "--workers", "1")


@pytest.fixture(scope="module")
def servers(
    comfyui: tuple[Path, str],  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[Server]]:
    """Two servers, each with a store of its own."""
    folder = tmp_path_factory.mktemp("servers")
    running = [Server(*comfyui, folder / str(number)) for number in range(2)]
    yield running
    for server in running:
        server.stop()


def check_same(one: Run, other: Run) -> None:
    assert (one.status, other.status) == (0, 0)
    assert len(one.records) == NUM_CLIPS * EDITS == same_frames(one, other)
    assert num_tunings(one) == num_tunings(other) == NUM_CLIPS, "each clip is tuned once"


def test_two_workers_make_the_frames_of_one(table: Path, one_worker: Run) -> None:
    two = run(table, table.parent / "two", "--workers", "2")
    check_same(one_worker, two)
    assert len({record["process"] for record in two.records.values()}) == 2


def test_a_ray_cluster_of_two_nodes_makes_the_frames_of_one_worker(
    table: Path, one_worker: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[batch]'.")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with guide_cluster() as cluster:
        made = run(table, table.parent / "ray", "--ray", cluster.address)
    check_same(one_worker, made)
    assert len({record["process"] for record in made.records.values()}) == 2


def test_two_comfyui_servers_make_nearly_the_frames_of_one_worker(
    table: Path, one_worker: Run, servers: list[Server]
) -> None:
    made = run(table, table.parent / "comfyui", "--comfyui", *(server.url("") for server in servers))
    assert made.status == 0 and {*made.records} == {*one_worker.records}
    assert len({record["server"] for record in made.records.values()}) == 2
    worst = least_psnr(table.parent / "one", table.parent / "comfyui", [*made.records])
    print(f"{worst:.1f} dB at least")  # noqa: T201
    assert worst >= 60


def test_a_killed_comfyui_server_leaves_its_rows_to_the_other(
    table: Path, one_worker: Run, servers: list[Server]
) -> None:
    output, killed = table.parent / "killed", threading.Event()

    def kill_in_mid_run() -> None:
        until = time.monotonic() + 3600
        while len(records_of(output)) < EDITS and time.monotonic() < until:
            time.sleep(0.2)
        servers[0].process.send_signal(signal.SIGKILL)
        killed.set()

    threading.Thread(target=kill_in_mid_run, daemon=True).start()
    made = run(table, output, "--comfyui", *(server.url("") for server in servers))
    assert killed.is_set() and made.status == 0 and {*made.records} == {*one_worker.records}
    by_server = [sum(record["server"] == server.url("") for record in made.records.values()) for server in servers]
    print(f"rows by server, the first one killed: {by_server}")  # noqa: T201
    assert by_server[1] > by_server[0]
    assert least_psnr(table.parent / "one", output, [*made.records]) >= 60
