"""Runs the ASGI program of a function's machine for aleph-guest.

One process for the life of the machine. aleph-guest starts it with two sockets:
3 is the control channel, 4 listens for calls, one at a time on each connection.
Both carry frames: a byte for the kind, the length in 4 bytes, big endian, and as
many bytes. Text in JSON that stands for bytes is latin-1.

Control, each answered by the same kind: L loads a program (JSON), R reseeds what
a copy of the machine shares with others, Q ends the program. A first U says that
the process is up.

A call: C is its scope (JSON), B a piece of the body, E its end. The answer: S is
status and headers (JSON), B a piece of the body, E the end (JSON: error and
traceback if the program raised). The connection is then free for the next call.
R is taken here too once a program is loaded, and answered by E.
"""

import asyncio
import collections
import gc
import importlib
import json
import os
import socket
import struct
import sys
import traceback
import types

HEAD = struct.Struct(">cI")
FRAME_MAX = 32 << 20
PIECE_MAX = 64 << 10
WINDOW = 256 << 10  # Of a body, what may come before the program reads it.
STARTUP_SECONDS = 30
SHUTDOWN_SECONDS = 10
ASGI = {"version": "3.0", "spec_version": "2.3"}


async def read_frame(reader):
    kind, size = HEAD.unpack(await reader.readexactly(HEAD.size))
    if size > FRAME_MAX:
        raise ConnectionError(f"frame of {size} bytes")
    return kind, await reader.readexactly(size) if size else b""


def frame(kind, payload=b""):
    return HEAD.pack(kind, len(payload)) + payload


def failure(error):
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return {"error": str(error), "traceback": text}


class Lifespan:
    """Tells the program of its begin and end.

    A program that does not know of lifespans, which it says by raising or
    returning, is run without.
    """

    def __init__(self, app):
        self.app = app
        self.state = {}
        self.events = asyncio.Queue()
        self.answers = asyncio.Queue()
        self.task = None

    async def startup(self):
        self.task = asyncio.ensure_future(self.run())
        if not await self.tell("startup", STARTUP_SECONDS):
            self.task = None

    async def shutdown(self):
        if self.task is not None:
            await self.tell("shutdown", SHUTDOWN_SECONDS)

    async def tell(self, event, seconds):
        """Returns whether the program answered."""
        self.events.put_nowait({"type": "lifespan." + event})
        try:
            answer = await asyncio.wait_for(self.answers.get(), seconds)
        except asyncio.TimeoutError:
            raise TimeoutError(f"ASGI application {event} did not complete within {seconds}s") from None
        if answer is None:
            return False
        if answer["type"] == f"lifespan.{event}.failed":
            raise RuntimeError(answer.get("message") or f"ASGI application {event} failed")
        return True

    async def run(self):
        scope = {"type": "lifespan", "asgi": ASGI, "state": self.state}
        try:
            await self.app(scope, self.events.get, self.send)
        except (Exception, asyncio.CancelledError):
            pass  # The program's own way to say that it knows no lifespans.
        self.answers.put_nowait(None)

    async def send(self, message):
        self.answers.put_nowait(message)


