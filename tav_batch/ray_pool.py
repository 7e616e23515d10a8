"""Rows on a Ray cluster: Ray Data maps the clips of a plan over a pool of actors, one for each GPU or share of cores.

An item is a clip with all of its edits, so that each clip is tuned once. An actor runs rows in a process of its own
(`pool.Pool`), so that a clip which kills its decoder does not kill the actor. Where a node dies, Ray runs the item on
another; rows that had ended are found by their records, and the tuning goes on from the state in the store.
"""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from .handout import Group, Handout
from .pool import POLL, Pool
from .record import Call, Record, Task, record_name
from .storage import Folder

LOCAL = "local"
CONNECT_SECONDS = 10.0


class ClipActor:
    """Runs the edits of one clip after the other.

    Arguments:
        call: runs a row, in a process that the actor starts.
        output: the folder or URL of the records.
    """

    def __init__(self, call: Call, output: str):
        self._output = Folder(output)
        self._tasks: dict[int, Task] = {}
        self._pool = Pool([call], self._tasks.__getitem__)

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[str]]]:
        """The records of the rows of a clip, as JSON, each in a batch of its own."""
        for item in batch["item"]:
            tasks = [Task(**values) for values in json.loads(item)]
            left = []
            found = self._output.read_json(record_name(task.name) for task in tasks)
            for task, (_, record) in zip(tasks, found, strict=True):
                if record is not None and record.get("run") == task.run:  # before the node of another actor died
                    yield {"record": [json.dumps(record)]}
                else:
                    left.append(task)
            self._tasks.clear()
            self._tasks.update({task.number: task for task in left})
            for record in self._pool.run(Handout([Group("", "", tuple(self._tasks))])):
                yield {"record": [json.dumps(record)]}


class RayPool:
    """The engine on Ray.

    Arguments:
        address: of a cluster, or LOCAL for one on this machine that ends with the batch.
        call: runs a row.
        output: the folder or URL of the records, which all nodes reach.
        groups: of the plan.
        tasks: makes the task of a row.
        actors: how many; None for as many as the cluster's GPUs, or cores without them, allow.
        cores: of an actor.
        on_gpu: whether an actor takes a GPU.
    """

    def __init__(
        self,
        address: str,
        call: Call,
        output: str,
        groups: Sequence[Group],
        tasks: Callable[[int], Task],
        *,
        actors: int | None = None,
        cores: int = 1,
        on_gpu: bool = False,
    ):
        self._call, self._output, self._groups, self._tasks = call, output, groups, tasks
        self._resources: dict[str, Any] = dict(num_gpus=1, num_cpus=cores) if on_gpu else dict(num_cpus=cores)
        self._stopping = threading.Event()
        self._queue: queue.Queue[Record | BaseException | None] = queue.Queue()
        self._ray = _connected(address, actors, cores)
        self._actors = min(actors or self._room(), max(1, len(groups)))

    def run(self, handout: Handout) -> Iterator[Record]:
        """The records of rows as they end. Ray hands out the clips, in the order of the plan."""
        del handout
        threading.Thread(target=self._consume, daemon=True).start()
        while not self._stopping.is_set():
            try:
                found = self._queue.get(timeout=POLL)
            except queue.Empty:
                continue
            if found is None:
                return
            if isinstance(found, BaseException):
                raise OSError(f"Ray ended the batch ({_first_line(found)}): the same command goes on.") from found
            yield found

    def stop(self) -> None:
        """End the run; actors die with `close`, upon which their processes save the states of tunings."""
        self._stopping.set()

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()

    def _room(self) -> int:
        resources = self._ray.cluster_resources()
        kind = "GPU" if "num_gpus" in self._resources else "CPU"
        room = int(resources.get(kind, 0) // self._resources[f"num_{kind.lower()}s"])
        if room < 1:
            raise ValueError(f"The Ray cluster has no free {kind}: add a node, or give another --device.")
        return room

    def _consume(self) -> None:
        try:
            for row in self._dataset().iter_rows():
                self._queue.put(json.loads(row["record"]))
            self._queue.put(None)
        except BaseException as error:  # raised in `run`, which is in the main thread
            self._queue.put(error)

    def _dataset(self) -> Any:
        context = self._ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.target_max_block_size = 1  # bytes: each record is passed on as soon as it is there
        items = [{"item": json.dumps([asdict(self._tasks(row)) for row in group.rows])} for group in self._groups]
        data = self._ray.data.from_items(items, override_num_blocks=max(1, len(items)))
        actors = self._ray.data.ActorPoolStrategy(size=self._actors)
        arguments: dict[str, Any] = dict(fn_constructor_args=(self._call, self._output), compute=actors)
        return data.map_batches(ClipActor, batch_size=1, **arguments, **self._resources)


def _connected(address: str, actors: int | None, cores: int) -> Any:
    """Ray, connected to a cluster.

    Raises:
        ValueError: if Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ValueError(f"Ray is not installed ({error}): pip install 'tune-a-video[batch]'.") from error
    options: dict[str, Any] = dict(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    if address == LOCAL:
        ray.init(num_cpus=None if actors is None else actors * cores, **options)
        return ray
    try:
        _check_reachable(address)
        ray.init(address=address, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"There is no Ray cluster at {address} ({_first_line(error)}): start one with ray start."
        ) from error
    return ray


def _check_reachable(address: str) -> None:
    """Raise OSError unless something listens at HOST:PORT; Ray would end this process after a minute."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
