"""One scenario, two clients: who is answered, who is lost, how late, and at what cost. What is true is what the sandbox says."""

import argparse
import http.client
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sandbox import ALICE, ALICE_KEY, BOB_KEY, Sandbox

LATE = 5.0
RULES = 'version = 1\n[policy]\nmode = "enforce"\nno_match = "defer"\n[rules.friends]\nthen = "approve"\nwhen = { handle = "friends/*" }\n'


class Client:
    """A client's process, and what it has cost over all its lives."""

    def __init__(self, command, environment):
        self.command, self.environment = command, environment
        self.cpu, self.resident, self.anonymous, self.process = 0.0, 0, 0, None

    def start(self):
        self.process = subprocess.Popen(
            self.command,
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def look(self):
        """Keeps the most memory that was seen (bytes): resident, which the kernel remembers, and anonymous, which counts at each look."""
        try:
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    self.resident = max(self.resident, int(line.split()[1]) * 1024)
                if line.startswith("RssAnon:"):
                    self.anonymous = max(self.anonymous, int(line.split()[1]) * 1024)
        except OSError:
            raise RuntimeError("the client ended by itself") from None

    def stop(self):
        self.look()
        self.process.send_signal(signal.SIGTERM)
        # The times of a child that has ended are those of its whole life.
        _, _, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = 0
        self.cpu += usage.ru_utime + usage.ru_stime


def doorman(sandbox, directory):
    (directory / "rules.toml").write_text(RULES)
    (directory / "agent.key").write_text(ALICE_KEY)
    (directory / "doorman.toml").write_text(
        f'[platform]\nurl = "{sandbox.url}"\n[[agents]]\nid = "{ALICE}"\napi_key_file = "agent.key"\nrules = "rules.toml"\n'
        '[answers]\nin_flight = 64\nper_second = 0\n[ledger]\npath = "ledger.db"\n[control]\npath = "run/doorman.sock"\n'
    )
    return Client([os.environ["DOORMAN"], "run", "--config", str(directory / "doorman.toml")], {})


def sdk(sandbox, _directory):
    environment = {"BAND_AGENT_ID": ALICE, "BAND_API_KEY": ALICE_KEY, "BAND_WS_URL": sandbox.ws_url, "BAND_REST_URL": sandbox.url}
    return Client([sys.executable, str(Path(__file__).with_name("sdk_client.py"))], environment)


class Scene:
    def __init__(self, sandbox, client, patience):
        self.sandbox, self.client, self.patience = sandbox, client, patience
        self.asked = {}
        self.phases = {}
        self.connection = http.client.HTTPConnection(sandbox.url.removeprefix("http://"))

    def call(self, method, path, body=None):
        self.connection.request(method, path, None if body is None else json.dumps(body), {"X-API-Key": BOB_KEY})
        return json.loads(self.connection.getresponse().read() or b"null")

    def ask(self, phase, count=1):
        before = time.time()
        body = {"to": ALICE, "from_handle": "friends/f-{n}", "from_name": "A friend", "count": count, "first": len(self.asked) + 1}
        for request in self.call("POST", "/_sandbox/requests", body)["ids"]:
            self.asked[request] = before
            self.phases[request] = phase

    def kick(self, code):
        return "error" not in (self.call("POST", "/_sandbox/kick", {"agent": ALICE, "code": code}) or {})

    def joined(self):
        end = time.monotonic() + 60
        while not any(f"agent_contacts:{ALICE}" in live["topics"] for live in self.overview()["live"]):
            if time.monotonic() > end:
                raise RuntimeError("the client has not joined in a minute")
            time.sleep(0.05)

    def overview(self):
        return self.call("GET", "/_sandbox/state?requests=false")

    def settle(self):
        """Until nothing is pending, or nothing has moved for so long."""
        last, moved = None, time.monotonic()
        while time.monotonic() - moved < self.patience:
            pending = self.call("GET", "/_sandbox/counts")["pending"]
            self.client.look()
            if pending == 0:
                return
            if pending != last:
                last, moved = pending, time.monotonic()
            time.sleep(0.02)

    def offset(self):
        """The time of day at the sandbox's zero: its journal notes a listing that is made here."""
        before = time.time()
        self.call("GET", "/api/v1/agent/contacts/requests")
        after = time.time()
        return (before + after) / 2 - self.overview()["lists"][-1]["at_us"] / 1e6


def steady(scene, count, rate, breaks):
    """`count` requests at `rate` a second; the connection breaks at each of these, or as soon after as there is one."""
    began = time.monotonic()
    codes = list(zip(breaks, (1001, 0, 1000), strict=True))
    for number in range(count):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        if codes and number >= codes[0][0] and scene.kick(codes[0][1]):
            codes.pop(0)
        scene.ask("steady")
    for _, code in codes:
        # A client that is slow to come back has its disconnects nonetheless.
        scene.joined()
        scene.kick(code)
    scene.settle()


def play(make, options):
    sandbox = Sandbox()
    with tempfile.TemporaryDirectory(prefix="doorman-side-by-side-") as directory:
        client = make(sandbox, Path(directory))
        scene = Scene(sandbox, client, options.patience)
        try:
            client.start()
            scene.joined()
            count = options.steady
            steady(scene, count, options.rate, [count // 5, count // 2, count * 4 // 5])
            scene.joined()
            scene.ask("burst", options.burst)
            scene.settle()
            client.stop()
            scene.ask("restart", options.away)
            client.start()
            scene.joined()
            scene.settle()
            client.stop()
            return client, scene, scene.offset(), sandbox.state()
        finally:
            if client.process and client.process.returncode is None:
                client.process.kill()
                client.process.wait()
            sandbox.close()


def share(sorted_values, part):
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * part))] if sorted_values else float("nan")


