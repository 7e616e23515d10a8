"""Rows on ComfyUI servers that have the node pack, by their HTTP API. One row at a time runs on a server.

A row becomes a graph of the pack's nodes; the server keeps what the next row of the clip takes, and its store keeps the
tuning. Answers are read with limits of size and time.
"""

from __future__ import annotations

import http.client
import json
import mimetypes
import secrets
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .graph import SAVED, GraphError, graph_of
from .handout import Handout
from .record import DONE, Record, Task, failed, record_name, record_of, succeeded, unwritten
from .storage import CHUNK, Folder, open_binary

ANSWER_SECONDS = 60.0  # in which a server must send something
TRANSFER_SECONDS = 3600.0  # of a whole answer
MAX_ANSWER = 50 * 10**6  # bytes of JSON
MAX_VIDEO = 2 * 10**9  # bytes of an edit
MAX_UPLOAD = 2 * 10**9  # bytes of a clip
POLL = 0.5  # seconds
ROW_SECONDS = 24 * 3600.0


class ServerLost(Exception):
    """A server does not answer."""


class Interrupted(Exception):
    """The batch was stopped while a server ran a row."""


@dataclass
class ComfyServer:
    """One server.

    Arguments:
        url: such as http://127.0.0.1:8188.
        output: the folder or URL of videos and records.
    """

    url: str
    output: Folder
    stopping: threading.Event = field(default_factory=threading.Event)
    _uploaded: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.url = self.url.rstrip("/")
        if urllib.parse.urlsplit(self.url).scheme not in ("http", "https"):
            raise ValueError(f"--comfyui takes http:// or https:// addresses, not {self.url}.")

    def run(self, task: Task) -> Record:
        """Run a row. Returns its record, which is written too.

        Raises:
            Interrupted: the batch was stopped.
            ServerLost: the server does not answer.
        """
        began = time.monotonic()
        try:
            clip = self._upload(task.job["video"])
            graph = graph_of(task, clip)
            history = self._wait(self._submit(graph))
            shown = history["outputs"][SAVED]  # a picture alone, where browsers do not play the file
            (file, *_) = shown.get("files") or shown["images"]
            query = urllib.parse.urlencode({key: str(file[key]) for key in ("filename", "subfolder", "type")})
            if Path(file["filename"]).suffix != Path(task.file).suffix:
                raise ValueError(f"{self.url} gives no {Path(task.file).suffix}: update its node pack, or take .mp4.")
            self.output.write(task.file, self._request(f"/view?{query}", limit=MAX_VIDEO))
            seconds = {"all": round(time.monotonic() - began, 3)}
            record = record_of(task, DONE, file=task.file, seconds=seconds, server=self.url)
        except (GraphError, OSError, ValueError) as error:
            record = failed(task, str(error), server=self.url)
        except (KeyError, IndexError, TypeError, AttributeError) as error:  # in an answer of another form
            text = f"{self.url} answered unlike ComfyUI ({type(error).__name__}: {error}): check the address."
            record = failed(task, text, server=self.url)
        self.output.write(record_name(task.name), (json.dumps(record, indent=1) + "\n").encode())
        return record

    def _upload(self, video: str) -> str:
        """Send a clip once. Returns its name in the server's input folder."""
        if video not in self._uploaded:
            with open_binary(video) as file:
                data = file.read(MAX_UPLOAD + 1)
            if len(data) > MAX_UPLOAD:
                raise ValueError(f"{video} is larger than {MAX_UPLOAD / 1e9:g} GB: cut it, or run it with --workers.")
            name = f"tav-{secrets.token_hex(8)}{Path(video).suffix}"
            boundary = secrets.token_hex(16)
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            body = f"{head}Content-Type: {kind}\r\n\r\n".encode() + data + f"\r\n--{boundary}--\r\n".encode()
            answer = self._request("/upload/image", body, f"multipart/form-data; boundary={boundary}")
            self._uploaded[video] = json.loads(answer)["name"]
        return self._uploaded[video]

    def _submit(self, graph: dict[str, Any]) -> str:
        body = json.dumps({"prompt": graph, "client_id": "tav-batch"}).encode()
        return str(json.loads(self._request("/prompt", body, "application/json"))["prompt_id"])

    def _wait(self, prompt_id: str) -> dict[str, Any]:
        """The history of a prompt that succeeded.

        Raises:
            ValueError: it failed, with the server's message.
        """
        until = time.monotonic() + ROW_SECONDS
        while time.monotonic() < until:
            if self.stopping.is_set():
                self._request("/interrupt", json.dumps({"prompt_id": prompt_id}).encode(), "application/json")
                raise Interrupted
            found = json.loads(self._request(f"/history/{prompt_id}")).get(prompt_id)
            if found is not None:
                return _succeeded(found)
            queued = json.loads(self._request("/queue"))
            if not any(prompt_id in entry for entries in queued.values() for entry in entries):
                found = json.loads(self._request(f"/history/{prompt_id}")).get(prompt_id)
                if found is None:
                    raise ServerLost(f"{self.url} was restarted")
                return _succeeded(found)
            time.sleep(POLL)
        raise ValueError(f"{self.url} took longer than {ROW_SECONDS / 3600:g} h: give fewer frames or steps.")

    def _request(self, path: str, data: bytes | None = None, kind: str = "", limit: int = MAX_ANSWER) -> bytes:
        request = urllib.request.Request(f"{self.url}{path}", data, {"Content-Type": kind} if kind else {})
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
                content = _read(answer, limit + 1)
        except urllib.error.HTTPError as error:
            raise ValueError(_refusal(self.url, error)) from error
        except (http.client.HTTPException, urllib.error.URLError, ConnectionError, TimeoutError, OSError) as error:
            raise ServerLost(f"{self.url} does not answer ({error})") from error
        if len(content) > limit:
            raise ValueError(f"{self.url} sent more than {limit / 1e6:g} MB: give fewer or smaller frames.")
        return content


