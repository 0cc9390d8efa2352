"""One `doorman sandbox` for one test: a process on a free port, its control calls, and its world."""

import asyncio
import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ALICE = "7d0a0000-0000-4000-8000-00000000000a"
BOB = "7d0a0000-0000-4000-8000-00000000000b"
ALICE_KEY = "conformance-alice-key"
BOB_KEY = "conformance-bob-key"
JOHN_KEY = "conformance-john-key"
ALICE_HANDLE = "john/alice"
BOB_HANDLE = "maria/bob"

WORLD = f"""
[[users]]
id = "7d0a0000-0000-4000-8000-000000000001"
key = "{JOHN_KEY}"
handle = "john"
name = "John"

[[users]]
id = "7d0a0000-0000-4000-8000-000000000002"
key = "conformance-maria-key"
handle = "maria"
name = "Maria"

[[agents]]
id = "{ALICE}"
key = "{ALICE_KEY}"
handle = "{ALICE_HANDLE}"
name = "Alice"
description = "Waits at a door"

[[agents]]
id = "{BOB}"
key = "{BOB_KEY}"
handle = "{BOB_HANDLE}"
name = "Bob"
"""

# How long anything may take before a test gives up on it.
PATIENCE = 30.0


class Sandbox:
    """The process; `url` is its origin, `ws_url` its socket."""

    def __init__(self, *arguments):
        self.directory = tempfile.TemporaryDirectory(prefix="doorman-conformance-")
        world = os.path.join(self.directory.name, "world.toml")
        with open(world, "w", encoding="utf-8") as file:
            file.write(WORLD)
        self.process = subprocess.Popen(
            [os.environ["DOORMAN"], "sandbox", "--listen", "127.0.0.1:0", "--world", world, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        first = self.process.stdout.readline().strip()
        said = "listening on "
        if not first.startswith(said):
            raise RuntimeError(f"the sandbox said {first!r}")
        self.url = first[len(said) :]
        self.ws_url = self.url.replace("http", "ws", 1) + "/api/v1/socket/websocket"

    def close(self):
        if self.process.returncode is not None:
            return
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.directory.cleanup()

    def control(self, method, path, body=None):
        """One control call; what it answers, or raises with what it said."""
        request = urllib.request.Request(
            f"{self.url}/_sandbox/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
                text = reply.read()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.code} {error.read()!r}") from None
        return json.loads(text) if text else None

    def state(self):
        return self.control("GET", "state")

    def ask(self, to=ALICE, **fields):
        """A stranger's request; its id."""
        return self.control("POST", "requests", {"to": to, **fields})["ids"][0]

    def settle(self, request, status):
        self.control("POST", f"requests/{request}", {"status": status})

    def fault(self, **fault):
        self.control("POST", "faults", [fault])

    def kick(self, agent=ALICE, **more):
        self.control("POST", "kick", {"agent": agent, **more})

    def status_of(self, request):
        return next(row["status"] for row in self.state()["requests"] if row["id"] == request)


async def until(condition, what):
    """Waits until `condition()` is true, and says what never came."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"never: {what}")
        await asyncio.sleep(0.01)
