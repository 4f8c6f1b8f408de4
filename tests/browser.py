"""A headless Chromium that is driven as a person would: log in, follow links, look, take a picture.

It speaks Chrome's DevTools protocol over one websocket; frames of other origins get sessions of their own.
"""

import base64
import itertools
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.chromium import FLAGS, library_path, program
from tests.waiting import wait_for

PATIENCE_SECONDS = 90


class Refused(Exception):  # noqa: N818 what it says
    """The browser did not do what it was told."""


class Browser:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.events: list[dict[str, Any]] = []
        """Everything that the browser reported: requests, messages of the console, refusals of policies."""
        target = next(each for each in self.send("Target.getTargets")["targetInfos"] if each["type"] == "page")
        self._session = self._attach(target["targetId"])

    def _attach(self, target: str) -> str:
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable", session=session)
        return session

    def send(self, method: str, *, session: str | None = None, **parameters: Any) -> Any:
        """Send a command and give its result; events that come meanwhile are kept."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer = json.loads(self._socket.recv(timeout=PATIENCE_SECONDS))
            if answer.get("id") == number:
                if "error" in answer:
                    raise Refused(method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def tab(self, method: str, **parameters: Any) -> Any:
        """Send a command to the tab."""
        return self.send(method, session=self._session, **parameters)

    def open(self, url: str) -> None:
        """Go to an address."""
        self.tab("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """Give the value of an expression in the page."""
        answer = self.tab("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str) -> Any:
        """Wait until an expression is true in the page, and give its value."""
        return waited(lambda: self._tried(expression), expression)

    def _tried(self, expression: str) -> Any:
        guarded = f"(() => {{ try {{ return {expression} }} catch (e) {{ return null }} }})()"
        try:
            answer = self.tab("Runtime.evaluate", expression=guarded, returnByValue=True)
        except Refused:  # the page is just being changed for another
            return None
        return answer["result"].get("value")

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.tab("Input.insertText", text=text)

    def look(self, *, width: int = 1440, height: int = 900, dark: bool = False) -> None:
        """Set the size of the window, and what the system prefers."""
        self.tab("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        value = "dark" if dark else "light"
        self.tab("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": value}])

    def picture(self, file: Path, *, whole: bool = False) -> None:
        """Take a picture of the window, or of the whole page."""
        shot = self.tab("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(shot["data"]))

    def in_frames(self, expression: str) -> list[Any]:
        """Evaluate an expression in every frame of the page, whatever its origin, beside the frame's own scripts."""
        found = []
        for child in self.tab("Page.getFrameTree")["frameTree"].get("childFrames", []):
            world = self.tab("Page.createIsolatedWorld", frameId=child["frame"]["id"])["executionContextId"]
            answer = self.tab("Runtime.evaluate", expression=expression, contextId=world, returnByValue=True)
            found.append(answer["result"].get("value"))
        for target in self.send("Target.getTargets", filter=[{"type": "iframe"}])["targetInfos"]:  # of other processes
            session = self._attach(target["targetId"])
            answer = self.send("Runtime.evaluate", session=session, expression=expression, returnByValue=True)
            found.append(answer["result"].get("value"))
        return found

    def complaints(self) -> list[str]:
        """Give what a policy refused or a script reported as an error."""
        self.tab("Runtime.evaluate", expression="0")  # takes in what is under way
        found = []
        for event in self.events:
            parameters = event.get("params", {})
            if event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
                found.append(f"{parameters['entry'].get('url', '')} {parameters['entry']['text']}")
        return found


def waited(ask: Callable[[], Any], what: str) -> Any:
    """Ask until the answer is true."""
    return wait_for(ask, what, seconds=PATIENCE_SECONDS)


@contextmanager
def browser() -> Iterator[Browser]:
    """Give a tab of a fresh Chromium; skips the test where none is to be had."""
    path = program()
    with tempfile.TemporaryDirectory(prefix="driftloop-test-chromium-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [path, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0", "--no-proxy-server",
             "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, **library_path(path)},
            start_new_session=True,
        )  # fmt: skip
        assert process.stderr is not None
        try:
            url = None
            while url is None:
                line = process.stderr.readline().decode(errors="replace")
                assert line, "Chromium ended"
                url = re.search(r"DevTools listening on (ws://\S+)", line)
            with connect(url[1], max_size=None, proxy=None) as socket:
                yield Browser(socket)
        finally:
            os.killpg(process.pid, 9)
            process.wait()
