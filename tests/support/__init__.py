"""Code that several test files share.

| module | |
|---|---|
| `service.py` | the only HTTP double: sends scripted responses, and records the requests |
| `clock.py` | the only fake clock, and a wait for another thread |
| `client.py` | the client's calls, with a valid response to each |
| `setups.py` | setups as a program declares them |
| `api.py` | raw HTTP requests to the emulator, without the package's client |
| `otlp.py` | spans as a program sends them |
| `span_service.py` | spans as the service returns them, scripted page by page |
| `programs.py` | a program on a mocked engine |
| `provider.py` | a provider process without an engine |
| `world.py` | a stack on an engine, and its emulated project |
| `bench.py` | a stack with the sample provider, for tests of the test engine |
| `project.py` | a project whose client waits on a fake clock |
| `files.py` | files of setups: valid, invalid and random |
| `previews.py` | previews of the CLI, and their comments |
| `terminal.py` | commands in separate processes |

`service.py` is for broken transports; other tests use the package's emulator and its `Fault`.
Fixtures are in `tests/conftest.py`.
"""

from pathlib import Path

import pulumi_traceloop

#: The repository's root.
REPOSITORY = Path(__file__).parents[2]

#: The package: in the repository, or installed from a wheel.
PACKAGE = Path(pulumi_traceloop.__file__).parent

DATA = REPOSITORY / "tests" / "data"

#: Spans that OpenLLMetry exported for each of its instrumentations.
CAPTURED = DATA / "spans" / "openllmetry-0.62.4.jsonl"

#: An API key that no other text resembles, to find it in outputs and states.
API_KEY = "tl-key-that-must-not-be-seen-4711"
