"""A server of files, as publishers of corpora have."""

import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.folder``, from the byte asked for on, as OpenSLR's server does."""

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append((self.path, asked))
        path = server.folder / self.path.lstrip("/")
        if not path.is_file():
            return self.send_error(404)
        content = path.read_bytes()
        start = 0
        if asked and server.resumes:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked).group(1))
        if start and start >= len(content):
            return self.send_error(416)
        self.send_response(206 if asked and server.resumes else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        # The connection breaks after so many bytes; None: it does not.
        self.wfile.write(content[start:][: server.breaks_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    """A server of tmp_path/served; ``requests`` are the paths and ranges asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.folder = tmp_path / "served"
    server.folder.mkdir()
    server.requests, server.resumes, server.breaks_after = [], True, None
    server.url = f"http://127.0.0.1:{server.server_port}"
    # It looks every 10 ms whether it is to stop.
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
