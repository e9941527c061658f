"""Links to the commit and the run that a comment is about, from the variables of a CI service.

GitHub: https://docs.github.com/actions/reference/workflows-and-actions/variables. GitLab:
https://docs.gitlab.com/ci/variables/predefined_variables/.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["links"]

_URL = re.compile(r"https?://[\w.~:/@%+-]+")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


def links(environment: Mapping[str, str]) -> list[str]:
    """Return Markdown links to the commit and to the run, as far as they are known."""
    get = environment.get
    if repository := get("GITHUB_REPOSITORY"):
        page = f"{get('GITHUB_SERVER_URL', 'https://github.com')}/{repository}"
        commit = _pull_request_commit(get("GITHUB_EVENT_PATH")) or get("GITHUB_SHA", "")
        commit_url = f"{page}/commit/{commit}"
        run_url = f"{page}/actions/runs/{get('GITHUB_RUN_ID')}" if get("GITHUB_RUN_ID") else ""
    else:
        page, commit = get("CI_PROJECT_URL", ""), get("CI_COMMIT_SHA", "")
        commit_url = f"{page}/-/commit/{commit}" if page else ""
        run_url = get("CI_JOB_URL", "")
    found = []
    if _COMMIT.fullmatch(commit) and _URL.fullmatch(commit_url):
        found.append(f"commit [`{commit[:7]}`]({commit_url})")
    if _URL.fullmatch(run_url):
        found.append(f"[run]({run_url})")
    return found


def _pull_request_commit(event: str | None) -> str | None:
    """Return the last commit of a pull request; ``GITHUB_SHA`` is the merge of it."""
    try:
        payload = json.loads(Path(event).read_bytes()) if event else {}
        commit = payload["pull_request"]["head"]["sha"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return commit if isinstance(commit, str) else None
