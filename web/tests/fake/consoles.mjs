// What answers behind the fake consoles: a serial line with a log-in prompt, and a screen that speaks
// RFB 3.8 and draws stripes.

/** A serial line: kept text first, then a shell that echoes. */
export function serveSerial(socket, name) {
  const say = (text) => socket.send(Buffer.from(text, "utf8"));
  say(`\x1b[1mCorral tiny Linux\x1b[0m\r\n[    0.000000] Linux version 6.1.0-25-amd64\r\n` +
    `[    0.412345] \x1b[32mvirtio_blk\x1b[0m virtio1: [vda] 4194304 512-byte logical blocks\r\n` +
    `\x1b[38;2;255;140;0mtrue colour\x1b[0m \x1b[48;5;24m 256 colours \x1b[0m \x1b[4munderlined\x1b[0m\r\n\r\n${name} login: `);
  let line = "";
  socket.on("message", (data) => {
    for (const ch of data.toString("utf8")) {
      if (ch === "\r") {
        say(`\r\nPassword for ${line}: \r\n${name}:~# `);
        line = "";
      } else if (ch === "\x7f") {
        line = line.slice(0, -1);
        say("\b \b");
      } else {
        line += ch;
        say(ch);
      }
    }
  });
}

/** A screen of width x height: raw rectangles, drawn once for each full request, and then on each key. */
export function serveScreen(socket, seen = () => undefined) {
  const width = 640;
  const height = 400;
  let buffer = Buffer.alloc(0);
  let step = "version";
  let bytesPerPixel = 4;
  let shift = { r: 16, g: 8, b: 0 };

  function draw() {
    const head = Buffer.alloc(16);
    head.writeUInt16BE(1, 2);
    head.writeUInt16BE(width, 8);
    head.writeUInt16BE(height, 10);
    const pixels = Buffer.alloc(width * height * bytesPerPixel);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const box = x > 60 && x < width - 60 && y > 60 && y < height - 60;
        const [r, g, b] = box ? [24, 32, 46] : [(x / width) * 90 + 30, 70, (y / height) * 120 + 90];
        pixels.writeUInt32LE(((r << shift.r) | (g << shift.g) | (b << shift.b)) >>> 0, (y * width + x) * bytesPerPixel);
      }
    }
    socket.send(Buffer.concat([head, pixels]));
  }

  function take(n) {
    if (buffer.length < n) return null;
    const part = buffer.subarray(0, n);
    buffer = buffer.subarray(n);
    return part;
  }

  const lengths = { 0: 20, 3: 10, 4: 8, 5: 6 };
  function messages() {
    while (buffer.length > 0) {
      const type = buffer[0];
      if (type === 2) {
        if (buffer.length < 4) return;
        if (!take(4 + 4 * buffer.readUInt16BE(2))) return;
      } else if (type === 6) {
        if (buffer.length < 8) return;
        if (!take(8 + Math.abs(buffer.readInt32BE(4)))) return;
      } else if (lengths[type] === undefined) {
        socket.close(1002, `unknown RFB message ${type}`);
        return;
      } else {
        const part = take(lengths[type]);
        if (!part) return;
        if (type === 0) {
          bytesPerPixel = part[4] / 8;
          shift = { r: part[14], g: part[15], b: part[16] };
        } else if (type === 3 && part[1] === 0) {
          draw();
        } else if (type === 4) {
          seen({ key: part.readUInt32BE(4), down: part[1] === 1 });
        }
      }
    }
  }

  socket.send(Buffer.from("RFB 003.008\n"));
  socket.on("message", (data) => {
    buffer = Buffer.concat([buffer, data]);
    if (step === "version" && take(12)) {
      socket.send(Buffer.from([1, 1]));
      step = "security";
    }
    if (step === "security" && take(1)) {
      socket.send(Buffer.from([0, 0, 0, 0]));
      step = "init";
    }
    if (step === "init" && take(1)) {
      const name = Buffer.from("fake screen");
      const init = Buffer.alloc(24);
      init.writeUInt16BE(width, 0);
      init.writeUInt16BE(height, 2);
      init.set([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0], 4);
      init.writeUInt32BE(name.length, 20);
      socket.send(Buffer.concat([init, name]));
      step = "messages";
    }
    if (step === "messages") {
      messages();
    }
  });
}