def summary(client, scene, offset, state):
    waits = {"steady": [], "burst": [], "restart": []}
    counts = {"answered": 0, "lost": 0, "late": 0, "twice": 0}
    for request in state["requests"]:
        good = [answer for answer in request["answers"] if answer["http"] == 200]
        counts["twice"] += request["answered"] > 1
        if request["status"] != "approved" or not good:
            counts["lost"] += 1
            continue
        counts["answered"] += 1
        wait = offset + good[0]["at_us"] / 1e6 - scene.asked[request["id"]]
        waits[scene.phases[request["id"]]].append(wait)
        counts["late"] += wait > LATE
    for values in waits.values():
        values.sort()

    def lost(phase):
        asked = sum(1 for name in scene.phases.values() if name == phase)
        return f"{asked - len(waits[phase]):,} of {asked:,}"

    def quantiles(phase):
        return " / ".join(f"{share(waits[phase], part) * 1e3:,.1f} ms" for part in (0.5, 0.99, 1.0))

    return [
        ("answered", f"{counts['answered']:,} of {len(scene.asked):,}"),
        ("never answered", f"{counts['lost']:,}"),
        ("… of those at a steady rate, over three disconnects", lost("steady")),
        ("… of those in the burst", lost("burst")),
        ("… of those that asked during the restart", lost("restart")),
        (f"answered later than {LATE:.0f} s", f"{counts['late']:,}"),
        ("answered more than once", f"{counts['twice']:,}"),
        ("latency at a steady rate (p50 / p99 / worst)", quantiles("steady")),
        ("latency in the burst (p50 / p99 / worst)", quantiles("burst")),
        ("answered a second in the burst", f"{len(waits['burst']) / max(waits['burst'], default=float('nan')):,.0f}"),
        ("CPU time", f"{client.cpu:.1f} s"),
        ("… for 10,000 answers", f"{client.cpu / max(counts['answered'], 1) * 10_000:.1f} s"),
        ("most memory (resident / anonymous)", f"{client.resident / 2**20:.0f} / {client.anonymous / 2**20:.0f} MiB"),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steady", type=int, default=500, help="requests at a steady rate, with three disconnects")
    parser.add_argument("--rate", type=float, default=50, help="of them a second")
    parser.add_argument("--burst", type=int, default=8000, help="requests at once")
    parser.add_argument("--away", type=int, default=100, help="requests while the client restarts")
    parser.add_argument("--patience", type=float, default=30, help="seconds without any answer before the rest counts as lost")
    options = parser.parse_args()
    version = subprocess.run([os.environ["DOORMAN"], "--version"], capture_output=True, text=True, check=True).stdout.strip()
    names = [version, f"band-sdk {importlib.metadata.version('band-sdk')}"]
    columns = []
    for name, make in zip(names, (doorman, sdk), strict=True):
        print(f"{name} …", file=sys.stderr)
        columns.append(summary(*play(make, options)))
    print(
        f"{options.steady} requests at {options.rate:g}/s with three disconnects, a burst of {options.burst:,}, "
        f"a restart while {options.away} ask; {os.cpu_count()} cores, Python {platform.python_version()}, Linux {platform.release()}\n"
    )
    print(f"| | {names[0]} | {names[1]}, CALLBACK |\n| --- | --- | --- |")
    for (row, ours), (_, theirs) in zip(*columns, strict=True):
        print(f"| {row} | {ours} | {theirs} |")
    print("\nLatency is from asking to a good answer and counts only what was answered, requests made while a client was away included.")


main()