class ComfyPool:
    """The engine on ComfyUI servers. A row whose server is lost runs on another one.

    Arguments:
        urls: of the servers.
        output: the folder or URL of videos and records.
        tasks: makes the task of a row.
    """

    def __init__(self, urls: list[str], output: str, tasks: Callable[[int], Task]):
        self._tasks = tasks
        self._stopping = threading.Event()
        self._servers = [ComfyServer(url, Folder(output), self._stopping) for url in urls]

    def run(self, handout: Handout) -> Iterator[Record]:
        """The records of rows as they end.

        Raises:
            OSError: no server answers any more.
        """
        handout.shared = False
        free = {*range(len(self._servers))}
        busy: dict[Future[Record], tuple[int, Task]] = {}
        lost = ""
        with ThreadPoolExecutor(len(self._servers)) as threads:
            while True:
                for number in sorted(free):
                    if not self._stopping.is_set() and (row := handout.next(number)) is not None:
                        free.discard(number)
                        task = self._tasks(row)
                        busy[threads.submit(self._servers[number].run, task)] = (number, task)
                if not busy:
                    break
                for future in wait(busy, timeout=1.0, return_when=FIRST_COMPLETED).done:
                    number, task = busy.pop(future)
                    error = future.exception()
                    if error is None:
                        free.add(number)
                        handout.done(task.number, tuned=succeeded(future.result()))
                        yield future.result()
                    elif isinstance(error, Interrupted):
                        handout.again(task.number)
                    elif isinstance(error, ServerLost):
                        lost = str(error)
                        handout.again(task.number)
                        handout.lost(number)
                    elif isinstance(error, OSError):
                        free.add(number)
                        handout.done(task.number, tuned=False)
                        yield unwritten(task, str(error))
                    else:
                        raise error
        if lost and not free and not self._stopping.is_set():
            raise OSError(f"No server is left: {lost}. Start it; the same command goes on.")

    def stop(self) -> None:
        """Hand out nothing more, and interrupt what runs; a tuning's state stays in the server's store."""
        self._stopping.set()

    def close(self) -> None:
        """Nothing to end: the servers are others'."""
        self._stopping.set()


def _succeeded(history: dict[str, Any]) -> dict[str, Any]:
    status = history.get("status", {})
    if status.get("status_str") == "success":
        return history
    messages = [data for name, data in status.get("messages", []) if name == "execution_error"]
    text = messages[0].get("exception_message", "") if messages else "it was interrupted"
    raise ValueError(f"The server could not run the row: {' '.join(str(text).split()).rstrip('.')}.")


def _read(answer: Any, limit: int) -> bytes:
    """At most so many bytes of an answer.

    Raises:
        TimeoutError: if it comes too slowly.
    """
    content, until = bytearray(), time.monotonic() + TRANSFER_SECONDS
    while len(content) < limit and (some := answer.read1(min(CHUNK, limit - len(content)))):
        content += some
        if time.monotonic() > until:
            raise TimeoutError(f"an answer took longer than {TRANSFER_SECONDS:g} s")
    return bytes(content)


def _refusal(url: str, error: urllib.error.HTTPError) -> str:
    text = _read(error, MAX_ANSWER).decode(errors="replace")
    try:
        nodes = json.loads(text)["node_errors"]
        found = [f"{item['message']} ({item['details']})" for node in nodes.values() for item in node["errors"]]
        text = found[0]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        text = " ".join(text.split())[:200]
    return f"{url} refused the row: {text.rstrip('.')}. Check that its node pack is of this version."
