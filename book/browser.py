"""A browser, and a server for it to look at: what measuring, printing and testing a site share."""

from __future__ import annotations

import functools
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

# No name but this machine's number is known to the browser: what a page asks of another place it
# does not get, as on a train.
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
# The first is Debian's Chromium without the parts that windows need: it loads a page in two thirds
# of the time.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    OFFLINE,
)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a page that was closed while it loaded."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve `folder` on a free local port; yield its address, which ends in a slash."""
    handler = functools.partial(_Quiet, directory=str(folder))
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def chromium() -> str:
    """The program: `$CHROMIUM`, or the first that is installed.

    Raises:
        FileNotFoundError: there is none; the message says what would do.
    """
    named = os.environ.get("CHROMIUM")
    program = shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        looked = f"CHROMIUM={named}" if named else ", ".join(NAMES)
        raise FileNotFoundError(
            f"no browser: looked for {looked}. Install one (on Debian: apt-get install chromium), "
            "or name one: CHROMIUM=/path/to/chromium"
        )
    return program


@contextmanager
def launched() -> Iterator[Browser]:
    """A headless Chromium, cut off from the network, closed at the end.

    Raises:
        FileNotFoundError: there is none, see `chromium`.
    """
    program = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()
