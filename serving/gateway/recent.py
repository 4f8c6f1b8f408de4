"""Which key asked which request lately. Pure."""

from collections import OrderedDict


class Recent:
    """Who asked what lately: the log holds a request only after a while, and while PostgreSQL is there."""

    def __init__(self, most: int = 50_000) -> None:
        self._most = most
        self._clients: OrderedDict[str, str] = OrderedDict()

    def add(self, request_id: str, client: str) -> None:
        """Remember a request; beyond the limit the oldest is forgotten."""
        self._clients[request_id] = client
        if len(self._clients) > self._most:
            self._clients.popitem(last=False)

    def asked_by(self, request_id: str) -> str | None:
        """Name the key that asked; None: not known any more."""
        return self._clients.get(request_id)
