#!/usr/bin/env python3
"""A decider in sixty lines: says `reject` to what looks like an advertisement, and `defer` to everything else.
Serves on the socket that systemd hands over (doorman-screen.socket), or `screen.py [PORT]`, or `screen.py --unix PATH`."""
import json, os, re, socket, socketserver, sys
from http.server import BaseHTTPRequestHandler

LINK = re.compile(r"https?://|www\.", re.I)
OFFER = re.compile(r"\b(seo|crypto|casino|discount|backlinks?|followers)\b", re.I)


def decide(question):
    """The verdict and the reason. What a stranger says is data: it is searched, and never obeyed."""
    message = question["request"].get("message") or ""
    if OFFER.search(message):
        return "reject", "looks like an offer"
    if len(LINK.findall(message)) > 2:
        return "reject", "more than two links"
    return "defer", "nothing speaks against it, and nothing for it"


class Handler(BaseHTTPRequestHandler):
    timeout = 10

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 < length <= 16384:
            return self.send_error(413)
        question = json.loads(self.rfile.read(length))
        verdict, reason = decide(question)
        body = json.dumps({"id": question["id"], "verdict": verdict, "reason": reason[:200]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "doorman"


def serve(handler, arguments, port):
    """Serves on what it was given: systemd's socket, a Unix socket, or this port on loopback."""
    if os.environ.get("LISTEN_FDS"):
        listener = socket.socket(fileno=3)
    elif arguments[:1] == ["--unix"]:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(arguments[1])
    else:
        listener = socket.create_server(("127.0.0.1", int(arguments[0]) if arguments else port))
    listener.listen(16)
    # Of the listener's own family: the unit allows no other, and the server makes a socket before it is given this one.
    of_listener = {"address_family": listener.family, "daemon_threads": True}
    server = type("Server", (socketserver.ThreadingTCPServer,), of_listener)(None, handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    print("listening on", listener.getsockname(), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(Handler, sys.argv[1:], 9700)
