"""HTTP to one server: pooled connections, its failures as typed errors."""

from __future__ import annotations

import asyncio
import email.utils
import json
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hermes_runtime.engines.server.events import EventReader
from hermes_runtime.errors import EngineError, GenerationTimeoutError, InvalidRequestError, ModelNotFoundError
from hermes_runtime.literals.escapes import well_formed

if TYPE_CHECKING:
    import httpx

_KEPT_CONNECTIONS = 128
_WRITE_TIMEOUT = 60.0  # seconds
_DRAIN_TIMEOUT = 1.0
_LONGEST_MESSAGE = 500
_TRANSIENT = frozenset((408, 409, 425, 429))
_NO_SUCH = 404
_ABSENT = frozenset((_NO_SUCH, 405, 501))
_REFUSED = frozenset((401, 403))
_FAILED = frozenset((500, 501))
_HEADER = re.compile(r"[!-~]([ -~]*[!-~])?")  # printable ASCII, no blank outside: RFC 9110, 5.5, without obs-text


class TransientServerError(EngineError):
    """The server could not answer this time; the same request may succeed later.

    Attributes:
        may_be_refusal: The server failed over the request, and some do so over what they do not know.
    """

    def __init__(self, message: str, retry_after: float | None = None, *, may_be_refusal: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.may_be_refusal = may_be_refusal


class ServerRefusalError(InvalidRequestError):
    """The server says that the request itself is wrong: sent again it would be refused again."""


class Client:
    """A pool of connections to one server; for one event loop.

    Args:
        base_url: The server's address, with or without `/v1`.
        api_key: Sent as a bearer token.
        headers: Further headers of every request.
        connect_timeout: Seconds until a connection must stand.
        idle_timeout: Seconds in which the server must send something.

    Raises:
        InvalidRequestError: The address is none, or a header cannot be sent.
        EngineError: httpx is not installed.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        connect_timeout: float = 10.0,
        idle_timeout: float = 600.0,
    ) -> None:
        self._httpx = _import_httpx()
        self.root = server_root(base_url)
        try:
            self._httpx.URL(self.root)
        except self._httpx.InvalidURL as error:
            raise InvalidRequestError(f"base_url {base_url!r} is no address: {error}") from error
        self._idle_timeout = idle_timeout
        bearer = {} if api_key is None else {"Authorization": f"Bearer {_checked('api_key', api_key)}"}
        further = {name: _checked(f"the header {name!r}", value) for name, value in (headers or {}).items()}
        self._client = self._httpx.AsyncClient(
            headers={**bearer, **further},
            timeout=self._httpx.Timeout(connect=connect_timeout, read=idle_timeout, write=_WRITE_TIMEOUT, pool=None),
            verify=self.root.startswith("https:"),  # reading all certificates takes longer than asking a local server
            # A request must never wait for another to end: that is the server's own queue's business.
            limits=self._httpx.Limits(max_connections=None, max_keepalive_connections=_KEPT_CONNECTIONS),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def get(self, path: str, *, is_needed: bool = False) -> Any:
        """Return the JSON at a path, or None where the server has no such path or no JSON there.

        Args:
            path: The path.
            is_needed: A server that says anything but yes or "no such path" is in trouble; else that is a no too.
        """
        async with self._sent("GET", path, None) as response:
            if response.status_code != self._httpx.codes.OK:
                if is_needed and response.status_code not in _ABSENT:
                    await self._raise_for(response)
                return None
            try:
                return json.loads(await response.aread())
            except ValueError:
                return None

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and return the JSON object that answers it.

        Raises:
            InvalidRequestError: The server refuses the request.
            ModelNotFoundError: The server has no such model or path.
            EngineError: Anything else went wrong; `TransientServerError` where it may pass.
        """
        async with self._sent("POST", path, body) as response:
            await self._raise_for(response)
            try:
                answer = json.loads(await response.aread())
            except ValueError as error:
                raise EngineError(f"{self.root}{path} answers something that is no JSON; is base_url right?") from error
            if not isinstance(answer, dict):
                raise EngineError(f"{self.root}{path} answers something that is no JSON object")
            _raise_for_event(answer)
            return answer

    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """Send a request and yield the events that answer it; closing the iterator closes the connection.

        Raises:
            TransientServerError: Also when the connection ends before the events do.
            EngineError: As `post`; and what is sent is no stream of events.
        """
        async with self._sent("POST", path, body) as response:
            await self._raise_for(response)
            kind = response.headers.get("content-type", "nothing")
            if not kind.startswith("text/event-stream"):
                raise EngineError(f"{self.root}{path} answers {kind}, not a stream of events; is base_url right?")
            reader = EventReader()
            chunks: Any = response.aiter_bytes()  # a generator, which its type does not say
            async with aclosing(chunks):
                async for chunk in chunks:
                    for event in reader.feed(chunk):
                        _raise_for_event(event)
                        yield event
                    if reader.is_done:
                        await self._drain(chunks)
                        return

    async def _drain(self, chunks: AsyncIterable[bytes]) -> None:
        """Read what follows the last event, which is nothing: only then can the connection be used again."""
        with suppress(TimeoutError, self._httpx.HTTPError):
            async with asyncio.timeout(_DRAIN_TIMEOUT):
                async for _ in chunks:
                    pass

    @asynccontextmanager
    async def _sent(self, method: str, path: str, body: Mapping[str, Any] | None) -> AsyncIterator[httpx.Response]:
        httpx = self._httpx
        content = None if body is None else well_formed(json.dumps(body, ensure_ascii=False)).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            async with self._client.stream(method, self.root + path, content=content, headers=headers) as response:
                yield response
        except httpx.ConnectTimeout as error:
            raise TransientServerError(f"{self.root} does not answer; is the server running?") from error
        except httpx.TimeoutException as error:
            raise GenerationTimeoutError(f"{self.root} sent nothing for {self._idle_timeout:g} seconds") from error
        except httpx.ConnectError as error:
            raise TransientServerError(f"no server answers at {self.root} ({error}); is it running?") from error
        except httpx.DecodingError as error:
            raise EngineError(f"{self.root} sent content that cannot be decoded: {error}") from error
        except (httpx.TransportError, httpx.StreamError) as error:
            raise TransientServerError(
                f"the connection to {self.root} broke: {error or type(error).__name__}"
            ) from error

    async def _raise_for(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == self._httpx.codes.OK:
            return
        said = _message_of(await response.aread())
        where = f"{self.root} answers {status}"
        if status in _REFUSED:
            raise EngineError(f"{where}: {said}; check api_key")
        if status == _NO_SUCH:
            raise ModelNotFoundError(f"{where}: {said}; check base_url and the model's name")
        if status in _TRANSIENT or status >= 500:
            retry_after = _seconds(response.headers.get("retry-after"))
            raise TransientServerError(f"{where}: {said}", retry_after, may_be_refusal=status in _FAILED)
        if 300 <= status < 400:
            raise EngineError(f"{where} and points to {response.headers.get('location')}; give that as base_url")
        raise ServerRefusalError(f"{where}: {said}")


def server_root(base_url: str) -> str:
    """Return a server's address without `/v1` and what may follow it.

    Raises:
        InvalidRequestError: It is no http address.
    """
    parts = urlsplit(base_url) if isinstance(base_url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequestError(f"base_url must be an address such as 'http://localhost:8000/v1', got {base_url!r}")
    path = parts.path.rstrip("/").removesuffix("/completions").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _checked(what: str, value: str) -> str:
    """Return what can stand in a header; an error never shows it, because it may be a secret.

    Raises:
        InvalidRequestError: It cannot.
    """
    if not isinstance(value, str) or not _HEADER.fullmatch(value):
        raise InvalidRequestError(
            f"{what} must be printable ASCII, with no blank or line end around it; text read from a file may end in one"
        )
    return value


def _import_httpx() -> Any:
    try:
        import httpx  # noqa: PLC0415 - needed with a server only
    except ImportError as error:
        raise EngineError("talking to a server needs httpx; run: pip install httpx") from error
    return httpx


def _raise_for_event(event: Mapping[str, Any]) -> None:
    """Raise what a server reports inside an answer that began well."""
    error = event.get("error")
    if not error:
        return
    said = error.get("message") if isinstance(error, Mapping) else error
    code = error.get("code") if isinstance(error, Mapping) else event.get("code")
    message = f"the server reports: {str(said)[:_LONGEST_MESSAGE]}"
    if isinstance(code, int) and 400 <= code < 500 and code not in _TRANSIENT:
        raise ServerRefusalError(message)
    raise TransientServerError(message, may_be_refusal=not isinstance(code, int) or code in _FAILED)


def _message_of(content: bytes) -> str:
    """Return what an error's body says, in the forms that servers use."""
    text = content.decode("utf-8", "replace")
    try:
        said = json.loads(text)
    except ValueError:
        said = text
    for name in ("error", "message", "detail"):
        if isinstance(said, dict) and said.get(name):
            said = said[name]
    return (said if isinstance(said, str) else json.dumps(said))[:_LONGEST_MESSAGE] or "nothing"


def _seconds(retry_after: str | None) -> float | None:
    """Read a Retry-After header: seconds, or a date (RFC 9110, 10.2.3)."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        when = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
