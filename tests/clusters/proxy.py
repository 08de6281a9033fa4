"""ssh's ProxyCommand: stands between ssh and a port on loopback, given as the only argument."""

import os
import socket
import sys
import threading

with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as there:

    def send() -> None:
        while piece := os.read(0, 65536):
            there.sendall(piece)
        there.shutdown(socket.SHUT_WR)

    threading.Thread(target=send, daemon=True).start()
    while piece := there.recv(65536):
        os.write(1, piece)
