"""ComfyUI servers, played by small HTTP servers with the routes that the engine takes."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tav_batch import comfy
from tav_batch.comfy import ComfyPool
from tav_batch.driver import Batch
from tav_batch.graph import SAVED, GraphError, graph_of
from tav_batch.jobs import FIELDS, OF_THE_BATCH
from tav_batch.log import Log
from tav_batch.storage import Folder
from tests.batch.tables import edits, rows_of, table_of

pytest.importorskip("pyarrow")
INFO = json.loads((Path(__file__).parents[2] / "tools" / "object_info.json").read_text())


class Server(ThreadingHTTPServer):
    """Takes uploads and graphs; a prompt is done at the second question about it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.graphs: list[dict[str, Any]] = []
        self.viewed: list[str] = []
        self.uploads = 0
        self.asked: dict[str, int] = {}
        self.refuses = ""
        self.fails = ""
        self.video = b"video"
        self.shows: dict[str, Any] = {}
        self.dies_at = 10**6
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, path: str) -> tuple[int, Any]:
        if path.startswith("/history/"):
            prompt = path.removeprefix("/history/")
            self.asked[prompt] = self.asked.get(prompt, 0) + 1
            if self.asked[prompt] < 2:
                return 200, {}
            status: dict[str, Any] = {"status_str": "success", "messages": []}
            if self.fails and self.fails in json.dumps(self.graphs[int(prompt)]):
                message = ["execution_error", {"exception_message": "The clip is too short."}]
                status = {"status_str": "error", "messages": [message]}
            file = {"filename": "e.mp4", "subfolder": "", "type": "output", "more": 1}
            return 200, {prompt: {"status": status, "outputs": {SAVED: {"images": [file], **self.shows}}}}
        if path == "/queue":
            return 200, {"queue_running": [[0, str(n)] for n in range(len(self.graphs))], "queue_pending": []}
        return 200, self.video

    def take(self, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/upload/image":
            self.uploads += 1
            return 200, {"name": f"{self.uploads}.mp4"}
        if path == "/interrupt":
            return 200, {}
        if self.refuses:
            errors = [{"message": "Value not in list", "details": self.refuses}]
            return 400, {"node_errors": {"clip": {"errors": errors}}}
        self.graphs.append(json.loads(body)["prompt"])
        if len(self.graphs) >= self.dies_at:
            threading.Thread(target=self.shutdown, daemon=True).start()
            self.socket.close()
        return 200, {"prompt_id": str(len(self.graphs) - 1)}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        self.server.viewed += [query] * (path == "/view")
        self._send(*self.server.answer(path))

    def do_POST(self) -> None:
        self._send(*self.server.take(self.path, self.rfile.read(int(self.headers["Content-Length"]))))

    def _send(self, status: int, answer: Any) -> None:
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Server]]:
    monkeypatch.setattr(comfy, "POLL", 0.01)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = [Server(), Server()]
    yield made
    for server in made:
        server.shutdown()


def run(folder: Path, rows: list[dict[str, Any]], servers: list[Server]) -> Any:
    batch = Batch(rows_of(folder, rows), str(folder / "out"), Log("json"))
    return batch.run(ComfyPool([server.url for server in servers], str(folder / "out"), batch.task))


def test_rows_run_on_both_servers_and_each_clip_is_sent_once(tmp_path: Path, servers: list[Server]) -> None:
    outcome = run(tmp_path, edits(6, clips=2), servers)
    assert outcome.status == 0 and (tmp_path / "out" / "6.mp4").read_bytes() == b"video"
    assert [server.uploads for server in servers] == [1, 1]
    assert sum(len(server.graphs) for server in servers) == 6


def test_a_row_that_the_server_refuses_or_cannot_run_is_a_failed_row(tmp_path: Path, servers: list[Server]) -> None:
    rows = edits(3, strength="")
    rows[1]["prompt"], rows[2]["strength"] = "too short", "0.5"
    servers[0].fails = "too short"
    assert run(tmp_path, rows, servers[:1]).failed == 2
    errors = [row["error"] for row in table_of(tmp_path / "out")]
    assert errors[1] == "The server could not run the row: The clip is too short."
    assert errors[2] == "strength is not run on ComfyUI servers: leave it out, or give --workers."
    servers[1].refuses = "file: 1.mp4"
    assert run(tmp_path, [edits(1)[0] | {"name": "other"}], servers[1:]).failed == 1
    (row,) = table_of(tmp_path / "out")
    assert "refused the row: Value not in list (file: 1.mp4). Check that its node pack" in row["error"]


