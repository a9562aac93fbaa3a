"""A language model of the company, as far as a gateway sees it: it answers everything alike."""

from __future__ import annotations

import http.server
import json
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.answer({"status": "ok", "path": self.path})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer({"choices": [{"text": "as the handbook says"}]})


if __name__ == "__main__":
    address = ("0.0.0.0", int(sys.argv[1]))  # noqa: S104
    http.server.ThreadingHTTPServer(address, Handler).serve_forever()
