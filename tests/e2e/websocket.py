"""A client of one web socket with binary frames (RFC 6455): enough to speak with a console."""
import base64
import os
import socket
import ssl
import struct
import time


class WebSocket:
    def __init__(self, host, port, path, ca, headers=(), limit_s=30.0):
        raw = socket.create_connection((host, port), limit_s)
        self.sock = ssl.create_default_context(cafile=ca).wrap_socket(raw, server_hostname=host)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", "Upgrade: websocket", "Connection: Upgrade",
                 f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: binary",
                 *headers, "", ""]
        self.sock.sendall("\r\n".join(lines).encode())
        self._buffer = b""
        head = b""
        while b"\r\n\r\n" not in head:
            data = self.sock.recv(4096)
            if not data:
                raise ConnectionError(f"closed in the handshake: {head[:200]!r}")
            head += data
        head, _, self._buffer = head.partition(b"\r\n\r\n")
        status = head.split(b"\r\n")[0].split(b" ")[1]
        if status != b"101":
            raise ConnectionError(f"no upgrade: {head.splitlines()[0].decode()}")

    def send(self, data, opcode=2):
        mask = os.urandom(4)
        size = len(data)
        length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + struct.pack(">H", size)
        body = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        self.sock.sendall(bytes([0x80 | opcode]) + length + mask + body)

    def _fill(self, size, end):
        while len(self._buffer) < size:
            left = end - time.monotonic()
            if left <= 0:
                return False
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(65536)
            except TimeoutError:
                return False
            if not data:
                raise ConnectionError("closed")
            self._buffer += data
        return True

    def receive(self, limit_s):
        """The next piece; b"" when the peer closed, None when the time is up."""
        end = time.monotonic() + limit_s
        while True:
            try:
                if not self._fill(2, end):
                    return None
                opcode, size = self._buffer[0] & 15, self._buffer[1] & 127
                header = {126: 4, 127: 10}.get(size, 2)
                if not self._fill(header, end):
                    return None
                if size >= 126:
                    size = int.from_bytes(self._buffer[2:header], "big")
                if not self._fill(header + size, end):
                    return None
            except (ConnectionError, ssl.SSLError):
                return b""
            data = self._buffer[header:header + size]
            self._buffer = self._buffer[header + size:]
            if opcode == 8:
                return b""
            if opcode == 9:
                self.send(data, opcode=10)
            elif opcode in (0, 1, 2) and data:
                return data

    def close(self):
        self.sock.close()
