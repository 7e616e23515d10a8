"""A ComfyUI server of the tests' own, and a client that talks to it on loopback. Standard library only."""

import base64
import json
import os
import secrets
import shutil
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = "tune-a-video"
FAULTS = Path(__file__).with_name("faults.py")
SECOND_DEVICE = {
    "host_device/__init__.py": Path(__file__).with_name("host_device.py"),
    "host_device/device.py": ROOT / "tests" / "second_device.py",
}
START_SECONDS = float(os.environ.get("COMFYUI_START_SECONDS", "900"))
RUN_SECONDS = float(os.environ.get("COMFYUI_RUN_SECONDS", "900"))


def archived() -> list[str]:
    """The files of the registry's archive: those that git tracks, without those that .comfyignore names."""

    def listed(*options: str) -> set[str]:
        command = ["git", "-C", str(ROOT), "ls-files", "-z", *options]
        return {*subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")} - {""}

    return sorted(listed() - listed("--cached", "--ignored", "--exclude-from=.comfyignore"))


class Refused(Exception):
    """A prompt that the server refused. `.answer` is its reply."""

    def __init__(self, answer: dict[str, Any]):
        super().__init__(json.dumps(answer)[:2000])
        self.answer = answer


@dataclass
class Outcome:
    """The history of a prompt."""

    prompt_id: str
    history: dict[str, Any]

    def message(self, kind: str) -> dict[str, Any] | None:
        return next((data for name, data in self.history["status"]["messages"] if name == kind), None)

    @property
    def succeeded(self) -> bool:
        return self.history["status"]["status_str"] == "success"

    @property
    def cached(self) -> set[str]:
        return set((self.message("execution_cached") or {"nodes": []})["nodes"])

    def files(self, node: str) -> list[dict[str, str]]:
        return self.history["outputs"][node]["images"]


class Server:
    """A running ComfyUI with the published files of this pack, in a base directory of its own.

    Arguments:
        comfyui, python: its folder, and its Python.
        base: the base directory, not there yet.
        nodes: files to put among the custom nodes, by their names there.
    """

    def __init__(self, comfyui: Path, python: str, base: Path, nodes: Mapping[str, Path] = MappingProxyType({})):
        self.base, self.log_path = base, base / "server.log"
        pack = base / "custom_nodes" / FOLDER
        for name in archived():
            (pack / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, pack / name)
        for name, file in {FAULTS.name: FAULTS, **nodes}.items():
            (pack.parent / name).parent.mkdir(exist_ok=True)
            shutil.copy(file, pack.parent / name)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(self.port)]
        command += ["--base-directory", str(base), "--disable-api-nodes", "--disable-auto-launch"]
        self.log = self.log_path.open("wb")
        self.process = subprocess.Popen(command, cwd=comfyui, stdout=self.log, stderr=subprocess.STDOUT)
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                self.get("/object_info/TAVSample")
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.5)
        text = self.log_path.read_text(errors="replace")[-4000:]
        self.stop()
        raise AssertionError(f"ComfyUI did not start:\n{text}")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.log.close()

    def _open(self, request: urllib.request.Request) -> bytes:
        with urllib.request.urlopen(request, timeout=600) as answer:
            return answer.read()

    def url(self, path: str, **query: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}" + ("?" + urllib.parse.urlencode(query) if query else "")

    def get(self, path: str) -> Any:
        return json.loads(self._open(urllib.request.Request(self.url(path))))

    def error_of(self, prompt: dict[str, Any]) -> tuple[str, str]:
        """Node and message of the error of a prompt, before or while it runs."""
        try:
            prompt_id = self.submit(prompt)
        except Refused as refused:
            name, errors = next(iter(refused.answer["node_errors"].items()))
            return name, json.dumps(errors["errors"])
        failed = self.wait(prompt_id).message("execution_error")
        assert failed is not None, "no error"
        return failed["node_id"], failed["exception_message"]

    def text(self, path: str) -> str:
        return self._open(urllib.request.Request(self.url(path))).decode()

    def post(self, path: str, body: Any) -> bytes:
        data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        return self._open(urllib.request.Request(self.url(path), data, headers))

    def submit(self, prompt: dict[str, Any], client_id: str = "", extra: dict[str, Any] | None = None) -> str:
        body = {"prompt": prompt, "client_id": client_id, "extra_data": {"extra_pnginfo": extra or {}}}
        try:
            return json.loads(self.post("/prompt", body))["prompt_id"]
        except urllib.error.HTTPError as error:
            raise Refused(json.loads(error.read())) from error

    def wait(self, prompt_id: str) -> Outcome:
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                return Outcome(prompt_id, history[prompt_id])
            assert self.process.poll() is None, self.log_path.read_text(errors="replace")[-4000:]
            time.sleep(0.1)
        raise AssertionError(f"{prompt_id} did not end within {RUN_SECONDS} s")

    def run(self, prompt: dict[str, Any], extra: dict[str, Any] | None = None) -> Outcome:
        """Submit and wait, to success."""
        outcome = self.wait(self.submit(prompt, extra=extra))
        assert outcome.succeeded, outcome.history["status"]
        return outcome

    def cancel(self, prompt_id: str) -> None:
        """Remove a prompt from the queue, or stop it. One that is about to begin ignores the first request."""
        deadline = time.monotonic() + RUN_SECONDS
        self.post("/queue", {"delete": [prompt_id]})
        while any(prompt_id in entry for entries in self.get("/queue").values() for entry in entries):
            assert time.monotonic() < deadline, f"{prompt_id} did not stop within {RUN_SECONDS} s"
            self.post("/interrupt", {"prompt_id": prompt_id})
            time.sleep(0.1)

    def free(self) -> None:
        """Free the host's models and all results, and wait for it.

        The host frees between two prompts, without an event. So a prompt of one small node runs: the host has freed
        by the time the next one begins.
        """
        self.post("/free", {"unload_models": True, "free_memory": True})
        self.run({"freed": {"class_type": "PreviewAny", "inputs": {"source": "freed"}}})

    def view(self, file: dict[str, str]) -> bytes:
        wanted = {key: file[key] for key in ("filename", "subfolder", "type")}
        return self._open(urllib.request.Request(self.url("/view", **wanted)))

    def upload(self, name: str, data: bytes, subfolder: str = "") -> dict[str, str]:
        boundary = secrets.token_hex(16)
        fields = f'--{boundary}\r\nContent-Disposition: form-data; name="subfolder"\r\n\r\n{subfolder}\r\n'
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        head += "Content-Type: video/mp4\r\n\r\n"
        body = fields.encode() + head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return json.loads(self._open(urllib.request.Request(self.url("/upload/image"), body, headers)))


