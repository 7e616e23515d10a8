"""The options of `python -m tav_core batch`, and the command."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .driver import Batch, Engine

LIBRARIES = "pip install 'tune-a-video[batch]'"
AT_ONCE = 8  # tunings' worth of bytes that a worker's clip takes in the store
KEEP_CORES = 1  # threads of a worker on a CPU, where nothing is said


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All options."""
    table = "CSV, JSONL or Parquet, one edit a row, or the folder of LOVEU-TGVE or V2VBench"
    parser.add_argument("--table", required=True, help=table)
    parser.add_argument("--output", required=True, help="folder or URL (s3://...) of videos, records and results")
    parser.add_argument("--store", help="folder or URL of tunings and inversions (default: OUTPUT/store)")
    size = "the most that the store may take (default: 20, or what the workers need at once)"
    parser.add_argument("--store-gb", type=float, metavar="GB", help=size)
    given = "for all rows, where the table does not say otherwise: a field of the edits, such as num_frames=8"
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help=given)
    parser.add_argument("--suffix", default=".mp4", help="of the videos, as of edit --output (default: .mp4)")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, its disk space and time, and end")
    parser.add_argument("--retry-failed", action="store_true", help="run rows again that failed before")
    other = "the output of another batch, which report.html shows beside this one"
    parser.add_argument("--compare", metavar="DIR", help=other)
    allowed = "a folder or URL that all paths of the table must lie in; may be given more than once"
    parser.add_argument("--allow-dir", action="append", default=[], metavar="DIR", help=allowed)
    parser.add_argument("--log-format", choices=("text", "json"), default="text", help="of progress (default: text)")
    _add_engines(parser)
    figures = parser.add_argument_group("figures")
    figures.add_argument("--no-figures", action="store_true", help="measure nothing")
    for name in ("clip", "pickscore", "dino"):
        figures.add_argument(f"--{name}", help="as for evaluate")


def _add_engines(parser: argparse.ArgumentParser) -> None:
    engines = parser.add_argument_group("where it runs (default: on this machine)")
    ray = "a Ray cluster, HOST:PORT or auto; local starts one on this machine"
    engines.add_argument("--ray", metavar="ADDRESS", help=ray)
    servers = "addresses of ComfyUI servers that have the node pack, such as http://127.0.0.1:8188"
    engines.add_argument("--comfyui", nargs="+", metavar="URL", help=servers)
    workers = "processes on this machine (default: one a GPU, or one a core)"
    engines.add_argument("--workers", type=int, metavar="N", help=workers)
    card = "workers on one GPU: a number, or auto, as many as its memory holds (default: 1)"
    engines.add_argument("--per-gpu", default="1", metavar="N", help=card)
    engines.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    threads = "of a worker on the CPU (default: OMP_NUM_THREADS, or its share of the cores)"
    engines.add_argument("--threads", type=int, help=threads)


