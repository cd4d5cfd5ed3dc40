"""Attacks on `epsilon serve`, for `bench/serve.py --attack`: what an honest client sees meanwhile, and the server's memory.

Attackers run in a process of their own. When their time is over they send nothing more but keep their connections open.
"""

import contextlib
import http.client
import json
import multiprocessing
import random
import resource
import select
import socket
import statistics
import threading
import time

SILENT, HALF, UNREAD, STRANGERS = 1100, 2000, 150, 70
NAMES = {
    "silent": f"{SILENT} silent connections",
    "half": f"{HALF} half-sent heads, a byte now and then",
    "unread": f"{UNREAD} clients that do not read their answers",
    "strangers": f"{STRANGERS} clients with unknown words",
}
# The server is back to normal when this many requests with known words in turn took no longer than twice the slowest before.
CALM = 5
GOALS = "Goals: /healthz within 1 s, known words within 5 s, memory within 1.3 times of idle load, normal within 60 s."


def form(parts):
    """Content type and body of a form; photographs are bytes, texts are str."""
    body = b""
    for name, value in parts:
        file = '; filename="a.jpg"' if isinstance(value, bytes) else ""
        body += f'--line\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
        body += (value if isinstance(value, bytes) else value.encode()) + b"\r\n"
    return "multipart/form-data; boundary=line", body + b"--line--\r\n"


def post(path, parts):
    """A whole request."""
    kind, body = form(parts)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Crowd:
    """Connections that are opened again as soon as the server closes them."""

    def __init__(self, address, count, first, more=b""):
        self.address, self.first, self.more = address, first, more
        self.poll = select.poll()
        self.open = {}
        self.count = count

    def step(self):
        """Opens what is missing, and sends every open one a little more."""
        for number, _ in self.poll.poll(0):
            self.poll.unregister(number)
            self.open.pop(number).close()
        for stream in self.open.values() if self.more else ():
            with contextlib.suppress(OSError):
                stream.send(self.more)
        while len(self.open) < self.count:
            stream = socket.socket()
            stream.settimeout(2)
            try:
                stream.connect(self.address)
                stream.sendall(self.first)
            except OSError:
                stream.close()
                return
            self.open[stream.fileno()] = stream
            self.poll.register(stream, select.POLLRDHUP | select.POLLHUP | select.POLLERR)


def crowd(address, stop, leave, *settings):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    attackers = Crowd(address, *settings)
    while not stop.is_set():
        attackers.step()
        time.sleep(0.25)
    leave.wait()


def strangers(address, stop, leave, photo):
    """Clients that ask for words which nobody knows, as fast as they are answered."""

    def ask(client):
        turn = 0
        while not stop.is_set():
            turn += 1
            words = ",".join(f"unkonwn{client}x{turn}y{word}" for word in range(10))
            with contextlib.suppress(OSError, http.client.HTTPException):
                request(address, "POST", "/v1/predict", [("photo", photo), ("labels", words)])

    clients = [threading.Thread(target=ask, args=(client,)) for client in range(STRANGERS)]
    for client in clients:
        client.start()
    leave.wait()


def request(address, method, path, parts=None, timeout=60):
    """Status and body of the answer, over a connection of its own."""
    connection = http.client.HTTPConnection(*address, timeout=timeout)
    try:
        kind, body = form(parts) if parts else (None, None)
        connection.request(method, path, body, {"Content-Type": kind} if kind else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Honest:
    """Honest clients: one asks for the server's health, one for known words; and the server's memory meanwhile."""

    def __init__(self, address, photo, words, memory):
        self.address, self.parts, self.memory = address, [("photo", photo), ("labels", ",".join(words))], memory
        self.health, self.known, self.refused, self.megabytes = [], [], 0, []
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.watch, args=(look,)) for look in (self.ask_health, self.ask_known, self.weigh)]

    def watch(self, look):
        while not self.stop.is_set():
            look()
            time.sleep(0.1)

    def ask_health(self):
        start = time.monotonic()
        with contextlib.suppress(OSError, http.client.HTTPException):
            request(self.address, "GET", "/healthz", timeout=10)
        self.health.append(time.monotonic() - start)

    def ask_known(self):
        """Until it is answered: who is refused comes again."""
        start = time.monotonic()
        while not self.stop.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                if request(self.address, "POST", "/v1/predict", self.parts)[0] == 200:
                    break
            self.refused += 1
            time.sleep(0.1)
        self.known.append(time.monotonic() - start)

    def weigh(self):
        self.megabytes.append(self.memory())

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def connections(address):
    text = request(address, "GET", "/metrics")[1].decode()
    return int(next(line for line in text.splitlines() if line.startswith("epsilon_connections ")).split()[1])


