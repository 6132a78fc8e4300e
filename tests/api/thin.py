"""A client of the thin command-line protocol (POST /cli), as the genuine `xe` speaks it: it prints what it is
told, sends files, and moves files over HTTP connections of its own. Strict: whatever the protocol does not
allow fails the test."""
import http.client
import struct

MAGIC = b"XenSource thin CLI protocol"
HELLO = MAGIC + struct.pack("<ii", 0, 2)
PRINT, LOAD, PROMPT, EXIT, GET, PUT, PRINT_ERROR, CONNECT = 0, 1, 3, 4, 12, 13, 16, 17
OK, FAILED, CHUNK, END, WAIT = (10, 5), (10, 6), (11, 7), (11, 8), (10, 18)


class Outcome:
    def __init__(self):
        self.out, self.err, self.code, self.urls = "", "", None, []


class ThinClient:
    """`files`: what the client can read, and where downloads go (name -> bytes). `answers`: lines for prompts."""

    def __init__(self, pool, user="root", password=None, files=None, answers=()):
        self.pool, self.user, self.files, self.answers = pool, user, files if files is not None else {}, list(answers)
        self.password = pool.password if password is None else password

    def request(self, words, login=True):
        if login:
            words = [*words, f"username={self.user}", f"password={self.password}"]
        body = "\n".join(words).encode()
        head = f"POST /cli HTTP/1.0\r\nUser-agent: xe-cli/Unix/0.2\r\noriginator: cli\r\ncontent-length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def run(self, *words, login=True):
        with self.pool.connect() as self.socket:
            self.socket.sendall(self.request(words, login))
            assert self.exactly(len(HELLO)) == HELLO
            self.socket.sendall(HELLO)
            self.outcome = Outcome()
            while self.outcome.code is None:
                self.step(self.frame())
            assert self.socket.recv(1) == b"", "something came after Exit"
            return self.outcome

    def exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise EOFError(f"the server ended after {data!r}")
            data += piece
        return data

    def frame(self):
        size = struct.unpack("<i", self.exactly(4))[0]
        return self.exactly(size)

    def reply(self, kind):
        self.socket.sendall(struct.pack("<iii", 8, *kind))

    def send_file(self, data):
        for at in range(0, len(data), 1000):
            piece = data[at:at + 1000]
            self.socket.sendall(struct.pack("<iiii", 12, *CHUNK, len(piece)) + piece)
        self.reply(END)

    def step(self, payload):
        kind, command = struct.unpack_from("<ii", payload)
        assert kind == 9, payload
        if command == EXIT:
            assert len(payload) == 12
            self.outcome.code = struct.unpack_from("<i", payload, 8)[0]
            return
        texts, at = [], 8
        while at < len(payload):
            size = struct.unpack_from("<i", payload, at)[0]
            texts.append(payload[at + 4:at + 4 + size].decode())
            at += 4 + size
        assert at == len(payload), payload
        {PRINT: self.on_print, PRINT_ERROR: self.on_error, LOAD: self.on_load, PROMPT: self.on_prompt,
         GET: self.on_get, PUT: self.on_put, CONNECT: self.on_connect}[command](*texts)

    def on_print(self, text):
        self.outcome.out += text + "\n"

    def on_error(self, text):
        self.outcome.err += text

    def on_load(self, name):
        if name in self.files:
            self.reply(OK)
            self.send_file(self.files[name])
        else:
            self.reply(FAILED)

    def on_prompt(self):
        self.send_file(self.answers.pop(0).encode() + b"\n")

    def transfer(self, method, url, body=None):
        self.outcome.urls.append(url)
        assert url.startswith("/"), url
        connection = http.client.HTTPConnection("127.0.0.1", self.pool.http_port, timeout=60)
        connection.request(method, url, body)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        self.reply(WAIT)
        self.reply(OK if answer.status == 200 else FAILED)
        return data

    def on_get(self, name, url):
        self.files[name] = self.transfer("GET", url)

    def on_put(self, name, url):
        self.transfer("PUT", url, self.files[name])

    def on_connect(self, url):
        self.outcome.urls.append(url)
        self.reply(FAILED)
