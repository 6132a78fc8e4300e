"""Disks read over NBD, as backup tools do it: where, by whom, over TLS or not, and what ends a connection."""
import socket
import ssl
import struct
import unittest

from pool import Failure, until
from vms import MIB, VmCase

EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED = 1, 2, 3, 5, 6, 7, 8
ACK, UNSUPPORTED, POLICY, TLS_NEEDED, UNKNOWN = 1, 0x80000001, 0x80000002, 0x80000005, 0x80000006
SIZE = 4 * MIB
CONTENT = bytes(range(256)) * 16  # at 1 MiB, the rest is zeros


class Client:
    """The client's side of NBD by its specification."""

    def __init__(self, info, tls=True):
        self.sock = socket.create_connection((info["address"], int(info["port"])), timeout=60)
        assert self.read(16) == b"NBDMAGICIHAVEOPT", "no NBD server"
        flags, = struct.unpack(">H", self.read(2))
        assert flags & 3 == 3
        self.sock.sendall(struct.pack(">I", 3))
        self.name = info["exportname"].encode()
        if tls:
            assert self.option(STARTTLS)[0] == ACK
            context = ssl.create_default_context(cadata=info["cert"])
            self.sock = context.wrap_socket(self.sock, server_hostname=info["subject"])

    def read(self, size):
        data = b""
        while len(data) < size:
            piece = self.sock.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def option(self, number, data=b""):
        """The answer: its kind and data, the last of several."""
        self.sock.sendall(b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data)
        while True:
            magic, option, kind, size = struct.unpack(">QIII", self.read(20))
            assert (magic, option) == (0x3E889045565A9, number)
            data = self.read(size)
            if kind != 3:
                return kind, data
            assert struct.unpack(">HQH", data)[:2] == (0, SIZE)

    def go(self, number=GO, name=None):
        name = self.name if name is None else name
        return self.option(number, struct.pack(">I", len(name)) + name + struct.pack(">H", 0))

    def export(self):
        """Size and transmission flags."""
        self.sock.sendall(b"IHAVEOPT" + struct.pack(">II", EXPORT_NAME, len(self.name)) + self.name)
        return struct.unpack(">QH", self.read(10))

    def request(self, kind, at, size, data=b""):
        """The answer's error and, of a read, its bytes."""
        self.sock.sendall(struct.pack(">IHHQQI", 0x25609513, 0, kind, 77, at, size) + data)
        magic, error, handle = struct.unpack(">IIQ", self.read(16))
        assert (magic, handle) == (0x67446698, 77)
        return error, self.read(size) if kind == 0 and not error else b""

    def is_over(self):
        try:
            return self.sock.recv(1) == b""
        except OSError:
            return True

    def close(self):
        self.sock.close()


def setUpModule():
    VmCase.open_pool(options=["--nbd-port", "0"])