class Call:
    """A call on its way through the program."""

    def __init__(self, connection, given):
        self.connection = connection
        self.event = given["type"] != "http"
        self.pieces = collections.deque()  # Of the body, not read yet.
        self.size = 0  # Theirs.
        self.body_ended = False
        self.body_told = False  # The program was given the last piece.
        self.gone = False  # The other side has hung up.
        self.done = False  # The program has ended.
        self.changed = asyncio.Event()
        self.start = None
        self.started = False
        self.answered = False

    # What the other side says.

    def feed(self, piece):
        self.pieces.append(piece)
        self.size += len(piece)
        if self.size > WINDOW:
            self.connection.transport.pause_reading()
        self.changed.set()

    def end_body(self):
        self.body_ended = True
        self.changed.set()

    def hang_up(self):
        self.gone = True
        self.changed.set()

    # What the program does.

    async def wait(self):
        self.changed.clear()
        await self.changed.wait()

    async def receive(self):
        while self.event and not self.body_ended and not self.gone:
            await self.wait()
        while not self.body_told:
            if self.event and self.body_ended:
                self.body_told = True
                return {"type": "aleph.message", "body": b"".join(self.pieces).decode()}
            if self.pieces:
                piece = self.pieces.popleft()
                self.size -= len(piece)
                if self.size <= WINDOW:
                    self.connection.resume_reading()
                self.body_told = self.body_ended and not self.pieces
                return {"type": "http.request", "body": piece, "more_body": not self.body_told}
            if self.body_ended:
                self.body_told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if self.is_over():
                break
            await self.wait()
        while not self.is_over():
            await self.wait()
        return {"type": "http.disconnect"}

    def is_over(self):
        return self.gone or self.answered or self.done

    async def send(self, message):
        if self.answered or self.gone:
            return
        if self.event:
            body = message.get("body", b"")
            if not isinstance(body, (bytes, str)):
                body = json.dumps(body, default=str)
            self.answered = True
            self.write_body(body.encode() if isinstance(body, str) else body)
        elif message["type"] == "http.response.start":
            if self.start is not None:
                raise RuntimeError("http.response.start was sent twice")
            headers = [(bytes(k).lower().decode("latin-1"), bytes(v).decode("latin-1")) for k, v in message.get("headers", ())]
            self.start = {"status": int(message["status"]), "headers": headers}
        elif message["type"] == "http.response.body":
            if self.start is None:
                raise RuntimeError("http.response.body was sent before http.response.start")
            self.answered = not message.get("more_body", False)
            self.write_body(message.get("body", b""))
        else:
            raise RuntimeError(f"{message['type']} was sent in a call of HTTP")
        await self.connection.writable.wait()

    def write_body(self, body):
        if not self.started and self.start is not None:
            self.started = True
            self.connection.write(b"S", json.dumps(self.start).encode())
        body = bytes(body)
        for at in range(0, len(body), PIECE_MAX):
            self.connection.write(b"B", body[at : at + PIECE_MAX])
        if self.answered:
            self.changed.set()
            # Most programs end now, and the end goes with this.
            asyncio.get_running_loop().call_soon(self.connection.flush)
        else:
            self.connection.flush()

    def finish(self, result):
        """Ends the answer; another call may follow."""
        self.done = True
        self.changed.set()
        if not result and not self.event and self.start is None:
            result = {"error": "the application ended without a response", "traceback": ""}
        if not result and not self.started:
            self.write_body(b"")
        self.connection.write(b"E", json.dumps(result).encode())
        self.connection.flush()
        self.connection.resume_reading()


class Connection(asyncio.BufferedProtocol):
    """A connection for calls, one at a time.

    What the program did not read of a call comes before the next, and is passed
    over.
    """

    def __init__(self, program):
        self.program = program
        self.transport = None
        self.incoming = memoryview(bytearray(PIECE_MAX))
        self.buffer = bytearray()
        self.out = []
        self.writable = asyncio.Event()
        self.writable.set()
        self.call = None
        self.task = None

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        self.writable.set()
        if self.call is not None:
            self.call.hang_up()

    def pause_writing(self):
        self.writable.clear()

    def resume_writing(self):
        self.writable.set()

    def resume_reading(self):
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def write(self, kind, payload):
        self.out.append(frame(kind, payload))

    def flush(self):
        if self.out and not self.transport.is_closing():
            self.transport.write(b"".join(self.out))
        self.out.clear()

    def get_buffer(self, sizehint):
        return self.incoming

    def buffer_updated(self, size):
        self.buffer += self.incoming[:size]
        at = 0
        while len(self.buffer) - at >= HEAD.size:
            kind, size = HEAD.unpack_from(self.buffer, at)
            end = at + HEAD.size + size
            if size > FRAME_MAX:
                self.transport.abort()
                return
            if len(self.buffer) < end:
                break
            self.take(kind, bytes(self.buffer[at + HEAD.size : end]))
            at = end
        del self.buffer[:at]

    def take(self, kind, payload):
        if kind == b"C":
            given = json.loads(payload)
            self.call = Call(self, given)
            self.task = asyncio.get_running_loop().create_task(self.program.run(self.call, given))
        elif kind == b"R":
            result = {}
            try:
                reseed()
            except Exception as error:
                result = failure(error)
            self.write(b"E", json.dumps(result).encode())
            self.flush()
        elif self.call is None or self.call.done:
            pass
        elif kind == b"B":
            self.call.feed(payload)
        elif kind == b"E":
            self.call.end_body()


