"""Whether the program keeps its answers and its memory under load, on drawn pictures and the model of `epsilon quickstart`.

    python3 bench/load.py [--only serve,watch,library] [--requests 100000] [--hours 3] [--photos 200000] [--folder FOLDER] [--write]

- serve: clients ask `epsilon serve` as fast as they are answered, 5 in 100 requests are broken or hostile. All labels of every
  answer are compared with those of `epsilon predict` for the same picture.
- watch: `epsilon tag --watch` on a folder where pictures are added, changed, moved, removed, damaged and written slowly, now and
  then without a pause; at the end what it knows is compared with a new library of the same folder.
- library: as many pictures tagged, searched for all labels by the program and over HTTP; drawn ones are compared with `predict`,
  and lists with each other.

Memory is read every second; its slope is that of a straight line through the means of twenty parts, less the first fifth of the
time, with the line's standard error. Prints Markdown; with --write it is kept in bench/results/load.md, where a part that did not
run keeps its section. Linux; the standard library is enough.
"""

import argparse
import array
import atexit
import contextlib
import json
import math
import multiprocessing
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import small_world
import turns
import rehearsal
from rehearsal import memory

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ.get("EPSILON_PROGRAM", ROOT / "target/release/epsilon"))
RESULTS = ROOT / "bench/results/load.md"
CLIENTS, PROCESSES = 16, 2
# Rounding differs with the pictures that are worked on together; an index keeps vectors in half precision.
CLOSE, CLOSE_IN_INDEX = 1e-4, 1e-2
LONGEST = 60


def run(*command, code=0, **settings):
    ended = subprocess.run([PROGRAM, *map(str, command)], capture_output=True, text=True, check=False, **settings)
    if ended.returncode != code or "panicked" in ended.stderr:
        sys.exit(f"{command}: {ended.returncode}: {ended.stderr[-2000:]}")
    return ended.stdout


def scores(labels):
    return {label["name"]: label["score"] for label in labels}


def differ(found, expected, close=CLOSE):
    """The largest relative difference of scores of the same labels; infinite where the labels are others."""
    if found.keys() != expected.keys():
        return math.inf
    return max((abs(found[name] - expected[name]) / max(1, abs(expected[name])) for name in found), default=0.0)


