"""A TCP proxy with the troubles of networks: it stops forwarding, cuts answers off, or answers 503 by itself."""

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

UNKNOWN = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 8\r\nConnection: close\r\n\r\nwho asks"
REQUEST = re.compile(rb"[A-Z]+ [^ ]+ HTTP/1\.1\r\n")
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy"


class Proxy:
    """Forwards bytes between its own port and a server's, until it is frozen or told to make trouble."""

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._flows = threading.Event()
        self._flows.set()
        self._sockets = [self._listening]
        self.accepted = 0
        """Connections so far."""
        self.most_bytes: int | None = None
        """Bytes of the server's answers on one connection after which it is reset; None: all are forwarded."""
        self.busy_for: bytes | None = None
        """Requests that hold these bytes are answered 503 and do not reach the server; None: all reach it."""
        self.login: bytes | None = None
        """Requests without these bytes are answered 401 and do not reach the server; None: all reach it."""
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        """Stop forwarding, without a word to either side."""
        self._flows.clear()

    def thaw(self) -> None:
        """Forward again, what was held back first."""
        self._flows.set()

    def close(self) -> None:
        """End every connection."""
        self._flows.set()
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self.accepted += 1
                server = socket.create_connection(self._server)
                self._sockets += [client, server]
                threading.Thread(target=self._ask, args=(client, server), daemon=True).start()
                threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                self._flows.wait()
                if (refusal := self._refusal(data)) is not None:
                    client.sendall(refusal)
                    client.shutdown(socket.SHUT_WR)
                    return
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _refusal(self, data: bytes) -> bytes | None:
        if self.busy_for is not None and self.busy_for in data:
            return BUSY
        is_stranger = self.login is not None and REQUEST.match(data) is not None and self.login not in data
        return UNKNOWN if is_stranger else None

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while data := server.recv(65536):
                self._flows.wait()
                passed += len(data)
                if self.most_bytes is not None and passed > self.most_bytes:
                    client.sendall(data[: len(data) - (passed - self.most_bytes)])
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.shutdown(socket.SHUT_RD)  # wakes who waits for requests, and holds the socket open by it
                    client.close()  # with nothing to linger for: the other side sees a reset
                    return
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)


@contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    """Give a proxy before a server on this machine."""
    opened = Proxy(port)
    try:
        yield opened
    finally:
        opened.close()