class Program:
    def __init__(self):
        self.app = None
        self.lifespan = None

    async def load(self, spec):
        os.environ.update(spec["environ"] or {})
        sys.path[:0] = spec["path"] or []
        importlib.invalidate_caches()
        if spec["source"] is not None:
            module = types.ModuleType("__program__")
            sys.modules[module.__name__] = module
            exec(compile(spec["source"], "<program>", "exec"), module.__dict__)
            self.app = getattr(module, spec["entrypoint"])
        else:
            name, _, attributes = spec["entrypoint"].partition(":")
            target = importlib.import_module(name)
            for attribute in attributes.split("."):
                target = getattr(target, attribute)
            self.app = target
        self.lifespan = Lifespan(self.app)
        await self.lifespan.startup()
        reseed()  # The first time takes longest, and copies have it behind them.
        # What is there now stays: it need not be looked at, nor be copied
        # where machines share the memory of a snapshot.
        gc.collect()
        gc.freeze()

    async def run(self, call, given):
        scope = {"type": given["type"], "asgi": ASGI}
        if not call.event:
            query = given["query_string"].encode()
            scope.update(
                http_version="1.1",
                method=given["method"],
                scheme="http",
                path=given["path"],
                raw_path=given["path"].encode(),
                query_string=query,
                root_path="",
                headers=[(k.encode("latin-1"), v.encode("latin-1")) for k, v in given["headers"]],
                client=None,
                server=None,
                state=self.lifespan.state.copy(),
            )
        result = {}
        try:
            await (rehearsal if "rehearsal" in given else self.app)(scope, call.receive, call.send)
        except (Exception, asyncio.CancelledError) as error:
            result = failure(error)
            print(result["traceback"], end="", file=sys.stderr, flush=True)
        call.finish(result)


async def rehearsal(scope, receive, send):
    """Stands in for the program in a call that only warms up everything else."""
    while (await receive())["more_body"]:
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b"{}"})


def reseed():
    """Parts from the copies of this process that were made with its machine.

    The kernel's generator is new already; those in the process are not.
    """
    if "random" in sys.modules:
        # Of bytes it would take a hash first.
        sys.modules["random"].seed(int.from_bytes(os.urandom(64), "little"))
    if "tempfile" in sys.modules:
        sys.modules["tempfile"]._name_sequence = None
    if "ssl" in sys.modules:
        sys.modules["ssl"].RAND_add(os.urandom(64), 64.0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(list(os.urandom(64)))


async def main():
    # An own directory is no place for modules of programs.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [p for p in sys.path if os.path.abspath(p) != here]
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=3))
    program = Program()
    server = None
    writer.write(frame(b"U"))
    while True:
        try:
            kind, payload = await read_frame(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        result = {}
        try:
            if kind == b"L":
                await program.load(json.loads(payload))
                calls = socket.socket(fileno=4)
                server = await asyncio.get_running_loop().create_unix_server(lambda: Connection(program), sock=calls, backlog=128)
            elif kind == b"R":
                reseed()
            elif kind == b"Q" and program.lifespan is not None:
                await program.lifespan.shutdown()
        except BaseException as error:
            if not isinstance(error, (Exception, SystemExit)):
                raise
            result = failure(error)
        writer.write(frame(kind, json.dumps(result).encode()))
        await writer.drain()


if __name__ == "__main__":
    asyncio.run(main())
