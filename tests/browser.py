"""A headless Chromium, driven by its DevTools protocol."""

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import aiohttp

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
_SECONDS = 60


class Tab:
    """A page that is open, with what it said and asked for.

    Attributes:
        errors: texts of exceptions and of errors on the console.
        requests: addresses that were asked for.
    """

    def __init__(self, loop, socket):
        self._loop, self._socket, self._number = loop, socket, 0
        self.errors, self.requests = [], []

    def call(self, method, **params):
        """The result of a command of the protocol."""
        return self._loop.run_until_complete(self._call(method, params))

    async def _call(self, method, params):
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            message = await asyncio.wait_for(self._socket.receive_json(), _SECONDS)
            if message.get("id") == self._number:
                assert "error" not in message, message["error"]
                return message["result"]
            self._note(message)

    def _note(self, message):
        method, told = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning"):
            self.errors.append(json.dumps(told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(told["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])

    def run(self, script):
        """What a piece of JavaScript comes to, a promise's value too."""
        told = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def wait(self, script, seconds=_SECONDS):
        """Wait until a piece of JavaScript comes to something true, and return it."""
        end = time.monotonic() + seconds
        # While a page is loading there is nothing to ask.
        script = f"(() => {{ try {{ return {script} }} catch {{ return null }} }})()"
        while not (found := self.run(script)):
            assert time.monotonic() < end, f"{script} is not true after {seconds} s: {self.errors}"
            time.sleep(0.05)
        return found

    def move(self, x, y, kind="mouseMoved"):
        """Move, press or release the mouse at a point of the window."""
        button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def press(self, key, code=0):
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code
            )

    def screenshot(self, path, **params):
        """Write what is seen as PNG."""
        told = self.call("Page.captureScreenshot", format="png", **params)
        Path(path).write_bytes(base64.b64decode(told["data"]))


@contextmanager
def opened(address, size=(1000, 800), *, reduced=False, more=()):
    """A tab of a new browser with a page in it; the browser ends with it."""
    with tempfile.TemporaryDirectory() as home:
        line = [
            *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--remote-debugging-port=0", f"--user-data-dir={home}", "--hide-scrollbars"),
            *("--disable-background-networking", "--disable-component-update", "--no-pings"),
            *("--disable-dev-shm-usage", f"--window-size={size[0]},{size[1]}"),
            *(["--force-prefers-reduced-motion"] if reduced else []),
            *more,
            "about:blank",
        ]
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        loop = asyncio.new_event_loop()
        try:
            port = _port(Path(home, "DevToolsActivePort"), process)
            session, tab = loop.run_until_complete(_attach(loop, port))
            try:
                for name in ("Page", "Runtime", "Log", "Network"):
                    tab.call(f"{name}.enable")
                tab.call("Page.navigate", url=address)
                yield tab
            finally:
                loop.run_until_complete(session.close())
        finally:
            process.kill()
            process.wait()
            loop.close()
            # Its helpers write on for a moment.
            time.sleep(0.2)
            shutil.rmtree(home, ignore_errors=True)
            Path(home).mkdir(exist_ok=True)


def _port(file, process):
    end = time.monotonic() + _SECONDS
    while not file.is_file() or not file.read_text().strip():
        assert process.poll() is None and time.monotonic() < end, "the browser does not start"
        time.sleep(0.05)
    return int(file.read_text().split()[0])


async def _attach(loop, port):
    session = aiohttp.ClientSession()
    async with session.get(f"http://127.0.0.1:{port}/json") as answer:
        pages = [one for one in await answer.json() if one["type"] == "page"]
    socket = await session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=1 << 28)
    return session, Tab(loop, socket)