def recover(address, photo, words, slowest):
    """Seconds until the server is as before."""
    start, calm = time.monotonic(), 0
    while calm < CALM and time.monotonic() - start < 120:
        asked = time.monotonic()
        try:
            status, _ = request(address, "POST", "/v1/predict", [("photo", photo), ("labels", ",".join(words))])
            well = status == 200 and time.monotonic() - asked <= 2 * slowest and connections(address) < 4
        except (OSError, http.client.HTTPException):
            well = False
        calm = calm + 1 if well else 0
        time.sleep(0.1)
    return time.monotonic() - start


def run(name, address, photos, words, memory, seconds):
    """The row of one attack."""
    photo, largest = photos[0], max(photos, key=len)
    # The first request has the vector file indexed, and is as large as a batch of the network.
    request(address, "POST", "/v1/predict", [*(("photo", photo) for photo in photos[:32]), ("labels", ",".join(words))])
    with Honest(address, photo, words, memory) as idle:
        time.sleep(seconds / 2)
    context = multiprocessing.get_context("fork")
    stop, leave = context.Event(), context.Event()
    explain = post("/v1/explain", [("photo", largest), ("label", words[0])])
    target, settings = {
        "silent": (crowd, (SILENT, b"")),
        "half": (crowd, (HALF, b"GET /healthz HTTP/1.1\r\nHost: loc", b"a")),
        "unread": (crowd, (UNREAD, explain)),
        "strangers": (strangers, (photo,)),
    }[name]
    attackers = context.Process(target=target, args=(address, stop, leave, *settings), daemon=True)
    attackers.start()
    with Honest(address, photo, words, memory) as attacked:
        time.sleep(seconds)
    stop.set()
    normal = recover(address, photo, words, max(idle.known))
    leave.set()
    attackers.terminate()
    attackers.join()
    before, peak = max(idle.megabytes), max(attacked.megabytes)
    return (
        f"| {NAMES[name]} | {1e3 * max(idle.health):.0f} | {1e3 * max(attacked.health):.0f} | {statistics.median(attacked.known):.2f} | "
        f"{max(attacked.known):.2f} | {attacked.refused} | {before:.0f} | {peak:.0f} | {peak / before:.2f} | {normal:.0f} |"
    )


def write_vectors(path, words, width, megabytes):
    """A GloVe file of that size: these words and made-up ones, with random vectors."""
    draws = random.Random(1)
    vectors = [" ".join(f"{draws.gauss(0, 0.4):.5f}" for _ in range(width)) for _ in range(97)]
    size = 0
    with open(path, "w") as file:
        for number, vector in enumerate(vectors * (1 + megabytes * 10**6 // sum(map(len, vectors)))):
            word = words[number] if number < len(words) else f"word{number}"
            size += file.write(f"{word} {vector}\n")
            if size > megabytes * 10**6:
                break


def table(rows):
    return "\n".join(
        [
            "| attack | /healthz before, worst, ms | /healthz, worst, ms | known words, median, s | worst, s | refused meanwhile "
            "| idle load, MB | most, MB | ratio | normal after, s |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
            *rows,
            "",
        ]
    )
