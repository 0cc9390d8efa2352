"""One `doorman run` for one test: a process with a directory of its own, and what it says."""

import asyncio
import json
import os
import tempfile

from sandbox import PATIENCE

AGENT = "7d0a0000-0000-4000-8000-00000000000a"
KEY = "conformance-porter-key"
TOPIC = f"agent_contacts:{AGENT}"

RULES = """
version = 1
[policy]
mode = "enforce"
no_match = "defer"
[rules.friends]
then = "approve"
when = { handle = "friends/*" }
[rules.foes]
then = "reject"
when = { handle = "foes/*" }
"""

TIMING = {
    "heartbeat": "100ms",
    "dead_after": "5s",
    "join_timeout": "5s",
    "backoff_min": "20ms",
    "backoff_max": "200ms",
    "list_live": "1h",
    "list_away": "300ms",
    "yield_retry": "200ms",
    "ghost_retry": "100ms",
    "drain": "2s",
}


class Door:
    """The daemon; start it with `async with`."""

    def __init__(self, rest_url, socket_url, *, key=KEY, connection="yield", **timing):
        self.key = key
        self.directory = tempfile.TemporaryDirectory(prefix="doorman-conformance-")
        figures = "".join(f'{name} = "{figure}"\n' for name, figure in (TIMING | timing).items())
        self.write("rules.toml", RULES)
        self.write("agent.key", key)
        self.write(
            "doorman.toml",
            f'[platform]\nrest_url = "{rest_url}"\nsocket_url = "{socket_url}"\n'
            f'[[agents]]\nid = "{AGENT}"\napi_key_file = "agent.key"\nrules = "rules.toml"\nconnection = "{connection}"\n'
            '[ledger]\npath = "ledger.db"\n[control]\npath = "run/doorman.sock"\n'
            f'[log]\nformat = "json"\nlevel = "debug"\n[timing]\n{figures}',
        )
        self.lines = []
        self.news = asyncio.Condition()

    def path(self, name):
        return os.path.join(self.directory.name, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path(name), 0o600)

    async def __aenter__(self):
        surroundings = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DOORMAN_", "BAND_")) and not name.lower().endswith("_proxy")
        }
        self.process = await asyncio.create_subprocess_exec(
            os.environ["DOORMAN"],
            "run",
            "--config",
            self.path("doorman.toml"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=surroundings,
        )
        self.reader = asyncio.create_task(self.read())
        return self

    async def __aexit__(self, *_):
        if self.process.returncode is None:
            self.process.terminate()
        await asyncio.wait_for(self.process.wait(), PATIENCE)
        await self.reader
        self.directory.cleanup()
        said = json.dumps(self.lines)
        assert self.key not in said, "the key is in the log"
        assert self.process.returncode == 0, f"the daemon ended with {self.process.returncode}"

    async def read(self):
        async for line in self.process.stderr:
            async with self.news:
                try:
                    self.lines.append(json.loads(line))
                except ValueError:
                    self.lines.append({"event": "unreadable", "line": line.decode(errors="replace")})
                self.news.notify_all()

    async def says(self, event, **fields):
        """The first line that is so and was not asked for before, waiting for it if need be."""

        def find():
            for line in self.lines:
                if line["event"] == event and "asked" not in line and fields.items() <= line.items():
                    line["asked"] = True
                    return line
            return None

        async with self.news:
            try:
                found = find()
                while found is None:
                    await asyncio.wait_for(self.news.wait(), PATIENCE)
                    found = find()
                return found
            except (TimeoutError, asyncio.TimeoutError):
                said = "\n".join(json.dumps(line) for line in self.lines)
                raise AssertionError(f"it never said {event} {fields}:\n{said}") from None

    async def live(self):
        await self.says("state_changed", state="live")

    def count(self, event, **fields):
        return sum(1 for line in self.lines if line["event"] == event and fields.items() <= line.items())