def run(args: argparse.Namespace) -> int:
    """Run the batch. Returns the exit status: 0 only if all rows succeeded.

    Raises:
        OSError, ValueError: with the remedy.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ValueError(f"A batch writes its results with pyarrow: {LIBRARIES}.") from None
    from .driver import Batch
    from .jobs import Rows, parse_settings
    from .log import Log
    from .plan import describe
    from .table import read_table

    _check_options(args)
    found, folder = read_table(args.table)
    rows = Rows(found, folder, parse_settings(args.set), args.suffix, tuple(args.allow_dir))
    log = Log(args.log_format)
    batch = Batch(rows, args.output, log, retry_failed=args.retry_failed, compare=args.compare)
    calls = worker_calls(args, batch)
    if args.dry_run:
        workers = len(args.comfyui or []) or (args.workers or 1 if args.ray else len(calls))
        sys.stdout.write(describe(rows, batch.checked, batch.groups, workers, _device(args)) + "\n")
        return 0
    return _run(args, batch, calls)


def _run(args: argparse.Namespace, batch: Batch, calls: list[Any]) -> int:
    outcome = batch.run(_engine(args, batch, calls))
    done, failed = outcome.done - outcome.failed, outcome.failed
    facts = {"total": outcome.total, "done": done, "failed": failed, "pending": outcome.total - outcome.done}
    if outcome.signal:
        text = f"Stopped with {outcome.total - outcome.done} rows left: the same command goes on."
    else:
        text = f"{done} of {outcome.total} edits are done, {failed} failed."
    batch.log.say("stopped" if outcome.signal else "end", text, **facts)
    sys.stdout.write(f"{batch.folder.path('results.parquet')}\n")
    return outcome.status


def _engine(args: argparse.Namespace, batch: Batch, calls: list[Any]) -> Engine:
    if not batch.groups:
        args.ray = args.comfyui = None  # nothing to run
    if args.comfyui:
        from .comfy import ComfyPool

        return ComfyPool(args.comfyui, args.output, batch.task)
    if args.ray:
        from .ray_pool import RayPool

        on_gpu = _device(args).startswith("cuda")
        options: dict[str, Any] = dict(actors=args.workers, cores=args.threads or KEEP_CORES, on_gpu=on_gpu)
        return RayPool(args.ray, calls[0], args.output, batch.groups, batch.task, **options)
    from .pool import Pool

    return Pool(calls if batch.groups else [], batch.task)


def _check_options(args: argparse.Namespace) -> None:
    from tav_core.checks import check_integer

    from .storage import is_remote

    if args.ray and args.comfyui:
        raise ValueError("A batch runs on --ray or on --comfyui: give one of them.")
    for name in ("workers", "threads"):
        if getattr(args, name) is not None:
            check_integer(f"--{name}", getattr(args, name), 1, 4096)
    if not args.suffix.startswith("."):
        raise ValueError(f"--suffix must begin with a dot, such as .mp4, not {args.suffix!r}.")
    if args.per_gpu != "auto":
        check_integer("--per-gpu", int(args.per_gpu) if args.per_gpu.isdigit() else args.per_gpu, 1, 64)
    if args.store is None:
        args.store = f"{args.output.rstrip('/')}/store"
    if not is_remote(args.output):
        args.output = os.path.abspath(args.output)  # noqa: PTH100
    if not is_remote(args.store):
        args.store = os.path.abspath(args.store)  # noqa: PTH100


def _device(args: argparse.Namespace) -> str:
    import torch

    return str(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))


def worker_calls(args: argparse.Namespace, batch: Batch) -> list[Any]:
    """What each worker runs: one for each process."""
    from .worker import EditWorker

    device, cores = _device(args), os.cpu_count() or 1
    if args.ray:  # one call, of each actor
        devices, args.threads = ["cuda" if device.startswith("cuda") else device], args.threads or KEEP_CORES
    elif device.startswith("cuda"):
        devices = cards(args, batch)
    else:
        devices = [device] * (args.workers or max(1, cores // (args.threads or KEEP_CORES)))
    devices = devices[: max(1, sum(len(group.rows) for group in batch.groups))]
    said = os.environ.get("OMP_NUM_THREADS", "")
    threads = args.threads or (int(said) if said.isdigit() else max(1, cores // len(devices)))
    encoders = tuple((name, getattr(args, name)) for name in ("clip", "pickscore", "dino") if getattr(args, name))
    options: dict[str, Any] = dict(threads=threads, encoders=encoders, figures=not args.no_figures)
    options["store_bytes"] = store_bytes(args, batch, len(devices))
    return [EditWorker(args.output, args.store, device, **options) for device in devices]


def store_bytes(args: argparse.Namespace, batch: Batch, workers: int) -> int:
    """The size limit of the store, in which unfinished tunings, three times as large as finished ones, must stay."""
    from tav_core.store.store import MAX_BYTES

    from .plan import trained_bytes

    if args.store_gb is not None:
        return round(args.store_gb * 1e9)
    largest = max((trained_bytes(model) for model in {group.model for group in batch.groups}), default=0)
    return max(MAX_BYTES, AT_ONCE * (args.workers or workers) * largest)


def cards(args: argparse.Namespace, batch: Batch) -> list[str]:
    """The GPU of each worker."""
    import torch

    count = torch.cuda.device_count()
    each = _fitting(batch) if args.per_gpu == "auto" else int(args.per_gpu)
    named = [_device(args)] if ":" in _device(args) else [f"cuda:{number}" for number in range(count)]
    devices = [device for _ in range(each) for device in named]
    if args.workers is not None:
        devices = [named[number % len(named)] for number in range(args.workers)]
    return devices


def _fitting(batch: Batch) -> int:
    """How many edits fit on the fullest card."""
    import torch

    from .plan import edits_on_a_card

    free = min(torch.cuda.mem_get_info(number)[0] for number in range(torch.cuda.device_count()))
    fits = []
    for model in {group.model for group in batch.groups}:
        rows = [row for group in batch.groups if group.model == model for row in group.rows]
        jobs = [batch.rows.job(row, Path("x.mp4"), "cuda") for row in rows]
        fits.append(edits_on_a_card(jobs, model, free))
    return min(fits, default=1)