class Nbd(VmCase):
    def setUp(self):
        super().setUp()
        host, = self.api.host.get_all()
        pif = next(p for p in self.api.host.get_PIFs(host) if self.api.PIF.get_currently_attached(p))
        self.place = self.api.PIF.get_network(pif)
        self.vdi = self.disk(size=SIZE)
        body = bytes(MIB) + CONTENT + bytes(SIZE - MIB - len(CONTENT))
        status, _, _ = self.pool.http("PUT", f"/import_raw_vdi?session_id={self.api.session}&vdi={self.vdi}", body)
        self.assertEqual(status, 200)

    def purpose(self, value):
        self.api.network.add_purpose(self.place, value)
        self.addCleanup(self.api.network.remove_purpose, self.place, value)

    def info(self, api=None, vdi=None):
        info, = (api or self.api).VDI.get_nbd_info(vdi or self.vdi)
        return info

    def client(self, info=None, tls=True):
        client = Client(info or self.info(), tls)
        self.addCleanup(client.close)
        return client

    def reading(self, client):
        self.assertEqual(client.request(0, MIB, len(CONTENT)), (0, CONTENT))
        self.assertEqual(client.request(0, 2 * MIB, MIB), (0, bytes(MIB)))

    def test_over_tls(self):
        self.assertEqual(self.api.VDI.get_nbd_info(self.vdi), [])
        self.purpose("nbd")
        info = self.info()
        self.assertEqual(sorted(info), ["address", "cert", "exportname", "port", "subject"])
        self.assertEqual(info["exportname"], f"/{self.api.VDI.get_uuid(self.vdi)}?session_id={self.api.session}")
        snapshot = self.api.VDI.snapshot(self.vdi)
        for vdi in (self.vdi, snapshot):
            client = self.client(self.info(vdi=vdi))
            size, flags = client.export()
            self.assertEqual((size, flags & 3), (SIZE, 3))  # read-only
            self.reading(client)
            self.assertNotEqual(client.request(1, 0, 512, bytes(512))[0], 0)
            self.reading(client)
            client.sock.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 2, 0, 0, 0))  # disconnect
            until("the connection ends", client.is_over, 60)
        self.api.VDI.destroy(snapshot)

    def test_negotiation(self):
        self.purpose("nbd")
        client = self.client()
        self.assertEqual(client.option(LIST)[0], UNSUPPORTED)
        self.assertEqual(client.go(INFO)[0], ACK)
        self.assertEqual(client.go(name=b"/nonsense?session_id=OpaqueRef:x")[0], POLICY)
        self.assertEqual(client.option(STRUCTURED)[0], ACK)
        self.assertEqual(client.go()[0], ACK)
        client.sock.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 7, MIB, 512))
        magic, _, kind, handle, size = struct.unpack(">IHHQI", client.read(20))
        self.assertEqual((magic, handle), (0x668E33EF, 7))
        self.assertEqual((kind, client.read(size)[8:]), (1, CONTENT[:512]))
        bare = self.client(tls=False)
        self.assertEqual(bare.go()[0], TLS_NEEDED)
        self.assertRaises(EOFError, bare.export)

    def test_who(self):
        self.purpose("nbd")
        info, uuid = self.info(), self.api.VDI.get_uuid(self.vdi)
        self.assertEqual(self.client().go(name=f"/{self.place[-36:]}?session_id={self.api.session}".encode())[0], UNKNOWN)
        for session in ("", "OpaqueRef:NULL", "OpaqueRef:01234567-89ab-cdef-0123-456789abcdef"):
            self.assertEqual(self.client(info).go(name=f"/{uuid}?session_id={session}".encode())[0], POLICY, session)
        other = self.pool.login()
        client = self.client(self.info(other))
        client.export()
        self.reading(client)
        other.logout()
        until("the connection ends with its session", client.is_over, 60)
        self.assertEqual(self.client(info).go(name=f"/{uuid}?session_id={other.session}".encode())[0], POLICY)

    def test_nobody_writes_meanwhile(self):
        self.purpose("nbd")
        client = self.client()
        client.export()
        self.fails("VDI_IN_USE", None, "VDI.destroy", self.vdi)
        self.reading(client)
        client.close()
        vm = self.make()
        self.drive(vm, self.vdi)

        def starts():
            try:
                self.start(vm)
            except Failure as failure:
                self.assertIn("use", str(failure).lower())
                return False
            return True
        until("the disk is free", starts, 60)
        self.assertEqual(self.client().go()[0], UNKNOWN)  # the guest writes it

    def test_without_tls(self):
        self.purpose("insecure_nbd")
        client = self.client(tls=False)
        client.export()
        self.reading(client)
        client = self.client()  # whoever wants TLS gets it
        client.export()
        self.reading(client)

    def test_a_network_without_purpose_lets_nobody_in(self):
        self.purpose("nbd")
        info = self.info()
        self.api.network.remove_purpose(self.place, "nbd")
        with socket.create_connection((info["address"], int(info["port"])), timeout=60) as sock:
            self.assertEqual(sock.recv(1), b"")


if __name__ == "__main__":
    unittest.main()
