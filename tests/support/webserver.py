"""A web server on loopback that certificates can point to."""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Files(http.server.ThreadingHTTPServer):
    """Serves ``files`` by path, text being a redirection; ``posts`` answer; remembers what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes | str] = {}
        self.posts: dict[str, Callable[[bytes], bytes]] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Files)
        self.server.asked.append(self.path)
        found = self.server.files.get(self.path)
        if found is None:
            self.send_error(404)
        elif isinstance(found, str):
            self.send_response(302)
            self.send_header("Location", found)
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            self.wfile.write(found)

    def do_POST(self) -> None:
        assert isinstance(self.server, Files)
        self.server.asked.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.server.posts[self.path](body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_args: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Files]:
    """A server that runs until the end of the block."""
    with Files() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()
