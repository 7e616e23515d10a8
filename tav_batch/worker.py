"""One row run, in a process that keeps model and clip for the next: the edit, its figures, its record.

Importing this module loads nothing heavy; the first row does.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from .record import DONE, Record, Task, failed, record_name, record_of
from .storage import Folder, download, is_remote

if TYPE_CHECKING:
    from tav_core.job import EditJob, EditReport

EXPECTED = (ValueError, OSError, FloatingPointError, MemoryError)  # whose messages have a remedy


@dataclass
class EditWorker:
    """Runs rows. Made in the process that runs them; what is heavy loads at the first row.

    Arguments:
        output: the folder or URL of videos and records.
        store: the folder or URL of tunings and inversions.
        device: to compute on.
        threads: of torch on the CPU; None for its own choice.
        encoders: folders of learned models to measure with: "clip", "pickscore", "dino".
        figures: whether edits are measured.
        store_bytes: the size limit of the store; None for its own.
    """

    output: str
    store: str
    device: str = "cpu"
    threads: int | None = None
    encoders: tuple[tuple[str, str], ...] = ()
    figures: bool = True
    store_bytes: int | None = None

    def __call__(self, task: Task) -> Record:
        """Run a row. Returns its record, which is written too; a failure is a record."""
        began = time.monotonic()
        try:
            record = self._run(task)
        except Exception as error:  # a failed row is a row, whatever a library raised
            self._kept.discard()
            record = failed(task, _sentence(error), seconds={"all": round(time.monotonic() - began, 3)})
            self._write_job(task)
        self._folder.write(record_name(task.name), (json.dumps(record, indent=1) + "\n").encode())
        return record

    @cached_property
    def _folder(self) -> Folder:
        return Folder(self.output)

    @cached_property
    def _kept(self) -> Any:
        import torch
        from transformers.utils.logging import disable_progress_bar

        from tav_core.job.runner import KeptForNext

        from .remote_store import open_store

        disable_progress_bar()  # of loading weights
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        return KeptForNext(open_store(self.store, self.store_bytes))

    @cached_property
    def _learned(self) -> Any:
        from tav_core.evaluation import Encoders

        return Encoders.load(**{name: Path(folder) for name, folder in self.encoders}, device=self.device)

    def _job(self, task: Task) -> EditJob:
        from tav_core.job import EditJob
        from tav_core.job.files import parsed_fields

        return EditJob(**parsed_fields(task.job, Path()), output=Path(self._folder.path(task.file)), device=self.device)

    def _write_job(self, task: Task) -> None:
        """Write the job beside the video, with the place of both as they are reached from everywhere."""
        from tav_core.job.files import FORMAT, SUFFIX, VERSION

        values = task.job | {"output": self._folder.path(task.file), "device": self.device}
        text = json.dumps({"format": FORMAT, "version": VERSION, "job": values}, indent=2) + "\n"
        self._folder.write(f"{task.name}{SUFFIX}", text.encode())

    def _run(self, task: Task) -> Record:
        job = self._job(task)
        remote = [name for name in ("video", "mask") if is_remote(getattr(job, name) or "")]
        if not remote and not self._folder.remote:
            return self._edited(task, job)
        with TemporaryDirectory() as scratch:
            local = replace(job, **self._fetched({name: str(getattr(job, name)) for name in remote}))
            if self._folder.remote:
                local = replace(local, output=Path(scratch, Path(task.file).name))
            record = self._edited(task, local)
            if self._folder.remote:
                self._folder.put(task.file, local.output)
        self._write_job(task)
        return record

    def _fetched(self, urls: dict[str, str]) -> dict[str, Any]:
        """Remote files of a row as files of this process. Those that the last row had too are fetched once."""
        folder = Path(self._downloads.name)
        names = {url: f"{hashlib.sha256(url.encode()).hexdigest()[:16]}{Path(url).suffix}" for url in urls.values()}
        for old in folder.iterdir():
            if old.name not in names.values():
                old.unlink()
        for url, name in names.items():
            if not (folder / name).exists():
                download(url, folder / "part")
                (folder / "part").rename(folder / name)
        return {field: folder / names[url] for field, url in urls.items()}

    @cached_property
    def _downloads(self) -> TemporaryDirectory[str]:
        return TemporaryDirectory(prefix="tav-batch-")

    def _edited(self, task: Task, job: EditJob) -> Record:
        """The record of a row that was run to its end."""
        import torch

        from tav_core.job import run_edit

        if torch.device(self.device).type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        report = run_edit(job, kept=self._kept)
        began = time.monotonic()
        metrics = self._figures(report) if self.figures else {}
        seconds = report.seconds | {"evaluate": time.monotonic() - began}
        seconds["all"] += seconds["evaluate"]
        edit = report.edit.detach().float().cpu().contiguous()
        written = report.as_json()
        facts = {
            "file": task.file,
            "frames_sha256": hashlib.sha256(edit.numpy().data).hexdigest(),
            "metrics": metrics,
            "strength": report.strength,
            "seconds": {name: round(spent, 4) for name, spent in seconds.items()},
            "peak_memory_bytes": report.peak_memory,
            "seed": report.settings.tuning.seed,
            "versions": written["versions"],
            "machine": f"{platform.node()} {self.device.partition(':')[0]}",
            "size": list(edit.shape),
            "steps": {"tune": report.settings.tuning.steps, "sample": report.settings.sampling.num_inference_steps},
        }
        return record_of(task, DONE, **facts)

    def _figures(self, report: EditReport) -> dict[str, float | None]:
        from tav_core.evaluation import evaluate

        job = report.job
        if len(report.edit) < 2:
            return {}
        return evaluate(report.source, report.edit, job.prompt, job.source_prompt, self._learned).figures


def _sentence(error: Exception) -> str:
    """What failed, and the remedy."""
    text = " ".join(str(error).split())
    if isinstance(error, EXPECTED) and text:
        return text
    return f"{type(error).__name__}: {text}. Run it alone with edit --job, which shows where."
