"""A headless Chromium (Debian's), driven by the DevTools protocol over a pair of pipes: no driver, no library.

The protocol: https://chromedevtools.github.io/devtools-protocol/; with ``--remote-debugging-pipe`` a message is JSON
that ends with a zero byte, to descriptor 3 of the browser and from its descriptor 4.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.requirements import require
from tests.support.waiting import PATIENCE, wait_for

FLAGS = (
    "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--no-proxy-server",
    "--mute-audio", "--hide-scrollbars", "--force-color-profile=srgb",
)  # fmt: skip


class Chromium:
    """One browser with one page."""

    def __init__(self, profile: Path, width: int = 1280, height: int = 800) -> None:
        require("chromium", "chromium")
        inside, self._to = os.pipe()
        self._from, outside = os.pipe()
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (inside, outside)]  # none of them is 3 or 4
        words = [str(shutil.which("chromium")), *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        nothing = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
        actions = [*nothing, *((os.POSIX_SPAWN_DUP2, fd, 3 + number) for number, fd in enumerate(ends))]
        environ = {**os.environ, "HOME": str(profile)}
        self._pid = os.posix_spawn(words[0], words, environ, file_actions=actions, setpgroup=0)
        for fd in (inside, outside, *ends):
            os.close(fd)
        self._session: str | None = None
        self._numbers, self._rest, self.events = itertools.count(1), b"", list[dict[str, Any]]()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def close(self) -> None:
        """End the browser with all its processes."""
        os.close(self._to)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._from)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol; events that come meanwhile are kept in ``events``."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        for answer in self._messages():
            if answer.get("id") == number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self.events.append(answer)
        raise AssertionError(f"{method}: chromium has ended")

    def open(self, url: str) -> None:
        """Open an address in the page."""
        self.call("Page.navigate", url=url)

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, awaited if it is a promise."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression: str, what: str = "") -> None:
        """Wait until an expression is true; an element is, too."""
        wait_for(lambda: self.run(f"Boolean({expression})"), what or expression)

    def text(self, selector: str) -> str:
        """Text of all elements of a selector."""
        found = f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.textContent).join('\\n')"
        return str(self.run(found))

    def shows(self, selector: str, text: str) -> None:
        """Wait until elements of a selector have a text in them."""
        wait_for(lambda: text in self.text(selector), f"{selector} shows {text!r}")

    def click(self, selector: str) -> None:
        """Click in the middle of an element, with the mouse."""
        middle = (
            f"(() => {{ const one = document.querySelector({json.dumps(selector)}); if (!one) return null;"
            " one.scrollIntoView({block: 'center'}); const r = one.getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        where = wait_for(lambda: self.run(middle), f"{selector} is there")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=where[0], y=where[1], button="left", clickCount=1)

    def type(self, text: str) -> None:
        """Type a text into what has the focus."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, code: int = 0) -> None:
        """Press a key, such as ``ArrowDown`` (40) or ``/``."""
        more = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                windowsVirtualKeyCode=code,
                **(more if kind == "keyDown" else {}),
            )

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        """Give the page another size, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def prefer(self, scheme: str) -> None:
        """Prefer ``light`` or ``dark``."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self) -> bytes:
        """The page as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def complaints(self) -> list[str]:
        """Errors and warnings of the page so far: scripts, the console, policies."""
        found = []
        for event in self.events:
            params = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                found.append(str(details.get("exception", {}).get("description", details["text"])))
            elif event.get("method") == "Log.entryAdded":
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            elif event.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append(str(params["args"]))
        return found

    def dialogs(self) -> list[str]:
        """Messages of alert() and its like so far."""
        return [one["params"]["message"] for one in self.events if one.get("method") == "Page.javascriptDialogOpening"]

    def _messages(self) -> Iterator[dict[str, Any]]:
        while True:
            *complete, self._rest = self._rest.split(b"\0")
            for number, one in enumerate(complete):
                self._rest = b"\0".join([*complete[number + 1 :], self._rest])
                yield json.loads(one)
                break
            else:
                if not select.select([self._from], [], [], PATIENCE)[0]:
                    raise AssertionError("chromium does not answer")
                data = os.read(self._from, 1 << 20)
                if not data:
                    return
                self._rest += data
