"""JSON-RPC between bytes and handlers: every message is validated, every request is answered.

Handlers are looked up by method. Plain functions run at once, in the order of arrival; coroutine
functions run as tasks, so that a cancellation reaches them at their next await. What handlers
raise is turned into an error reply by `to_error`; nothing they do ends the conversation.

https://www.jsonrpc.org/specification
"""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Mapping
from enum import Enum, auto
from typing import Any, cast

import msgspec

from lsp_server.framing import FrameError, frame
from lsp_server.protocol import CancelParams, Id, Message

log = logging.getLogger(__name__)

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
NOT_INITIALIZED = -32002
REQUEST_CANCELLED = -32800
SERVER_CANCELLED = -32802
REQUEST_FAILED = -32803

MAX_LIVE_REQUESTS = 1024

Handler = Callable[[Any], Any]
_RawParams = msgspec.Raw | msgspec.UnsetType


class RpcError(Exception):
    """An error as the other side is told it. `request_id` is None where it could not be read."""

    def __init__(self, code: int, message: str, request_id: Id | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.request_id = code, message, request_id


class _Envelope(msgspec.Struct):
    jsonrpc: Any = msgspec.UNSET
    id: Any = msgspec.UNSET
    method: Any = msgspec.UNSET
    params: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Life(Enum):
    NEW = auto()
    RUNNING = auto()
    SHUT_DOWN = auto()


class _Live(msgspec.Struct):
    """A request being worked on; `cancel_code` is what its caller hears if it is cancelled."""

    task: asyncio.Future[Any]
    cancel_code: int = REQUEST_CANCELLED


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_CANCEL = msgspec.json.Decoder(CancelParams)
_ANY = msgspec.json.Decoder()
# UnicodeDecodeError is not among msgspec's own errors, and neither is too deep a nesting.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Peer:
    """One conversation. `write` is handed whole frames; `on_exit` is called once, with the code."""

    def __init__(
        self,
        find_handler: Callable[[str], Handler | None],
        param_types: Mapping[str, type[Message]],
        to_wire: Callable[[Any], Any],
        to_error: Callable[[str, BaseException], RpcError],
    ) -> None:
        self._find_handler = find_handler
        self._to_wire, self._to_error = to_wire, to_error
        self._decoders = {method: msgspec.json.Decoder(t) for method, t in param_types.items()}
        self._life = _Life.NEW
        self._live: dict[Id, _Live] = {}
        self._background: set[asyncio.Future[Any]] = set()
        self._asked: dict[Id, asyncio.Future[Any]] = {}
        self._n_asked = 0
        self.write: Callable[[bytes], None] = _nowhere
        self.on_exit: Callable[[int], None] = _ignore_exit
        self.exit_code: int | None = None

    # --- incoming ---

    def receive(self, body: bytes) -> None:
        """Take one message body. Never raises."""
        if self.exit_code is not None:
            return
        try:
            message = _decode_message(body)
            if message.method is msgspec.UNSET:
                self._take_response(message)
            elif message.id is msgspec.UNSET:
                self._take_notification(message.method, message.params)
            else:
                self._take_request(message.id, message.method, message.params)
        except RpcError as error:
            log.warning("a message was refused: %s", error.message)
            self._send_error(error.request_id, error)

    def reject(self, error: FrameError) -> None:
        """Answer a frame that could not be read; after a fatal one the conversation is over."""
        log.error("the input could not be read: %s", error.message)
        self._send_error(None, RpcError(INVALID_REQUEST, error.message))
        if error.is_fatal:
            self.exit(1)

    def exit(self, code: int) -> None:
        """End the conversation: what runs is cancelled, what comes is ignored."""
        if self.exit_code is not None:
            return
        self.exit_code = code
        for task in [*self._background, *self._asked.values()]:
            task.cancel()
        for live in self._live.values():
            live.task.cancel()
        self.on_exit(code)

    @property
    def is_shut_down(self) -> bool:
        return self._life is _Life.SHUT_DOWN

    @property
    def is_open(self) -> bool:
        """Whether notifications may be sent: after `initialize` and until the end."""
        return self._life is not _Life.NEW and self.exit_code is None

    def _take_request(self, request_id: Id, method: str, params: _RawParams) -> None:
        self._check_admission(request_id, method)
        handler = self._find_handler(method)
        if handler is None:
            raise RpcError(METHOD_NOT_FOUND, f"unknown method '{method}'", request_id)
        try:
            result = handler(self._decode_params(method, params))
            if not asyncio.iscoroutine(result):
                self._reply(request_id, result)
                self._enter_life(method)
                return
        except Exception as error:
            self._send_error(request_id, self._to_error(method, error))
            return
        task = asyncio.ensure_future(result)
        self._live[request_id] = _Live(task)
        task.add_done_callback(lambda done: self._settle(request_id, method, done))

    def _check_admission(self, request_id: Id, method: str) -> None:
        problem: tuple[int, str] | None = None
        if request_id in self._live:
            problem = INVALID_REQUEST, f"id {request_id!r} belongs to a request still running"
        elif self._life is _Life.NEW and method != "initialize":
            problem = NOT_INITIALIZED, f"'{method}' came before 'initialize'"
        elif self._life is not _Life.NEW and method == "initialize":
            problem = INVALID_REQUEST, "the server is initialized already"
        elif self._life is _Life.SHUT_DOWN:
            problem = INVALID_REQUEST, f"'{method}' came after 'shutdown'"
        elif len(self._live) >= MAX_LIVE_REQUESTS:
            problem = SERVER_CANCELLED, f"{MAX_LIVE_REQUESTS} requests are running already"
        if problem is not None:
            raise RpcError(*problem, request_id)

    def _enter_life(self, method: str) -> None:
        if method == "initialize":
            self._life = _Life.RUNNING
        elif method == "shutdown":
            self._life = _Life.SHUT_DOWN
            for live in self._live.values():
                live.cancel_code = SERVER_CANCELLED
                live.task.cancel()

    def _settle(self, request_id: Id, method: str, task: "asyncio.Future[Any]") -> None:
        live = self._live.pop(request_id)
        if self.exit_code is not None:
            return
        if task.cancelled():
            self._send_error(request_id, RpcError(live.cancel_code, "the request was cancelled"))
        elif (error := task.exception()) is not None:
            self._send_error(request_id, self._to_error(method, error))
        else:
            self._reply(request_id, task.result())

    def _take_notification(self, method: str, params: _RawParams) -> None:
        if method == "exit":
            self.exit(0 if self._life is _Life.SHUT_DOWN else 1)
        elif method == "$/cancelRequest":
            self._cancel(params)
        elif self._life is not _Life.RUNNING:
            log.info("'%s' was ignored: the server is not running", method)
        elif (handler := self._find_handler(method)) is not None:
            self._run_notification(method, handler, params)
        elif not method.startswith("$/"):
            log.info("unknown notification '%s' was ignored", method)

    def _run_notification(self, method: str, handler: Handler, params: _RawParams) -> None:
        try:
            result = handler(self._decode_params(method, params))
        except Exception as error:
            log.error("'%s' had no effect: %s", method, self._to_error(method, error).message)
            return
        if asyncio.iscoroutine(result):
            self.spawn(result, method)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> "asyncio.Task[Any]":
        """Run work nobody waits for; a failure is logged under `name`."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(lambda done: self._report_background(done, name))
        return task

    def _report_background(self, task: "asyncio.Future[Any]", name: str) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("'%s' failed: %s", name, self._to_error(name, error).message)

    def _cancel(self, params: _RawParams) -> None:
        try:
            request_id = _CANCEL.decode(b"" if params is msgspec.UNSET else params).id
        except _UNREADABLE as error:
            log.warning("'$/cancelRequest' was ignored: %s", error)
            return
        if (live := self._live.get(request_id)) is not None:
            live.task.cancel()

    def _decode_params(self, method: str, params: _RawParams) -> Any:
        raw = b"null" if params is msgspec.UNSET else params
        try:
            return self._decoders.get(method, _ANY).decode(raw)
        except msgspec.ValidationError as error:
            raise RpcError(INVALID_PARAMS, f"params of '{method}': {error}") from None
        except _UNREADABLE as error:
            raise RpcError(
                PARSE_ERROR, f"params of '{method}' are no valid JSON: {error}"
            ) from None

    # --- outgoing ---

    def notify(self, method: str, params: Any) -> None:
        """Send a notification."""
        self._send({"jsonrpc": "2.0", "method": method, "params": self._to_wire(params)})

    async def ask(self, method: str, params: Any, timeout_s: float = 10.0) -> Any:
        """Send a request and await the client's answer as plain data.

        Raises RpcError with what the client answered, TimeoutError where it did not.
        """
        self._n_asked += 1
        request_id = f"flash-{self._n_asked}"
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked[request_id] = answer
        body = {"jsonrpc": "2.0", "id": request_id, "method": method}
        self._send({**body, "params": self._to_wire(params)})
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        finally:
            self._asked.pop(request_id, None)

    def _take_response(self, message: _Envelope) -> None:
        answer = self._asked.get(message.id)
        if answer is None or answer.done():
            log.info("an answer to unknown id %r was ignored", message.id)
            return
        try:
            error = None if message.error is msgspec.UNSET else _ANY.decode(message.error)
            result = None if message.result is msgspec.UNSET else _ANY.decode(message.result)
        except _UNREADABLE as problem:
            error, result = {"message": f"an unreadable answer: {problem}"}, None
        if error is None:
            answer.set_result(result)
            return
        detail = cast("dict[str, Any]", error) if isinstance(error, dict) else {}
        code = detail.get("code")
        answer.set_exception(
            RpcError(code if isinstance(code, int) else INTERNAL_ERROR, str(detail.get("message")))
        )

    def _reply(self, request_id: Id, result: Any) -> None:
        try:
            self._send({"jsonrpc": "2.0", "id": request_id, "result": self._to_wire(result)})
        except Exception as error:  # a result of ours that cannot be encoded must not be silence
            self._send_error(request_id, self._to_error("reply", error))

    def _send_error(self, request_id: Id | None, error: RpcError) -> None:
        detail = {"code": error.code, "message": error.message}
        self._send({"jsonrpc": "2.0", "id": request_id, "error": detail})

    def _send(self, message: dict[str, Any]) -> None:
        self.write(frame(msgspec.json.encode(message)))


def _nowhere(data: bytes) -> None:
    raise RuntimeError(f"{len(data)} bytes to send before the peer was connected")


def _ignore_exit(code: int) -> None:
    log.debug("the conversation ended with code %d", code)


def _decode_message(body: bytes) -> _Envelope:
    """Read and validate the envelope. Raises RpcError, with the request's id where it has one."""
    message = _read_envelope(body)
    request_id = message.id if _is_id(message.id) else None
    if message.jsonrpc != "2.0":
        raise RpcError(INVALID_REQUEST, 'expected "jsonrpc": "2.0"', request_id)
    is_null_answer = message.id is None and message.error is not msgspec.UNSET
    if message.id is not msgspec.UNSET and request_id is None and not is_null_answer:
        raise RpcError(INVALID_REQUEST, "expected an id that is a number or a string")
    if message.method is msgspec.UNSET:
        if message.result is msgspec.UNSET and message.error is msgspec.UNSET:
            raise RpcError(INVALID_REQUEST, "expected a method, a result or an error", request_id)
        if message.id is msgspec.UNSET:
            raise RpcError(INVALID_REQUEST, "expected an id beside the result or error")
    elif not isinstance(message.method, str):
        raise RpcError(INVALID_REQUEST, "expected a method that is a string", request_id)
    return message


def _read_envelope(body: bytes) -> _Envelope:
    try:
        return _ENVELOPE.decode(body)
    except msgspec.ValidationError as error:
        raise RpcError(INVALID_REQUEST, f"expected one message object: {error}") from None
    except _UNREADABLE as error:
        repaired = _without_lone_surrogates(body)
        if repaired in (None, body):
            raise RpcError(PARSE_ERROR, f"not valid JSON: {error}") from None
    return _read_envelope(repaired)


def _without_lone_surrogates(body: bytes) -> bytes | None:
    """Replace escaped lone surrogates by U+FFFD; None where that is not what is wrong.

    Editors that keep text in UTF-16 can send half a character. The replacement has the same
    length in each of the protocol's encodings, so positions stay right.
    """
    if b"\\ud" not in body.lower():
        return None
    try:
        text = json.dumps(json.loads(body), ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)
