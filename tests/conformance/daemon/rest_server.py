"""The agent API as its documentation has it, on the standard library's HTTP server: written for these tests, from
`docs/platform.md` and the generated client's types, and not from doorman's own sandbox."""

import datetime
import json
import threading
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from door import AGENT, KEY


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat().replace("+00:00", "Z")


def request(handle, **fields):
    """A pending request, as a payload and as a row of the list."""
    return {"id": str(uuid.uuid4()), "status": "pending", "inserted_at": now(), "from_handle": handle, **fields}


class Rest:
    """`pending` is what the list shows; `answers` is what was said, in order."""

    def __init__(self):
        self.lock = threading.Lock()
        self.pending = {}
        self.answers = []
        self.settled = {}
        self.keys = set()
        self.listings = 0
        self.on_answer = None
        rest = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def reply(self, status, body):
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json; charset=utf-8")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def error(self, status, code):
                self.reply(status, {"error": {"code": code, "message": code, "request_id": str(uuid.uuid4())}})

            def do_GET(self):
                self.answer(None)

            def do_POST(self):
                self.answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

            def answer(self, body):
                url = urllib.parse.urlsplit(self.path)
                rest.keys.add(self.headers.get("X-API-Key"))
                if self.headers.get("X-API-Key") != KEY:
                    return self.error(401, "unauthorized")
                query = dict(urllib.parse.parse_qsl(url.query))
                call = getattr(rest, url.path.removeprefix("/api/v1/agent/").replace("/", "_"), None)
                if call is None:
                    return self.error(404, "not_found")
                status, reply = call(query, body)
                return self.error(status, reply) if isinstance(reply, str) else self.reply(status, reply)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def add(self, row):
        with self.lock:
            self.pending[row["id"]] = row
        return row

    def me(self, _query, _body):
        times = {"inserted_at": now(), "updated_at": now(), "feature_flags": {}}
        names = {"handle": "hotel/porter", "name": "Porter", "owner_uuid": str(uuid.uuid4()), "description": None}
        return 200, {"data": {"id": AGENT, **names, **times}}

    def contacts(self, query, _body):
        page = {"page": int(query.get("page", 1)), "page_size": int(query.get("page_size", 50))}
        return 200, {"data": [], "metadata": {**page, "total_count": 0, "total_pages": 0}}

    def contacts_requests(self, query, _body):
        page, size = int(query.get("page", 1)), int(query.get("page_size", 50))
        with self.lock:
            self.listings += 1
            rows = list(self.pending.values())
        total = {"total": len(rows), "total_pages": -(-len(rows) // size)}
        return 200, {
            "data": {"received": rows[(page - 1) * size : page * size], "sent": []},
            "metadata": {"page": page, "page_size": size, "received": total, "sent": {"total": 0, "total_pages": 0}},
        }

    def contacts_requests_respond(self, _query, body):
        status = {"approve": "approved", "reject": "rejected"}.get(body["action"])
        with self.lock:
            self.answers.append((body["request_id"], body["action"]))
            if body["request_id"] in self.settled:
                return 409, "already_answered"
            if body["request_id"] not in self.pending:
                return 404, "not_found"
            row = self.pending.pop(body["request_id"])
            self.settled[row["id"]] = status
        if self.on_answer:
            self.on_answer(row, status)
        return 200, {"data": {"id": row["id"], "status": status}}
