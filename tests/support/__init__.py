"""What several test files use: one double of the service, one clock, ways to run a program.

| module | |
|---|---|
| `service.py` | the only HTTP double: sends scripted responses, keeps the requests |
| `clock.py` | the only clock of tests, and the wait for another thread |
| `client.py` | the client's calls, with a good response to each |
| `setups.py` | setups as a program writes them |
| `api.py` | raw HTTP requests to the emulator, without the package's client |
| `otlp.py` | spans as a program sends them |
| `span_service.py` | spans as the service returns them, scripted page by page |
| `programs.py` | a program on a mocked engine |
| `provider.py` | a provider process without an engine |
| `world.py` | a stack on an engine, with the emulated project that it is for |
| `bench.py` | a stack of the sample provider that tests the test engine |
| `project.py` | a project whose client waits without taking time |
| `files.py` | files of setups, good, bad and at random |
| `previews.py` | previews of the CLI and the comments made from them |
| `terminal.py` | commands in processes of their own |

A test that needs no broken transport uses the package's emulator and its `Fault` instead of
`service.py`. Fixtures are in `tests/conftest.py`.
"""

from pathlib import Path

#: The repository's root.
REPOSITORY = Path(__file__).parents[2]

DATA = REPOSITORY / "tests" / "data"

#: Spans that OpenLLMetry exported for each of its instrumentations.
CAPTURED = DATA / "spans" / "openllmetry-0.62.4.jsonl"

#: An API key that can be distinguished from everything else in what is printed or stored.
API_KEY = "tl-key-that-must-not-be-seen-4711"
