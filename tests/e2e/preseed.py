"""Answers for Debian's installer, and the web server that it asks for them."""
import http.server
import lzma
import re
import subprocess
import threading
import urllib.error
import urllib.request

HOSTNAME = "installed"
PASSWORD = "installed-root"


def archive():
    """Host and folder of the archive that this machine's apt uses for the release."""
    targets = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)",
                              "Created-By: Packages"], stdout=subprocess.PIPE, text=True, check=False).stdout
    found = re.search(r"^http://([^/\s]+)(/\S*?)/? bookworm main$", targets, re.MULTILINE)
    return found.groups() if found else ("deb.debian.org", "/debian")


# Parts of the installer that every installation fetches.
PARTS = ("apt-mirror-setup", "partman-utils", "grub-installer", "user-setup-udeb", "finish-install")


def missing_parts():
    """Those that the archive names and does not have: a mirror may leave out what apt never asks for."""
    base = "http://%s%s" % archive()
    with urllib.request.urlopen(f"{base}/dists/bookworm/main/debian-installer/binary-amd64/Packages.xz",
                                timeout=60) as answer:
        index = lzma.decompress(answer.read()).decode()
    missing = []
    for name in PARTS:
        path = re.search(rf"^Package: {re.escape(name)}$.*?^Filename: (\S+)$", index, re.MULTILINE | re.DOTALL).group(1)
        try:
            urllib.request.urlopen(urllib.request.Request(f"{base}/{path}", method="HEAD"), timeout=60).close()
        except urllib.error.HTTPError:
            missing.append(name)
    return missing


def answers():
    """A small system without a desktop, on the whole disk, with the serial line as its console."""
    host, folder = archive()
    return f"""d-i debian-installer/locale string en_US.UTF-8
d-i keyboard-configuration/xkb-keymap select us
d-i netcfg/choose_interface select auto
d-i netcfg/get_hostname string {HOSTNAME}
d-i netcfg/get_domain string example
d-i netcfg/hostname string {HOSTNAME}
d-i mirror/country string manual
d-i mirror/http/hostname string {host}
d-i mirror/http/directory string {folder}
d-i mirror/http/proxy string
d-i passwd/make-user boolean false
d-i passwd/root-password password {PASSWORD}
d-i passwd/root-password-again password {PASSWORD}
d-i clock-setup/utc boolean true
d-i clock-setup/ntp boolean false
d-i time/zone string Etc/UTC
d-i partman-auto/method string regular
d-i partman-auto/choose_recipe select atomic
d-i partman-auto/disk string /dev/vda
d-i partman-partitioning/confirm_write_new_label boolean true
d-i partman/choose_partition select finish
d-i partman/confirm boolean true
d-i partman/confirm_nooverwrite boolean true
d-i base-installer/install-recommends boolean false
d-i base-installer/initramfs-tools/driver-policy select dep
d-i apt-setup/services-select multiselect
d-i apt-setup/enable-source-repositories boolean false
d-i apt-setup/non-free-firmware boolean false
tasksel tasksel/first multiselect
d-i pkgsel/upgrade select none
d-i pkgsel/update-policy select none
d-i pkgsel/install-language-support boolean false
popularity-contest popularity-contest/participate boolean false
d-i grub-installer/only_debian boolean true
d-i grub-installer/bootdev string /dev/vda
d-i finish-install/reboot_in_progress note
"""


class Server:
    """Serves one text at every path; `asked` counts how often it was taken."""

    def __init__(self, text):
        self.asked = 0
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # pylint: disable=invalid-name
                site.asked += 1
                body = text.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