class Events:
    """The JSON messages of the server's websocket (RFC 6455, as much as a listener needs)."""

    def __init__(self, server: Server, client_id: str):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=RUN_SECONDS)
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        lines = [f"GET /ws?clientId={client_id} HTTP/1.1", f"Host: 127.0.0.1:{server.port}", "Upgrade: websocket"]
        lines += ["Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.stream = self.socket.makefile("rb")
        while self.stream.readline().strip():
            pass

    def next(self) -> dict[str, Any]:
        """The next JSON message; pictures and texts are skipped."""
        while True:
            kind, payload = self.frame()
            if kind == 1:
                return json.loads(payload)

    def frame(self) -> tuple[int, bytes]:
        """The next message: its kind, 1 for JSON and 2 for pictures and texts of nodes, and its bytes."""
        kind, length = struct.unpack("!BB", self.stream.read(2))
        if length == 126:
            (length,) = struct.unpack("!H", self.stream.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.stream.read(8))
        return kind & 15, self.stream.read(length)

    def until_step(self, node: str, step: int) -> int:
        """Wait until a node has made so many steps; returns their number."""
        while True:
            event = self.next()
            state = event["data"].get("nodes", {}).get(node) if event["type"] == "progress_state" else None
            if state and state["state"] == "running" and state["value"] >= step:
                return int(state["value"])
            assert event["type"] not in ("execution_error", "execution_success"), event

    def close(self) -> None:
        self.stream.close()
        self.socket.close()
