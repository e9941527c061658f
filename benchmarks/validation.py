"""What a program pays for validating its setups: ``python -m benchmarks.validation [COUNT]``.

Prints the seconds of CPU time that the constructor of a group spends on it, and on importing
pydantic, which the program does without.
"""

from __future__ import annotations

import json
import subprocess
import sys
from time import process_time

import pulumi

from pulumi_traceloop._codec import encoded as canonical
from pulumi_traceloop._validation import group_problems, suspicious_group_texts

_COUNT = 10_000
_RUNS = 5


def main() -> None:
    """Measure, and print the best of some runs."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else _COUNT
    texts = {f"monitor-{n}": canonical(_setup(n)) for n in range(count)}
    seconds = min(_validate(texts) for _ in range(_RUNS))
    print(f"{count:,} setups: {seconds:.3f} s")
    code = (
        "import sys, time; a = time.process_time(); import pydantic; print(time.process_time() - a)"
    )
    models = "import pulumi, time; a = time.process_time(); import pulumi_traceloop._models; print(time.process_time() - a)"
    for name, program in (("pydantic", code), ("pydantic and the models", models)):
        done = [subprocess.check_output([sys.executable, "-c", program]) for _ in range(_RUNS)]  # noqa: S603
        print(f"importing {name}: {min(map(float, done)):.3f} s")


def _setup(number: int) -> dict[str, object]:
    return {
        "selector": [
            {
                "key": "gen_ai.request.model",
                "source": "span_attributes",
                "operator": "equals",
                "value": f"model-{number}",
            },
            {
                "key": "service.name",
                "source": "resource_attributes",
                "operator": "in",
                "values": ["checkout", "cart"],
            },
        ],
        "evaluators": ["faithfulness", "pii-detector"],
    }


def _validate(texts: dict[str, str]) -> float:
    begun = process_time()
    for external_id, text in texts.items():
        setup = json.loads(text)
        assert not group_problems(external_id, setup, pulumi.Output)
        assert not suspicious_group_texts(external_id, setup, text)
    return process_time() - begun


if __name__ == "__main__":
    main()
