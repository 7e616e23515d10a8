"""Output, store, table and clips on an S3 server of the test's own; limits of size; half of an entry."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tav_batch.driver import Batch
from tav_batch.jobs import Rows
from tav_batch.log import Log
from tav_batch.storage import Folder, download, file_mark
from tav_batch.table import read_table
from tests.batch.calls import Inline, no_work
from tests.clips import caption_of, clip_of

pytest.importorskip("pyarrow")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A bucket, as fsspec sees it."""
    server = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[server]'.")
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: pip install '.[batch]'.")
    values = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (values | {"XDG_CACHE_HOME": str(tmp_path / "cache")}).items():
        monkeypatch.setenv(name, value)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    address = f"http://127.0.0.1:{running.get_host_and_port()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", address)
    import fsspec.config

    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": address})
    urllib.request.urlopen(urllib.request.Request(f"{address}/moto-api/reset", method="POST")).close()
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem(endpoint_url=address)
    system.mkdir("bucket")
    yield system
    running.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def batch(rows: list[dict[str, str]], bucket: Any, **options: Any) -> Batch:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    bucket.pipe_file("bucket/edits.jsonl", text.encode())
    return Batch(Rows(*read_table("s3://bucket/edits.jsonl"), **options), "s3://bucket/out", Log("json"))


def test_a_batch_reads_and_writes_s3_and_repeats_nothing(bucket: Any) -> None:
    bucket.pipe_file("bucket/c.mp4", b"clip")
    rows = [{"video": "c.mp4", "source_prompt": "a", "prompt": str(n), "name": f"x/{n}"} for n in range(3)]
    rows.append(rows[0] | {"video": "d.mp4", "name": "bad"})

    def call(task: Any) -> Any:
        record = no_work(task)
        assert task.job["video"] == "s3://bucket/c.mp4"
        folder = Folder("s3://bucket/out")
        folder.write(task.file, b"video")
        folder.write(f"{task.name}.result.json", json.dumps(record).encode())
        return record

    first = batch(rows, bucket)
    outcome = first.run(Inline(call, first.task))
    assert (outcome.done, outcome.failed) == (4, 1)
    found = bucket.cat_file("bucket/out/results.csv").decode()
    assert "there is no s3://bucket/d.mp4: check its name" in found and bucket.exists("bucket/out/results.parquet")
    assert batch(rows, bucket).groups == []
    bucket.pipe_file("bucket/c.mp4", b"another clip")
    assert [len(group.rows) for group in batch(rows, bucket).groups] == [3], "the clip has changed"
    limited = batch(rows, bucket, allowed=("s3://bucket/clips",))
    assert all("outside of --allow-dir" in row.fault for row in limited.checked)


def test_downloads_have_a_limit_of_size(bucket: Any, tmp_path: Path) -> None:
    bucket.pipe_file("bucket/c.mp4", bytes(100))
    download("s3://bucket/c.mp4", tmp_path / "c.mp4", max_bytes=100)
    assert (tmp_path / "c.mp4").stat().st_size == 100
    with pytest.raises(ValueError, match="c.mp4 is larger than"):
        download("s3://bucket/c.mp4", tmp_path / "d.mp4", max_bytes=99)
    assert file_mark("s3://bucket/c.mp4").startswith("100 ")


def test_a_file_system_that_is_not_installed_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"nowhere:// cannot be reached .* pip install"):
        Folder("nowhere://bucket")


@pytest.mark.slow
def test_edits_on_s3_are_those_made_here_and_another_machine_takes_the_tuning(bucket: Any, tmp_path: Path) -> None:
    from tav_batch.worker import EditWorker
    from tav_core import write_video

    write_video(tmp_path / "c.mp4", clip_of(2), 8)
    bucket.put_file(str(tmp_path / "c.mp4"), "bucket/c.mp4")
    words = {"source_prompt": caption_of(), "prompt": caption_of(coat="blue")}
    small = {"num_frames": 2, "width": 32, "height": 32, "tuning_steps": 2, "num_inference_steps": 3}
    rows: list[Any] = [{"video": "c.mp4", "name": name, **words, **small} for name in ("0", "1")]

    def run(names: list[str], output: str, store: str) -> list[Any]:
        made = batch([row for row in rows if row["name"] in names], bucket)
        worker = EditWorker(output, store, threads=1)
        return [worker(made.task(number)) for number in range(len(names))]

    (here,) = run(["0"], str(tmp_path / "out"), str(tmp_path / "store"))
    (first,) = run(["0"], "s3://bucket/out", "s3://bucket/store")
    (second,) = run(["1"], "s3://bucket/out", "s3://bucket/store")
    assert {record["status"] for record in (here, first, second)} == {"done"}, (here, first, second)
    assert here["frames_sha256"] == first["frames_sha256"] == second["frames_sha256"]
    (entry,) = bucket.ls("bucket/store", detail=False)
    assert "tuned-" in entry
    assert bucket.cat_file("bucket/out/0.mp4") == (tmp_path / "out" / "0.mp4").read_bytes()
    job = json.loads(bucket.cat_file("bucket/out/1.job.json"))["job"]
    assert job["video"] == "s3://bucket/c.mp4" and job["output"] == "s3://bucket/out/1.mp4"

    bucket.pipe_file(entry, bucket.cat_file(entry)[:-100])
    (third,) = run(["0"], "s3://bucket/out", "s3://bucket/store")
    assert third["frames_sha256"] == here["frames_sha256"], "half an entry is made again"
