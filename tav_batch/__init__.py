"""Many edits: a table with one edit a row, run on one machine, on a Ray cluster or on ComfyUI servers.

    table.py layouts.py   rows of CSV, JSONL or Parquet, and of the data sets LOVEU-TGVE and V2VBench
    jobs.py               each row checked and made an `EditJob`
    plan.py times.py      rows that share a tuning, their order; disk and time
    handout.py            which row a worker takes next
    worker.py             one row run: the edit, its figures, its record beside the video
    pool.py ray_pool.py comfy.py   the engines: processes, Ray actors, ComfyUI servers
    storage.py            files here or wherever fsspec reaches
    results.py report.py  results.parquet, results.csv, report.html
    driver.py cli.py      `python -m tav_core batch`

This package starts processes and speaks to networks, so the published node pack leaves it out.
"""