def big_picture(draws, width=640, height=480):
    """A PNG of coarse noise, larger than the backbone's pictures."""
    rows = [bytearray() for _ in range(height)]
    for top in range(0, height, 40):
        row = b"".join(bytes(draws.randrange(256) for _ in range(3)) * 40 for _ in range(width // 40))
        for y in range(top, top + 40):
            rows[y] = bytearray(row)
    return small_world.png(rows)


class World:
    """The quickstart's model and pictures, and what `predict` says of some."""

    def __init__(self, folder):
        self.folder = folder
        if not (folder / "quick/report.html").exists():
            run("quickstart", "--out", folder / "quick")
        self.model = folder / "quick/epsilon/seed-1/model.safetensors"
        pool = folder / "pool"
        if not pool.exists():
            draws, partial = random.Random(1), folder / "pool.part"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            for path in sorted((folder / "quick/data/test").glob("*.png"))[:480]:
                shutil.copy(path, partial)
            for number in range(20):
                (partial / f"big{number}.png").write_bytes(big_picture(draws))
            partial.rename(pool)
        self.paths = sorted(pool.glob("*.png"))
        self.pictures = [path.read_bytes() for path in self.paths]
        self.expected = self.predict(self.paths)
        self.labels = sorted(self.expected[0])

    def predict(self, paths):
        said = json.loads(run("predict", "--model", self.model, "--top", "1000", "--json", *paths))
        return [scores(photo["labels"]) for photo in said]


class Memory:
    """Reads a process's resident memory every second, in 10^6 bytes."""

    def __init__(self, pid):
        self.pid, self.values, self.stop, self.start = pid, [], threading.Event(), time.monotonic()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.stop.wait(1):
            if found := memory(self.pid, "VmRSS"):
                self.values.append((time.monotonic() - self.start, found, memory(self.pid, "RssAnon")))

    def end(self):
        self.stop.set()
        self.thread.join()
        return self

    def slope(self):
        """The line through the means of twenty parts, in MB an hour, and its standard error."""
        values = self.values[len(self.values) // 5 :]
        size = max(1, len(values) // 20)
        parts = [values[first : first + size] for first in range(0, len(values) - size + 1, size)]
        points = [(statistics.mean(at for at, *_ in part), statistics.mean(mb for _, mb, _ in part)) for part in parts]
        middle, level = (statistics.mean(values) for values in zip(*points))
        spread = sum((at - middle) ** 2 for at, _ in points)
        slope = sum((at - middle) * (mb - level) for at, mb in points) / spread
        rest = sum((mb - level - slope * (at - middle)) ** 2 for at, mb in points)
        return 3600 * slope, 3600 * math.sqrt(rest / max(1, len(points) - 2) / spread)

    def said(self):
        if len(self.values) < 30:
            return f"memory {self.values[-1][1]:.0f} MB (too short for a slope)" if self.values else "memory not read"
        slope, error = self.slope()
        hours = (self.values[-1][0] - self.values[0][0]) / 3600
        resident = [mb for _, mb, _ in self.values]
        fifth = max(1, len(resident) // 5)
        return (
            f"memory {statistics.mean(resident[:fifth]):.1f} MB in the first fifth of the time, {statistics.mean(resident[-fifth:]):.1f} in the last, {max(resident):.1f} at most; "
            f"slope {slope:+.1f} ± {error:.1f} MB an hour, {slope * hours:+.1f} ± {error * hours:.1f} MB over the {60 * hours:.0f} minutes"
        )


# --- serve ---


def head(path, length, kind="image/png", method="POST", more=""):
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}\r\n".encode()


def form(pictures):
    """A form of several pictures."""
    parts = [b'--cut\r\nContent-Disposition: form-data; name="photo"; filename="p"\r\n\r\n' + picture + b"\r\n" for picture in pictures]
    parts.append(b'--cut\r\nContent-Disposition: form-data; name="top"\r\n\r\n1000\r\n--cut--\r\n')
    body = b"".join(parts)
    return head("/v1/predict", len(body), "multipart/form-data; boundary=cut") + body


def alone(picture):
    return head("/v1/predict?top=1000", len(picture)) + picture


# A header that promises ten thousand million pixels.
BOMB = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes([0, 1, 0x86, 0xA0, 0, 1, 0x86, 0xA0, 8, 2, 0, 0, 0, 1, 2, 3, 4])


def hostile(picture):
    """By name: what no honest client sends, and the statuses that are right for it; 0 where none is waited for."""
    half = picture[: len(picture) // 2]
    flipped = bytearray(picture)
    flipped[len(picture) // 2] ^= 0xFF
    return {
        "half a picture": (alone(half), {422}),
        "a picture with one byte wrong": (alone(bytes(flipped)), {422}),
        "no picture": (alone(b"not a picture"), {422}),
        "no bytes": (alone(b""), {422}),
        "a picture of 10^10 pixels": (alone(BOMB), {422}),
        "a promise of a terabyte": (head("/v1/predict", 1 << 40) + b"x" * 1000, {413}),
        "gone in the middle": (head("/v1/predict", len(picture)) + half, {0}),
        "another method": (head("/v1/predict", 0, method="DELETE"), {405}),
        "a made-up method": (head("/v1/predict", 0, method="SMASH"), {405}),
        "a header of 100 kB": (head("/v1/predict", 0, more=f"X-Long: {'a' * 100_000}\r\n"), {431}),
        "a thousand headers": (head("/v1/predict", 0, more="X-More: 1\r\n" * 1000), {431}),
        "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + picture[:200], {400}),
        "a form without end": (head("/v1/predict", len(half), "multipart/form-data; boundary=cut") + half, {400, 422}),
        "JSON that ends early": (head("/v1/predict", 9, "application/json") + b'{"photo":', {415}),
        "a number that is none": (head("/v1/predict?top=many", len(picture)) + picture, {400, 422}),
        "a path out of the folder": (head("/../../../../etc/passwd", 0, method="GET"), {400, 404}),
        "another site's page": (head("/v1/predict", len(picture), more="Origin: http://elsewhere.example\r\n") + picture, {403}),
        "another host": (alone(picture).replace(b"Host: localhost", b"Host: elsewhere.example"), {403, 421}),
        "a broken chunk": (b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", {400}),
        "too many pictures": (form([picture[:50]] * 40), {422}),
        "a slow sender": (alone(picture), {408, 0}),
    }


class Connection:
    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=LONGEST)
        self.kept = b""

    def answer(self):
        """Status and body of an answer; (0, b"") where the connection was closed."""
        while b"\r\n\r\n" not in self.kept:
            if not self.more():
                return 0, b""
        start, _, self.kept = self.kept.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", start, re.IGNORECASE)
        length = int(length[1]) if length else 0
        while len(self.kept) < length:
            if not self.more():
                return 0, b""
        body, self.kept = self.kept[:length], self.kept[length:]
        return int(start.split(b" ", 2)[1]), body

    def more(self):
        try:
            found = self.socket.recv(1 << 16)
        except ConnectionError:
            return False
        self.kept += found
        return bool(found)

    def send(self, bytes):
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(bytes)

    def close(self):
        self.socket.close()


class Seen:
    """What clients have seen."""

    def __init__(self):
        self.seconds, self.statuses, self.attacks, self.wrong, self.worst, self.slow = array.array("d"), Counter(), Counter(), [], 0.0, []

    def add(self, other):
        self.seconds.extend(other.seconds)
        self.statuses.update(other.statuses)
        self.attacks.update(other.attacks)
        self.wrong += other.wrong
        self.worst = max(self.worst, other.worst)


def client(number, address, pictures, expected, requests, share, seen):
    """Sends its part of the requests over a connection of its own."""
    draws, connection = random.Random(number), None
    for _ in range(requests):
        if draws.random() < share:
            misbehave(draws, address, draws.choice(pictures), seen)
            continue
        count = draws.choice([1, 1, 1, 1, 3])
        asked = [draws.randrange(len(pictures)) for _ in range(count)]
        request = alone(pictures[asked[0]]) if count == 1 else form([pictures[index] for index in asked])
        for _ in range(100):
            try:
                connection = connection or Connection(address)
                start = time.monotonic()
                connection.send(request)
                status, body = connection.answer()
            except OSError as error:
                status, body = 0, str(error).encode()
            seen.statuses[status] += 1
            if status == 503:
                time.sleep(0.1)
                continue
            break
        if status != 200:
            seen.wrong.append(f"status {status} for a good picture: {body[:200]!r}")
            connection = None
            continue
        seen.seconds.append(time.monotonic() - start)
        found = json.loads(body)["photos"]
        gap = max(differ(scores(photo["labels"]), expected[index]) for photo, index in zip(found, asked, strict=True))
        ordered = all(a["score"] >= b["score"] for photo in found for a, b in zip(photo["labels"], photo["labels"][1:]))
        seen.worst = max(seen.worst, gap)
        if gap > CLOSE or not ordered:
            seen.wrong.append(f"pictures {asked}: scores differ by {gap}, in order: {ordered}")


def misbehave(draws, address, picture, seen):
    attacks = hostile(picture)
    name = draws.choice(sorted(attacks))
    request, right = attacks[name]
    seen.attacks[name] += 1
    if name == "a slow sender":
        # It takes longer than a client should stand still for.
        thread = threading.Thread(target=attack, args=(address, name, request, right, seen))
        seen.slow.append(thread)
        thread.start()
    else:
        attack(address, name, request, right, seen)


def attack(address, name, request, right, seen):
    try:
        connection = Connection(address)
        if name == "a slow sender":
            status = dribble(connection, request)
        else:
            connection.send(request)
            status, _ = (0, b"") if right == {0} else connection.answer()
        connection.close()
    except OSError as error:
        seen.wrong.append(f"{name}: {error}")
        return
    seen.statuses[status] += 1
    # A server that is full may say so to anybody; who is not read to the end may find the connection closed.
    if status not in right | {503} and not (status == 0 and right & {413, 431, 400}):
        seen.wrong.append(f"{name}: status {status}, not one of {sorted(right)}")


def dribble(connection, request):
    """A byte every fifth of a second, until there is an answer or the connection is closed."""
    for byte in request[:400]:
        try:
            connection.socket.send(bytes([byte]))
        except ConnectionError:
            break
        connection.socket.settimeout(0.2)
        try:
            if not connection.more():
                break
            connection.socket.settimeout(LONGEST)
            return connection.answer()[0]
        except TimeoutError:
            pass
    return 0


def clients(numbers, address, world, requests, share, ended):
    """The clients of one process."""
    pictures, expected = world
    all_seen = [Seen() for _ in numbers]
    threads = [threading.Thread(target=client, args=(number, address, pictures, expected, requests, share, seen)) for number, seen in zip(numbers, all_seen)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic()
    for seen in all_seen:
        for thread in seen.slow:
            thread.join()
        seen.slow = []
    total = Seen()
    for seen in all_seen:
        total.add(seen)
    ended.put((took, total))


class Server:
    def __init__(self, *arguments):
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([PROGRAM, "serve", "--listen", "127.0.0.1:0", *map(str, arguments)], stdout=subprocess.PIPE, stderr=self.errors, text=True)
        host, _, port = self.process.stdout.readline().strip().removeprefix("listening on http://").partition(":")
        if not port:
            sys.exit(self.said())
        self.address = (host, int(port))

    def said(self):
        self.errors.seek(0)
        return self.errors.read()

    def end(self):
        """Stops it, and says what was wrong with it."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(LONGEST)
        said = self.said()
        return [f"the server ended with {code}: {said[-500:]}"] if code or "panicked" in said else []


def serve(world, options):
    server = Server("--model", world.model)
    resident = Memory(server.process.pid)
    context = multiprocessing.get_context("spawn")
    ended, each = context.Queue(), options.requests // CLIENTS
    shares = [range(first, CLIENTS, PROCESSES) for first in range(PROCESSES)]
    start = time.monotonic()
    working = [context.Process(target=clients, args=(list(numbers), server.address, (world.pictures, world.expected), each, options.hostile / 100, ended)) for numbers in shares]
    for process in working:
        process.start()
    seen, took = Seen(), 0.0
    for _ in working:
        end, part = ended.get()
        took = max(took, end - start)
        seen.add(part)
    for process in working:
        process.join()
    resident.end()
    processor = sum(map(int, Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")
    seen.wrong += server.end()
    latencies = sorted(seen.seconds)
    at = lambda share: 1e3 * latencies[min(len(latencies) - 1, int(share * len(latencies)))]
    statuses = ", ".join(f"{count:,} x {status}" for status, count in sorted(seen.statuses.items()))
    text = f"""## Requests at saturation

{CLIENTS * each:,} requests of {CLIENTS} clients, of which {sum(seen.attacks.values()):,} were broken or hostile, of {len(seen.attacks)} kinds, in {took:.0f} s ({CLIENTS * each / took:.0f} a second); the server had {processor:.0f} s of processor. A fifth of the good ones had three pictures.

| | |
|---|---:|
| good answers, all labels of each picture compared with `epsilon predict` | {len(latencies):,} |
| wrong answers | {len(seen.wrong)} |
| largest difference of a score (relative; the bound is {CLOSE}) | {seen.worst:.1e} |
| latency of good answers, p50, ms | {at(0.5):.1f} |
| p99, ms | {at(0.99):.1f} |
| most, ms | {at(1):.1f} |

Answers by status (0: the connection was closed or left): {statuses}. Server: {resident.said()}.
"""
    return text, seen.wrong


# --- watch ---


class Watched:
    """A folder that changes, and the program that watches it."""

    def __init__(self, world, folder, count):
        self.world, self.folder, self.draws = world, folder, random.Random(5)
        shutil.rmtree(folder, ignore_errors=True)
        self.pictures, self.written, self.waits, self.done = folder / "photos", {}, array.array("d"), Counter()
        self.lock = threading.Lock()
        for number in range(20):
            (self.pictures / f"day{number}").mkdir(parents=True)
        self.next, self.count = 0, count
        # The photographs that are there, and those of them that cannot be read.
        self.damaged = set()
        self.here = {self.place() for _ in range(count)}
        for path in sorted(self.here):
            path.write_bytes(self.picture())

    def picture(self):
        """A new picture that no other equals: of the pool, with a comment of its own."""
        drawn = self.draws.choice(self.world.pictures)
        comment = b"tEXtComment\0" + self.draws.randbytes(8).hex().encode()
        chunk = (len(comment) - 4).to_bytes(4, "big") + comment + small_world.zlib.crc32(comment).to_bytes(4, "big")
        return drawn[:33] + chunk + drawn[33:]

    def place(self):
        self.next += 1
        return self.pictures / f"day{self.draws.randrange(20)}/{self.next:07}.png"

    def some(self):
        return self.draws.choice(sorted(self.here))

    def wrote(self, path):
        self.here.add(path)
        self.damaged.discard(path)
        with self.lock:
            self.written[str(path.relative_to(self.pictures))] = time.monotonic()

    def gone(self, path):
        with self.lock:
            self.written.pop(str(path.relative_to(self.pictures)), None)

    def change(self):
        """One thing that happens to folders of photographs."""
        what = self.draws.choice(["add", "add", "change", "move", "damage", "slow", "temporary", "note"])
        # As many come as go, so that what memory grows by is no growth of the library.
        if what in ("add", "slow", "temporary") and len(self.here) >= self.count:
            what = "remove"
        self.done[what] += 1
        if what == "add":
            self.write(self.place(), self.picture())
        elif what == "remove":
            path = self.some()
            path.unlink()
            self.here.discard(path)
            self.damaged.discard(path)
            self.gone(path)
        elif what == "change":
            self.write(self.some(), self.picture())
        elif what == "move":
            path, to = self.some(), self.place()
            path.rename(to)
            self.here.discard(path)
            self.here.add(to)
            self.gone(path)
            # Of one that is damaged nothing is printed.
            if path in self.damaged:
                self.damaged.discard(path)
                self.damaged.add(to)
            else:
                self.wrote(to)
        elif what == "damage":
            path = self.some()
            path.write_bytes(path.read_bytes()[:200])
            self.damaged.add(path)
            self.gone(path)
        elif what == "slow":
            drawn, path = self.picture(), self.place()
            with path.open("wb") as file:
                for part in range(0, len(drawn), 2000):
                    file.write(drawn[part : part + 2000])
                    file.flush()
                    time.sleep(0.05)
            self.wrote(path)
        elif what == "temporary":
            path = self.place()
            hidden = path.with_name(f".{path.name}.part")
            hidden.write_bytes(self.picture())
            hidden.rename(path)
            self.wrote(path)
        else:
            (self.pictures / "notes.txt").write_text(str(self.next))

    def write(self, path, picture):
        path.write_bytes(picture)
        self.wrote(path)

    def listen(self, lines):
        for line in lines:
            with contextlib.suppress(ValueError):
                found = json.loads(line)
                with self.lock:
                    written = self.written.pop(found["photo"], None)
                if written:
                    self.waits.append(time.monotonic() - written)

    def known(self, library):
        """What a library says of each photograph: scores of labels, or that it is broken."""
        said = {}
        for line in (library / "tags.jsonl").read_text().splitlines():
            found = json.loads(line)
            said[found["photo"]] = None if "error" in found else scores(found["labels"])
        return said


def watch(world, options):
    watched, wrong = Watched(world, options.folder / "watch", 2000), []
    library = watched.folder / "library"
    command = ["tag", watched.pictures, "--model", world.model, "--top", "1000", "--out", library]
    run(*command)
    errors = (watched.folder / "errors").open("w")
    process = subprocess.Popen([PROGRAM, *map(str, command), "--watch", "--json"], stdout=subprocess.PIPE, stderr=errors, text=True)
    listener = threading.Thread(target=watched.listen, args=(process.stdout,), daemon=True)
    listener.start()
    atexit.register(process.kill)
    time.sleep(3)
    resident, start, changes, busiest = Memory(process.pid), time.monotonic(), 0, 0.0
    while (now := time.monotonic() - start) < 3600 * options.hours:
        if process.poll() is not None:
            wrong.append(f"the watch ended by itself with {process.returncode}")
            break
        watched.change()
        changes += 1
        # Half a minute in every two the folder is never still for long.
        busy = now % 120 > 90
        time.sleep(0.2 if busy else watched.draws.expovariate(1))
        with watched.lock:
            busiest = max(busiest, max((time.monotonic() - at for at in watched.written.values()), default=0.0))
    took = time.monotonic() - start
    resident.end()
    # What is left is still looked at.
    end = time.monotonic() + LONGEST
    while watched.written and time.monotonic() < end:
        time.sleep(0.5)
    wrong += [f"{name} was not tagged in {LONGEST} s" for name in watched.written]
    process.terminate()
    process.wait(LONGEST)
    listener.join()
    size = (library / "tags.jsonl").stat().st_size
    found = watched.known(library)
    run(*command[:-1], watched.folder / "fresh", code=1 if watched.done["damage"] else 0)
    fresh = watched.known(watched.folder / "fresh")
    if found.keys() != fresh.keys():
        wrong.append(f"the watch knows other photographs than there are: {sorted(found.keys() ^ fresh.keys())[:5]}")
    worst = 0.0
    for name in found.keys() & fresh.keys():
        if (found[name] is None) != (fresh[name] is None):
            wrong.append(f"{name}: {found[name]}, {fresh[name]}")
        elif found[name] is not None:
            worst = max(worst, differ(found[name], fresh[name]))
    if worst > CLOSE:
        wrong.append(f"scores differ by {worst}")
    said = (watched.folder / "errors").read_text()
    if "panicked" in said:
        wrong.append(said[-1000:])
    waits = sorted(watched.waits)
    text = f"""## A folder that is watched

`epsilon tag --watch` for {took / 3600:.2f} hours on a folder of about {len(fresh):,} pictures, in which {changes:,} things happened: {", ".join(f"{count:,} x {what}" for what, count in sorted(watched.done.items()))}.

| | |
|---|---:|
| photographs tagged while it ran | {len(waits):,} |
| wrong at the end, compared with a new library of the folder | {len(wrong)} |
| largest difference of a score (relative; the bound is {CLOSE}) | {worst:.1e} |
| from the last byte to the labels, p50, s | {waits[len(waits) // 2]:.1f} |
| p99, s | {waits[int(0.99 * len(waits))]:.1f} |
| most, s | {max(busiest, waits[-1]):.1f} |
| `tags.jsonl`, bytes a photograph | {size / len(found):.0f} |

A photograph is left alone until it has not changed for 2 s. The watch: {resident.said()}.
"""
    return text, wrong


# --- library ---


def draw_library(folder, first, end):
    """Pictures of a library, each another."""
    pictures = rehearsal.Pictures(1000)
    for number in range(first, end):
        draws = random.Random(f"library {number}")
        labels = [draws.randrange(1000) for _ in range(draws.randrange(1, 9))]
        (folder / f"{number // 1000:03}/{number:06}.png").write_bytes(pictures.draw(draws, labels))


def draw_all(folder, count):
    """All of a library's pictures, by every core."""
    partial = folder.with_suffix(".part")
    shutil.rmtree(partial, ignore_errors=True)
    for number in range(-(-count // 1000)):
        (partial / f"{number:03}").mkdir(parents=True)
    with multiprocessing.get_context("spawn").Pool() as pool:
        pool.starmap(draw_library, [(partial, first, min(count, first + 1000)) for first in range(0, count, 1000)])
    partial.rename(folder)


def timed(*command):
    """What a command printed, its seconds, and its largest resident memory in MB."""
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([PROGRAM, *map(str, command)], stdout=out, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (out, errors):
            file.seek(0)
        said = errors.read()
        if process.returncode or "panicked" in said:
            sys.exit(f"{command}: {process.returncode}: {said[-2000:]}")
        return out.read(), time.monotonic() - start, usage.ru_maxrss * 1024 / 1e6


def library(world, options):
    folder, wrong, rows = options.folder / f"library-{options.photos}", [], []
    if not folder.exists():
        draw_all(folder, options.photos)
    shutil.rmtree(folder / ".epsilon", ignore_errors=True)
    tag = ["tag", folder, "--model", world.model, "--top", "1000"]
    for name, command in [("tag", tag), ("tag again, nothing new", tag)]:
        _, seconds, peak = timed(*command)
        rows.append(f"| `{name}` | {seconds:.1f} | {peak:.0f} |")
    known = {}
    with (folder / ".epsilon/tags.jsonl").open() as file:
        for line in file:
            found = json.loads(line)
            known[found["photo"]] = found
    if len(known) != options.photos:
        wrong.append(f"{len(known)} photographs are known, not {options.photos}")
    draws = random.Random(3)
    sample = draws.sample(sorted(known), min(1000, len(known)))
    expected = dict(zip(sample, world.predict([folder / name for name in sample])))
    worst = max(differ(scores(known[name]["labels"]), expected[name]) for name in sample)
    if worst > CLOSE:
        wrong.append(f"tags differ from `predict` by {worst}")
    found, peaks, seconds, gap = {}, [], [], 0.0
    for label in world.labels:
        said, took, peak = timed("search", folder, label, "--top", "50", "--json")
        found[label] = [(str(Path(photo["photo"]).relative_to(folder)), photo["score"]) for photo in json.loads(said)]
        seconds.append(took)
        peaks.append(peak)
        gap = max(gap, wrong_list(label, found[label], known, wrong))
    rows.append(f"| `search`, of {len(seconds)} words: the median, and the most memory | {statistics.median(seconds):.2f} | {max(peaks):.0f} |")
    server = Server("--library", folder)
    resident, latencies, end = Memory(server.process.pid), [], time.monotonic() + 60 * options.minutes
    while time.monotonic() < end:
        label = draws.choice(world.labels)
        start = time.monotonic()
        status, body = get(server.address, f"/v1/library/photos?q={label.replace(' ', '+')}&limit=50")
        latencies.append(time.monotonic() - start)
        listed = [photo["id"] for photo in json.loads(body)["photos"]] if status == 200 else status
        if listed != [name for name, _ in found[label]]:
            wrong.append(f"{label}: the server lists {str(listed)[:200]}, not {str(found[label])[:200]}")
        name = draws.choice(sample)
        status, body = get(server.address, f"/v1/library/thumb?id={name.replace('/', '%2F')}")
        if status != 200 or not body.startswith(b"\xff\xd8"):
            wrong.append(f"{name}: no thumbnail, {status}")
    resident.end()
    wrong += server.end()
    latencies.sort()
    text = f"""## A library of {options.photos:,} photographs

| | s | peak MB |
|---|---:|---:|
{chr(10).join(rows)}

| | |
|---|---:|
| photographs whose tags were compared with `epsilon predict`, all labels of each | {len(sample):,} |
| largest difference of a score (relative; the bound is {CLOSE}) | {worst:.1e} |
| lists compared with all tags | {len(found)} |
| largest difference of a listed score from its tag (relative; the bound is {CLOSE_IN_INDEX}) | {gap:.1e} |
| searches over HTTP, lists compared with those of `epsilon search` | {len(latencies):,} |
| their p50, ms | {1e3 * latencies[len(latencies) // 2]:.0f} |
| p99, ms | {1e3 * latencies[int(0.99 * len(latencies))]:.0f} |
| wrong | {len(wrong)} |

Between searches a thumbnail was asked for. Server: {resident.said()}.
"""
    return text, wrong


def wrong_list(label, listed, known, wrong):
    """Compares a list with the tags of all photographs; the largest difference of a score."""
    true = {name: next(one["score"] for one in photo["labels"] if one["name"] == label) for name, photo in known.items()}
    gap = max(abs(score - true[name]) / max(1, abs(true[name])) for name, score in listed)
    names, last = {name for name, _ in listed}, min(score for _, score in listed)
    missing = [name for name, score in true.items() if score > last + CLOSE_IN_INDEX * max(1, abs(last)) and name not in names]
    if gap > CLOSE_IN_INDEX or missing:
        wrong.append(f"{label}: scores differ by {gap}, {missing[:3]} are not listed")
    return gap


def get(address, path):
    connection = Connection(address)
    connection.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    answer = connection.answer()
    connection.close()
    return answer


PARTS = {"serve": serve, "watch": watch, "library": library}
TITLES = {"serve": "## Requests", "watch": "## A folder", "library": "## A library"}


def write(sections, options):
    """Keeps the sections in the page of results, beside those of parts that did not run."""
    old = RESULTS.read_text() if RESULTS.exists() else ""
    kept = {name: section for name, title in TITLES.items() for section in re.findall(r"^## .*?(?=^## |\Z)", old, re.DOTALL | re.MULTILINE) if section.startswith(title)}
    text = "# Load\n\n`python3 bench/load.py`; drawn pictures, the model of `epsilon quickstart`, the program with all cores.\n\n"
    for name in PARTS:
        text += (sections.get(name) or kept.get(name, "")).rstrip() + "\n\n"
    RESULTS.write_text(text.rstrip() + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--hostile", type=float, default=5, help="of a hundred requests")
    parser.add_argument("--hours", type=float, default=3, help="of the watch")
    parser.add_argument("--photos", type=int, default=200_000, help="of the library")
    parser.add_argument("--minutes", type=float, default=10, help="of searches of the library over HTTP")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "epsilon-load")
    parser.add_argument("--write", action="store_true", help="keep the sections in bench/results/load.md")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    world, all_wrong = World(options.folder), []
    for name in options.only.split(","):
        before = turns.load()
        text, wrong = PARTS[name](world, options)
        facts = [fact for fact in turns.machine("").splitlines() if not fact.startswith("- peer:")]
        text += "\n" + "\n".join([*facts, f"- busy processes before and after: {before}, {turns.load()}"]) + "\n"
        print(text, *wrong[:20], sep="\n", flush=True)
        all_wrong += wrong
        if options.write:
            write({name: text}, options)
    return 1 if all_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
