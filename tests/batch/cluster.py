"""The Ray cluster of the guide, with its nodes on loopback.

A machine with much other work needs long to start Ray: the waiting times of its processes are raised, and a node that
does not register in time is started again, as `ray up` does when it is called again.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import yaml

from tests.batch.tables import ROOT

CLUSTER = ROOT / "docs" / "guide" / "ray-cluster.yaml"
TRIES = 4
PATIENT = {  # of Ray's own processes; a killed one is noticed by its closed connection
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_health_check_timeout_ms": "60000",
    "RAY_health_check_initial_delay_ms": "60000",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_gcs_server_port_wait_time_s": "300",
}


def flags(commands: list[str]) -> dict[str, int]:
    """The numbers that `ray start` is given, as `Cluster` takes them; not the port, which another Ray may have."""
    (start,) = [command for command in commands if command.startswith("ray start ")]
    found = re.findall(r"--([a-z-]+)=(\d+)(?: |$)", start)
    return {name.replace("-", "_"): int(value) for name, value in found if name != "port"}


@contextmanager
def guide_cluster() -> Iterator[Any]:
    """A running `Cluster`; `.nodes` are those that work, without the head."""
    from ray.cluster_utils import Cluster

    plan = yaml.safe_load(CLUSTER.read_text())
    head, node = flags(plan["head_start_ray_commands"]), flags(plan["worker_start_ray_commands"])
    assert node["num_cpus"] == 1 and head["num_cpus"] == 0
    with patch.dict(os.environ, PATIENT):
        made = _started(lambda: Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **head}))
        try:  # a node that is made has registered
            made.nodes = [_started(lambda: made.add_node(wait=False, **node)) for _ in plan["provider"]["worker_ips"]]
            yield made
        finally:
            made.shutdown()


def _started(start: Any) -> Any:
    """What a start makes, tried again where it takes too long."""
    for attempt in range(1, TRIES + 1):
        began = time.monotonic()
        try:
            return start()
        except Exception as error:
            print(f"Ray did not start in {time.monotonic() - began:.0f} s: {error}")  # noqa: T201
            if attempt == TRIES:
                raise
    raise AssertionError
