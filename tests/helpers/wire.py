"""A session of the app without a browser: what a page of Streamlit says over its WebSocket, and what it is told."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect


@dataclass
class Told:
    """What one run of a page sent: every byte, the query that it left, seconds until it was over, and exceptions."""

    data: bytes = b""
    query: str = ""
    seconds: float = 0.0
    exceptions: list[str] = field(default_factory=list)
    finished: bool = False


def status(port: int, headers: Mapping[str, str], origin: str | None = None, path: str = "/_stcore/stream") -> int:
    """The HTTP status that an attempt to open the WebSocket gets; 101 where it opens. `headers` may name a Host."""
    try:
        with connect(
            f"ws://{headers.get('Host', f'127.0.0.1:{port}')}{path}",
            origin=origin,
            additional_headers={name: value for name, value in headers.items() if name != "Host"},
            sock=socket.create_connection(("127.0.0.1", port)),
            proxy=None,
            open_timeout=20,
        ):
            return 101
    except InvalidStatus as refused:
        return int(refused.response.status_code)


class Session:
    """One session. `cookie`: a Cookie header; `origin`: the server's own where None."""

    def __init__(self, port: int, *, cookie: str = "", origin: str | None = None) -> None:
        self._connecting = connect(
            f"ws://127.0.0.1:{port}/_stcore/stream",
            origin=origin or f"http://127.0.0.1:{port}",
            subprotocols=["streamlit"],
            additional_headers={"Cookie": cookie} if cookie else {},
            proxy=None,
            max_size=None,
            open_timeout=60,
            ping_interval=None,
        )

    def __enter__(self) -> Self:
        self.socket: ClientConnection = self._connecting.__enter__()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.socket.close()

    def run(
        self, page: str = "", query: str = "", widgets: Mapping[str, bool] | None = None, timeout: float = 120.0
    ) -> Told:
        """Runs a page by its name in the address, as opening that address does, and waits until it is over."""
        message = BackMsg()
        message.rerun_script.query_string = query
        message.rerun_script.page_name = page
        for name, value in (widgets or {}).items():
            widget = message.rerun_script.widget_states.widgets.add()
            widget.id, widget.bool_value = name, value
        began = time.monotonic()
        self.socket.send(message.SerializeToString())
        told = Told(query=query)
        while (left := began + timeout - time.monotonic()) > 0:
            try:
                data = self.socket.recv(timeout=left)
            except TimeoutError:
                break
            assert isinstance(data, bytes)
            told.data += data
            said = ForwardMsg.FromString(data)
            kind = said.WhichOneof("type")
            if kind == "page_info_changed":
                told.query = said.page_info_changed.query_string
            if kind == "delta" and said.delta.new_element.WhichOneof("type") == "exception":
                told.exceptions.append(said.delta.new_element.exception.type)
            if kind == "script_finished" and said.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                told.finished = True
                break
        told.seconds = time.monotonic() - began
        return told
