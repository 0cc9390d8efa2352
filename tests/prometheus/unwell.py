"""A daemon to which everything happens that `contrib/prometheus/alerts.yml` has an alert for.

`shortened` gives the same alerts with small figures. `Unwell` starts a sandbox, a proxy that can change its clock, and a daemon with
one agent for each trouble.
"""

import json
import os
import re
import socket
import subprocess
import threading
import time
import urllib.request
from email.utils import formatdate

# One agent for each trouble that an agent can have.
AGENTS = ["refused", "ruleless", "paused", "away", "stale", "asking"]
SHORT = {"> 86400": "> 2", "> 1080": "> 8"}


def shortened(alerts):
    """The alerts, so that each fires after a second or two."""
    for figure, short in SHORT.items():
        assert alerts.count(figure) == 1, f"`{figure}` is not in the alerts once"
        alerts = alerts.replace(figure, short)
    return re.sub(r"for: \d+m", "for: 1s", alerts)


def identity(number):
    return f"0d9c8e3a-3333-4a0e-9d57-6f1f2b7c{number:04}"


def relay(listener, target, ahead):
    """Passes connections on to the target. Once `ahead` is set, the `Date` of its replies is a day ahead."""

    def pass_on(source, sink, change):
        try:
            while piece := source.recv(65536):
                sink.sendall(change(piece))
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def tomorrow(piece):
        # `Date` has a fixed form, so the length stays.
        date = formatdate(time.time() + 86400, usegmt=True).encode()
        return re.sub(rb"(?i)(\r\ndate: )[^\r]{29}(?=\r\n)", lambda m: m[1] + date, piece) if ahead.is_set() else piece

    def accept():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(target)
            except OSError:
                client.close()
                continue
            threading.Thread(target=pass_on, args=(client, server, lambda piece: piece), daemon=True).start()
            threading.Thread(target=pass_on, args=(server, client, tomorrow), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


class Unwell:
    def __init__(self, binary, stage, ports, running, wait):
        self.binary, self.site, self.running, self.wait = binary, os.path.join(stage, "unwell"), running, wait
        api, self.metrics, closed = ports
        self.sandbox, self.url = f"http://127.0.0.1:{api}", f"http://127.0.0.1:{self.metrics}/metrics"
        os.mkdir(self.site)
        owner = '[[users]]\nid = "0d9c8e3a-1111-4a0e-9d57-6f1f2b7c0001"\nkey = "key-of-the-owner"\nhandle = "ops"\nname = "Ops"\n'
        world = [owner] + [
            f'[[agents]]\nid = "{identity(n)}"\nkey = "key-of-agent-{name}"\nhandle = "ops/{name}"\nname = "{name}"\n'
            for n, name in enumerate(AGENTS)]
        self.write("world.toml", "".join(world))
        self.start("sandbox", "sandbox", "--listen", f"127.0.0.1:{api}", "--world", self.path("world.toml"))
        self.wait("the second sandbox listens", lambda: identity(0) in open(self.path("sandbox.log")).read())
        listener = socket.create_server(("127.0.0.1", 0))
        self.ahead = threading.Event()
        relay(listener, ("127.0.0.1", api), self.ahead)
        agents = [
            f'[[agents]]\nid = "{identity(n)}"\napi_key_file = "{name}.key"\nrules = "{self.rules(name)}"\n'
            for n, name in enumerate(AGENTS)]
        self.write("doorman.toml", (
            f'[platform]\nurl = "http://127.0.0.1:{listener.getsockname()[1]}"\n[ledger]\npath = "ledger.db"\n'
            f'[control]\npath = "doorman.sock"\n[metrics]\nlisten = "127.0.0.1:{self.metrics}"\n'
            f'[timing]\nlist_live = "2s"\nlist_away = "2s"\nbackoff_max = "2s"\n'
            f'[deciders.screen]\nurl = "http://127.0.0.1:{closed}/"\n'
            f'[[notify]]\nname = "ops"\nkind = "command"\ncommand = ["/usr/bin/false"]\n' + "".join(agents)))
        for name in AGENTS:
            self.write(f"{name}.key", "key-of-nobody" if name == "refused" else f"key-of-agent-{name}")
        self.write("rules.toml", 'version = 1\n[policy]\nmode = "enforce"\n[rules.unsure]\nthen = "defer"\n'
                                 'when = { kind = "agent" }\nask = "screen"\n')
        self.write("broken.toml", 'version = 1\n[rules.friends]\nthen = "aprove"\n')
        self.fault("upgrade", "status", "away", code=500)
        self.daemon = self.start("daemon", "--config", self.path("doorman.toml"), "run")

    def path(self, name):
        return os.path.join(self.site, name)

    def rules(self, agent):
        return "broken.toml" if agent == "ruleless" else "rules.toml"

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)
        os.chmod(self.path(name), 0o600)

    def start(self, log, *command):
        with open(self.path(f"{log}.log"), "w") as file:
            self.running.append(subprocess.Popen([self.binary, *command], stdout=file, stderr=file))
        return self.running[-1]

    def log(self):
        with open(self.path("daemon.log")) as file:
            return file.read()

    def fault(self, at, what, agent, **more):
        fault = {"at": at, "do": what, "count": 0, "agent": f"ops/{agent}", **more}
        request = urllib.request.Request(f"{self.sandbox}/_sandbox/faults", json.dumps([fault]).encode(),
                                         {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=10).close()

    def doorman(self, *command, code=0):
        done = subprocess.run([self.binary, "--config", self.path("doorman.toml"), *command], capture_output=True, text=True)
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"

    def fall_ill(self):
        """Everything that the following two and the stop do not do, once the agents are there."""
        def page():
            try:
                with urllib.request.urlopen(self.url, timeout=10) as answer:
                    return answer.read().decode()
            except OSError:
                return ""

        # The one without rules has a connection as well.
        self.wait("four agents are live", lambda: 'doorman_agents{state="live"} 4' in page())
        self.doorman("pause", "--agent", "ops/paused")
        self.fault("list", "status", "stale", code=500)
        subprocess.run([self.binary, "sandbox", "request", "nobody/at-all", "--to", "ops/asking", "--url", self.sandbox], check=True,
                       stdout=subprocess.DEVNULL)
        self.write("rules.toml", 'version = 1\n[rules.unsure]\nthen = "maybe"\n')
        with open(self.path("doorman.toml"), "a") as file:
            file.write("no_such_key = 1\n")
        # Refused, and what was in force stays.
        subprocess.run([self.binary, "reload", "--socket", self.path("doorman.sock")], capture_output=True)

    def differ_from_the_platform(self):
        """Without a clock that it trusts, the daemon asks no decider: so this comes late."""
        self.ahead.set()

    def block_the_ledger(self):
        os.rename(self.path("ledger.db"), self.path("elsewhere.db"))

    def stop(self):
        self.daemon.terminate()
