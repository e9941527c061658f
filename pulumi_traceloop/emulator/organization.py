"""Setups of the organization's other projects, which only the list contains.

The OpenAPI file calls the list the organization's. All other routes concern the key's own project.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from pydantic_core import to_json

from .store import Record, render

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["foreign_setups"]

#: The number of other projects.
_PROJECTS = 5

_PLACEHOLDER = "%NUMBER"

_RULES = [
    {"key": "service.name", "source": "resource_attributes", "value": f"service-{_PLACEHOLDER}"},
    {"key": "deployment.environment.name", "source": "resource_attributes", "value": "production"},
    {"key": "gen_ai.request.model", "source": "span_attributes", "value": "gpt-4o"},
    {"key": "traceloop.workflow.name", "source": "span_attributes", "value": "customer_support"},
]
_EVALUATORS = ["answer-relevancy", "faithfulness", "toxicity-detector", "pii-detector"]


@lru_cache(maxsize=2)
def foreign_setups(count: int, org_id: str) -> str:
    """Return the JSON texts of *count* setups of 2 kB, separated by commas.

    Args:
        count: the number of setups.
        org_id: the organization's id.

    """
    return ",".join(_texts(count, org_id))


def _texts(count: int, org_id: str) -> Iterator[str]:
    templates = [_template(n, org_id) for n in range(min(count, _PROJECTS))]
    for number in range(count):
        yield templates[number % _PROJECTS].replace(_PLACEHOLDER, f"{number:06}")


def _template(number: int, org_id: str) -> str:
    record = Record(
        seq=number,
        space="",
        external_id=f"foreign-{_PLACEHOLDER}",
        id=f"cmmforeignsetup0000{_PLACEHOLDER}",
        org_id=org_id,
        project_id=f"cm9v2g95lforeign{number}prj0",
        env_project_id=f"cm9v2ga9iforeign{number}env0",
        rules=to_json([{"operator": "equals", **rule} for rule in _RULES]).decode(),
        evaluators=to_json([[slug, None, None] for slug in _EVALUATORS]).decode(),
        created=1_780_000_000,
        written=1_780_000_000,
        revision=1,
    )
    return render(record, "completed", "completed", record.written)
