"""Ray: a cluster of two nodes on loopback, one of which dies."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tav_batch.driver import Batch
from tav_batch.log import Log
from tests.batch.calls import Failing
from tests.batch.cluster import guide_cluster
from tests.batch.tables import ROOT, edits, rows_of, table_of

pytest.importorskip("ray", reason="Ray is not installed: pip install '.[batch]'.")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="The processes are found in /proc.")]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The cluster of the guide, with its nodes on loopback."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with guide_cluster() as made:
        yield made


def run(folder: Path, rows: list[dict[str, Any]], call: Failing, address: str) -> Any:
    from tav_batch.ray_pool import RayPool

    batch = Batch(rows_of(folder, rows), call.folder, Log("json"))
    return batch.run(RayPool(address, call, call.folder, batch.groups, batch.task))


def test_two_nodes_run_all_rows_and_survive_the_death_of_one(tmp_path: Path, cluster: Any) -> None:
    output, log = tmp_path / "out", tmp_path / "log"
    rows = edits(8, clips=4)
    rows[1]["prompt"], rows[2]["prompt"] = "fail", "die once"
    call = Failing(str(output), seconds=0.2, log=str(log))
    outcome = run(tmp_path, rows, call, cluster.address)
    assert (outcome.done, outcome.failed) == (8, 1)
    processes = {int(line.split()[1]) for line in log.read_text().splitlines()}
    assert len(processes) >= 3, "two actors, and one more process after a death"
    assert [row["status"] for row in table_of(output)].count("done") == 7

    for path in output.glob("*.result.json"):
        path.unlink()
    log.unlink()
    rows[1]["prompt"] = rows[2]["prompt"] = "b"
    killed: list[int] = []

    class Killing(Log):
        def row(self, *facts: Any) -> None:
            super().row(*facts)
            if not killed:
                killed.append(1)
                cluster.remove_node(cluster.nodes[0], allow_graceful=False)

    from tav_batch.ray_pool import RayPool

    batch = Batch(rows_of(tmp_path, rows), str(output), Killing("json"))
    outcome = batch.run(RayPool(cluster.address, call, str(output), batch.groups, batch.task))
    assert killed and (outcome.done, outcome.failed) == (8, 0)
    records = [json.loads(path.read_text()) for path in output.glob("*.result.json")]
    assert len(records) == 8 and all((output / record["file"]).read_bytes() == b"video" for record in records)
    starts = Counter(int(line.split()[0]) for line in log.read_text().splitlines())
    assert set(starts) == {*range(8)} and sum(starts.values()) <= 8 + 2


def test_no_cluster_is_one_sentence() -> None:
    from tav_batch.ray_pool import _connected

    with pytest.raises(ValueError, match="There is no Ray cluster at 127.0.0.1:1 .*ray start"):
        _connected("127.0.0.1:1", None, 1)