def test_a_server_that_dies_leaves_its_rows_to_the_other(tmp_path: Path, servers: list[Server]) -> None:
    servers[0].dies_at = 1
    outcome = run(tmp_path, edits(4, clips=2), servers)
    assert outcome.status == 0 and len(servers[1].graphs) == 4


def test_no_server_left_is_one_sentence_and_the_batch_goes_on_later(tmp_path: Path, servers: list[Server]) -> None:
    servers[0].dies_at = 1
    with pytest.raises(OSError, match="No server is left: .* does not answer .* the same command goes on"):
        run(tmp_path, edits(2), servers[:1])
    assert run(tmp_path, edits(2), servers[1:]).status == 0


def test_answers_have_a_limit_of_size(tmp_path: Path, servers: list[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comfy, "MAX_VIDEO", 4)
    assert run(tmp_path, edits(1), servers[:1]).failed == 1
    assert "sent more than" in table_of(tmp_path / "out")[0]["error"]
    assert not (tmp_path / "out" / "1.mp4").exists()


def test_a_silent_server_is_lost_after_a_time(tmp_path: Path, servers: list[Server], monkeypatch: Any) -> None:
    monkeypatch.setattr(comfy, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(Server, "take", lambda self, path, body: (time.sleep(1), (200, {}))[1])
    with pytest.raises(OSError, match="does not answer"):
        run(tmp_path, edits(1), servers[:1])


def test_an_answer_that_drips_is_lost_after_a_time(tmp_path: Path, servers: list[Server], monkeypatch: Any) -> None:
    def drip(handler: Handler, status: int, answer: Any) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(1000):
                handler.wfile.write(b" ")
                time.sleep(0.05)

    monkeypatch.setattr(comfy, "TRANSFER_SECONDS", 0.3)
    monkeypatch.setattr(Handler, "_send", drip)
    with pytest.raises(OSError, match="does not answer .*longer than 0.3 s"):
        run(tmp_path, edits(1), servers[:1])


def test_a_server_of_another_kind_fails_its_rows(tmp_path: Path, servers: list[Server], monkeypatch: Any) -> None:
    monkeypatch.setattr(Server, "take", lambda self, path, body: (200, {"other": 1}))
    assert run(tmp_path, edits(1), servers[:1]).failed == 1
    assert "answered unlike ComfyUI" in table_of(tmp_path / "out")[0]["error"]


def test_a_full_disk_fails_the_row_and_the_others_run(tmp_path: Path, servers: list[Server], monkeypatch: Any) -> None:
    write = Folder.write

    def full(folder: Folder, name: str, data: bytes) -> None:
        if name.startswith("1."):
            raise OSError(28, "No space left on device")
        write(folder, name, data)

    monkeypatch.setattr(Folder, "write", full)
    outcome = run(tmp_path, edits(3), servers[:1])
    assert (outcome.done, outcome.failed) == (3, 1)
    assert "free space" in table_of(tmp_path / "out")[0]["error"]
    monkeypatch.setattr(Folder, "write", write)
    assert run(tmp_path, edits(3), servers[:1]).status == 0 and len(servers[0].graphs) == 4


def test_of_a_video_that_browsers_do_not_play_the_file_is_taken_and_not_its_picture(
    tmp_path: Path, servers: list[Server]
) -> None:
    picture, file = ({"filename": name, "subfolder": "", "type": "output"} for name in ("e.png", "e.mkv"))
    servers[0].shows = {"images": [picture], "files": [file]}
    batch = Batch(rows_of(tmp_path, edits(1), suffix=".mkv"), str(tmp_path / "out"), Log())
    assert batch.run(ComfyPool([servers[0].url], str(tmp_path / "out"), batch.task)).status == 0
    assert "filename=e.mkv" in servers[0].viewed[0]
    servers[0].shows = {"images": [picture]}
    batch = Batch(rows_of(tmp_path, edits(2), suffix=".mkv"), str(tmp_path / "out"), Log())
    assert batch.run(ComfyPool([servers[0].url], str(tmp_path / "out"), batch.task)).failed == 1
    assert "gives no .mkv: update its node pack" in table_of(tmp_path / "out")[1]["error"]


@pytest.mark.parametrize("start_from", ["inversion", "noise", "source_branch"])
def test_graphs_have_the_inputs_of_the_nodes(tmp_path: Path, start_from: str) -> None:
    batch = Batch(rows_of(tmp_path, edits(1, start_from=start_from)), str(tmp_path / "out"), Log())
    graph = graph_of(batch.task(0), "clip.mp4")
    for name, node in graph.items():
        if node["class_type"] not in INFO:
            assert node["class_type"] in ("CLIPTextEncode", "VAEEncode", "VAEDecode", "CheckpointLoaderSimple")
            continue
        inputs = INFO[node["class_type"]]["input"]
        known = inputs.get("required", {}) | inputs.get("optional", {})
        assert {*inputs.get("required", {})} <= {*node["inputs"]} <= {*known}, name
        for field, value in node["inputs"].items():
            options = known[field][1].get("options") if len(known[field]) > 1 else None
            assert field == "file" or not options or value in options
            assert not isinstance(value, list) or value[0] in graph


def test_settings_without_a_node_are_refused(tmp_path: Path) -> None:
    batch = Batch(rows_of(tmp_path, edits(1, fps="8")), str(tmp_path / "out"), Log())
    with pytest.raises(GraphError, match="fps is not run on ComfyUI servers"):
        graph_of(batch.task(0), "clip.mp4")


OTHER = {  # values unlike the defaults, with what else they need
    "changes": {"changes": "look"},
    "context_length": {"context_length": "2"},
    "deflicker": {"deflicker": "no"},
    "dtype": {"dtype": "float16"},
    "fps": {"fps": "4"},
    "lora_rank": {"lora_rank": "4"},
    "objective": {"objective": "debiased"},
    "gradient_checkpointing": {"gradient_checkpointing": "on"},
    "guide_from_caption": {"guide_from_caption": "no"},
    "mask": {"mask": "c.mp4"},
    "model": {"model": "c.mp4"},
    "negative_prompt": {"negative_prompt": "x", "guide_from_caption": "no"},
    "num_frames": {"num_frames": "5"},
    "preset": {"preset": "fast"},
    "propagate": {"propagate": "no"},
    "sampler": {"sampler": "ddim_trailing"},
    "refinements": {"refinements": "2", "start_from": "inversion"},
    "start_from": {"start_from": "noise"},
}
OTHER |= {name: {name: "64"} for name in ("width", "height")}
OTHER |= {name: {name: "x"} for name in ("source_prompt", "prompt")}
OTHER |= {name: {name: "7"} for name in ("tuning_steps", "num_inference_steps", "seed")}
OTHER |= {name: {"control": "c.mp4", "hint": "canny"} for name in ("control", "hint")}
MORE = {"more_video": "c.mp4", "more_source_prompt": "x"}
OTHER |= dict.fromkeys(MORE, MORE)
OTHER |= {
    name: {"control": "c.mp4", "hint": "canny", name: value}
    for name, value in {**dict.fromkeys(("control_scale", "control_start", "control_end"), "0.5"),
                        "control_tuning": "no"}.items()
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FIELDS - {*OF_THE_BATCH, "video"}))
def test_each_setting_is_in_the_graph_or_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "c.mp4").touch()
    cells = OTHER.get(name, {name: "0.25"})

    def graph(cells: dict[str, str]) -> Any:
        row = edits(1)[0] | cells
        batch = Batch(rows_of(tmp_path, [row]), str(tmp_path / "out"), Log())
        assert batch.checked[0].fault == ""
        return graph_of(batch.task(0), "clip.mp4")

    try:
        changed = graph(cells)
    except GraphError as error:
        assert "is not run on ComfyUI servers" in str(error)
    else:
        assert changed != graph({other: value for other, value in cells.items() if other != name})
