"""`Emulator`: the emulated service on a local port, in a separate thread."""

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

    Example:
        ```python
        with Emulator(settle=5, evaluators=["my-judge"]) as emulator:
            monkeypatch.setenv("TRACELOOP_BASE_URL", emulator.url)
            monkeypatch.setenv("TRACELOOP_API_KEY", emulator.api_key)
        ```

    Args:
        host: address to listen on; other than loopback exposes it to your network.
        port: 0 chooses a free one.
        base_path: path before every route, as in `https://app.traceloop.com/api`.
        api_key: key of the default project.
        env_project_id: environment of the default project.
        data: file for the setups and custom evaluators; in memory by default.
        evaluators: slugs of custom evaluators.
        settle: seconds from a write to the end of processing. With 0 the write still returns
            `pending`, and the next read `completed`.
        latency: delay of every response in seconds.
        rate_limit: requests per second and key; further ones get a 429 with a `Retry-After`.
            None: no limit.
        spans_needed: matching spans after a write that complete a setup; until then, after
            `settle`, it is `waiting_for_spans`. With 0 time alone completes it, for tests that
            send no spans.
        foreign_setups: number of other projects' setups, 2 kB each, that the organization's list
            contains as well; no other route has them.
        clock: seconds since the epoch, for status, timestamps and rate limit (not `latency`).
        seed: varies the generated ids.
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
        """Base URL for the client, without trailing slash."""
        if not self._port:
            raise RuntimeError("the emulator has not been started, so it has no port")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}{self._base_path}"

    @property
    def root_url(self) -> str:
        """The URL of the control routes: `url` without the base path."""
        return self.url.removesuffix(self._base_path)

    def start(self) -> Emulator:
        """Start listening, after a `stop` on the same port; return once connections succeed."""
        if self._thread is not None:
            raise RuntimeError("the emulator is already running")
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
        """Stop listening and drop open connections. The data stay for the next `start`."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        thread.join()

    def close(self) -> None:
        """Stop, and close the data file; data in memory are lost."""
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
                # Cancel delayed responses here: with a frozen clock the runner's timeout never
                # expires.
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    task.cancel()
                await runner.cleanup()

        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 - raised by start()
            errors.append(error)
        finally:
            started.set()
