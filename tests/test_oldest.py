"""The oldest releases: what tests/oldest.txt pins is what requirements.txt and pyproject.toml allow."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def releases(lines: list[str], sign: str) -> dict[str, list[str]]:
    """Name and release, in parts, of each line NAME SIGN RELEASE."""
    found = (re.fullmatch(rf"([\w-]+){re.escape(sign)}([\d.]+).*", line.strip()) for line in lines)
    return {match[1]: match[2].split(".") for match in found if match}


def test_the_pinned_releases_are_the_oldest_that_are_allowed() -> None:
    pinned = releases((ROOT / "tests" / "oldest.txt").read_text().splitlines(), "==")
    allowed = releases((ROOT / "requirements.txt").read_text().splitlines(), ">=")
    assert len(allowed) == len((ROOT / "requirements.txt").read_text().split()), "each line names a floor"
    for name, oldest in allowed.items():
        assert pinned[name][: len(oldest)] == oldest, name
        assert not any(part.strip("0") for part in pinned[name][len(oldest) :][:1]), f"{name}: the first of its kind"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib")
def test_the_workflows_run_what_pyproject_names() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    oldest = project["project"]["requires-python"].removeprefix(">=")
    host = project["tool"]["comfy"]["requires-comfyui"].removeprefix(">=")
    assert f'["{oldest}", ' in workflow and f'python-version: "{oldest}"' in workflow
    assert f"[v{host}, " in workflow
    dev = releases(project["project"]["optional-dependencies"]["dev"], ">=")
    pinned = releases((ROOT / "tests" / "oldest.txt").read_text().splitlines(), "==")
    assert all(pinned[name][: len(oldest)] == oldest for name, oldest in dev.items() if name in pinned)
