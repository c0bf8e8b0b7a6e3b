"""A proxy on this machine that leads every connection to one server, whatever its name."""

import socket
import threading
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Self


class ConnectProxy:
    """Speaks CONNECT and remembers for whom.

    Args:
        port: Of the server on this machine to which everything leads.
    """

    def __init__(self, port: int) -> None:
        self.asked: list[str] = []
        proxy = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                proxy.asked.append(self.rfile.readline().decode().strip())
                while self.rfile.readline().strip():
                    pass
                with socket.create_connection(("127.0.0.1", port)) as onward:
                    self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    back = threading.Thread(
                        target=_pump, args=(onward, self.connection), daemon=True
                    )
                    back.start()
                    _pump(self.connection, onward)
                    back.join()

        class Server(ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
