"""`Emulator`: the emulated service on a port of this machine, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

from aiohttp import web

from .app import make_app
from .backend import DEFAULT_API_KEY, DEFAULT_ENV_PROJECT_ID, Backend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

_START_SECONDS = 30


class Emulator(Backend):
    """Traceloop's auto-monitor-setups API on loopback: a context manager, or `start` and `close`.

    ::

        with Emulator(settle=5, evaluators=["my-judge"]) as emulator:
            client = Client(base_url=emulator.url, api_key=emulator.api_key)

    Args:
        host: address to listen on. Anything but loopback lets others in your network use it.
        port: 0 takes a free one.
        base_path: path in front of every route, as in `https://app.traceloop.com/api`.
        api_key: key of the default project.
        env_project_id: environment of the default project.
        data: file for the setups and custom evaluators; by default they live in memory.
        evaluators: slugs of the projects' custom evaluators, known besides the documented ones.
        settle: seconds from a write until its set-up is completed. With 0 the write still returns
            `pending`, and the next read `completed`.
        latency: seconds that every response takes.
        rate_limit: requests per second and key; more get a 429 with a `Retry-After`.
            None: no limit.
        spans_needed: how many spans have to match a setup after its write, and `settle`, before it
            is completed; until then it is `waiting_for_spans`. With 0 the time alone completes it,
            for tests that send no spans.
        foreign_setups: how many setups of other projects of the organization the list has as well,
            2 kB each; no other route knows them.
        clock: seconds since the epoch; decides status, timestamps and rate limit (not `latency`).
        seed: changes the ids that the server makes.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        base_path: str = "",
        api_key: str = DEFAULT_API_KEY,
        env_project_id: str = DEFAULT_ENV_PROJECT_ID,
        data: str | None = None,
        evaluators: Iterable[str] = (),
        settle: float = 0,
        latency: float = 0,
        rate_limit: int | None = None,
        spans_needed: int = 0,
        foreign_setups: int = 0,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
    ) -> None:
        if not 0 <= port <= 65_535:
            raise ValueError(f"the port must be from 0 to 65535, not {port}")
        super().__init__(
            api_key=api_key,
            env_project_id=env_project_id,
            data=data,
            evaluators=evaluators,
            settle=settle,
            latency=latency,
            rate_limit=rate_limit,
            spans_needed=spans_needed,
            foreign_setups=foreign_setups,
            clock=clock,
            seed=seed,
        )
        self._host = host
        self._port = port
        self._base_path = "/" + base_path.strip("/") if base_path.strip("/") else ""
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """Base URL for the client, without a slash at its end."""
        if not self._port:
            raise RuntimeError("the emulator was never started, so it has no port yet")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}{self._base_path}"

    @property
    def root_url(self) -> str:
        """The URL that the emulator's own routes are under: `url` without the base path."""
        return self.url.removesuffix(self._base_path)

    def start(self) -> Emulator:
        """Begin to listen (after a `stop`: on the same port); return once connections succeed."""
        if self._thread is not None:
            raise RuntimeError("the emulator runs already")
        started = threading.Event()
        errors: list[BaseException] = []
        self._thread = threading.Thread(
            target=self._run, args=(started, errors), name="traceloop-emulator", daemon=True
        )
        self._thread.start()
        if not started.wait(_START_SECONDS):
            raise TimeoutError(f"the emulator did not start within {_START_SECONDS} seconds")
        if errors:
            self._thread.join()
            self._thread = None
            raise errors[0]
        return self

    def stop(self) -> None:
        """Stop listening and cut open connections. The data stay: `start` goes on with them."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        thread.join()

    def close(self) -> None:
        """Stop, and close the data file; what was in memory is gone."""
        self.stop()
        self._store.close()

    def __enter__(self) -> Emulator:
        """Start."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop and close."""
        self.close()

    def _run(self, started: threading.Event, errors: list[BaseException]) -> None:
        async def serve() -> None:
            self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
            runner = web.AppRunner(
                make_app(self, self._base_path), access_log=None, shutdown_timeout=0.05
            )
            await runner.setup()
            try:
                await web.TCPSite(runner, self._host, self._port).start()
                self._port = runner.addresses[0][1]
                started.set()
                await self._stopping.wait()
            finally:
                for site in list(runner.sites):
                    await site.stop()
                # Delayed responses are cut short, and not by the runner's time limit: a test that
                # has frozen the clock would wait for ever.
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    task.cancel()
                await runner.cleanup()

        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 - raised by start()
            errors.append(error)
        finally:
            started.set()
