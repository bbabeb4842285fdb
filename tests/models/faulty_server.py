"""A server with faults on purpose, over real sockets, in the dialect of vLLM: what it answers is a function of the ids.

`faults` says what goes wrong with each request, by its number; a request that goes wrong is not counted as served.
"""

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Fault = str | None


def logp_of(before: list[int], token: int) -> float:
    """Of a token behind others, log P: one of 1/4, 1/8, 1/16, 1/32, by hash, so that no few of them pass 1."""
    text = json.dumps([before, token])
    return -0.6931471805599453 * (2 + int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % 4)


class FaultyServer:
    """`with FaultyServer(...) as server`: at server.url. served: how often each body was answered in full.

    faults: number of a request, from 0 -> None, or "500", "429", "hang", "cut", "malformed", "other model",
    "no logprobs", "trickle". Requests that only look (probes: before `armed` is set) always succeed.
    """

    def __init__(self, faults: Callable[[int], Fault] = lambda number: None, *, model: str = "toy", **more) -> None:
        self.faults, self.model, self.more = faults, model, more
        self.counted: Counter[str] = Counter()
        self.hit: Counter[str] = Counter()
        self.number, self.armed, self.busy, self.widest = 0, False, 0, 0
        self.writing: set[object] = set()  # answers of which some may have come, and that are not counted yet
        self.lock, self.port, self.keys = threading.Condition(), 0, set()
        self.adapters: dict[str, str] = {}  # name -> folder
        self.told: list[tuple[str, str]] = []  # ("load" or "unload", name)

    def __enter__(self) -> "FaultyServer":
        self.start()
        return self

    def start(self) -> None:
        server, self.dead = self, False

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # or what comes behind the headers waits 40 ms for word that they came

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                server.keys.add(self.headers.get("authorization"))
                row = {
                    "id": server.model,
                    "owned_by": server.more.get("owner", "vllm"),
                    "max_model_len": server.more.get("limit", 4096),
                }
                self.reply({"data": [row]} if self.path.endswith("/models") else {})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                server.keys.add(self.headers.get("authorization"))
                server.handle(self, self.path, body)

            def reply(self, answer: dict | str, status: int = 200, **headers: str) -> None:
                raw = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

        class Quiet(ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

            def handle_error(self, *_: object) -> None:  # whoever asked is gone
                pass

        self.http = Quiet(("127.0.0.1", self.port), Handler)
        self.port = self.http.server_address[1]
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def stop(self) -> None:
        self.dead = True
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # What it answers --------------------------------------------------------------------------------------------------

    def handle(self, request, path: str, raw: bytes) -> None:
        if self.dead:  # a connection from before the end
            request.close_connection = True
            return
        with self.lock:
            number = self.number
            self.number += self.armed
            self.busy += 1
            self.widest = max(self.widest, self.busy)
        try:
            fault = self.faults(number) if self.armed else None
            if fault:
                with self.lock:
                    self.hit[fault] += 1
            self.answer(request, path, json.loads(raw), fault)
        finally:
            with self.lock:
                self.busy -= 1

    def answer(self, request, path: str, body: dict, fault: Fault) -> None:
        if path.endswith("lora_adapter") and "lora" in self.more:
            return self.told_of_adapters(request, path, body)
        if not path.endswith(("/completions", "/tokenize")):
            return request.reply({"error": {"message": "no such path"}}, 404)
        if path.endswith("/tokenize"):
            return request.reply({"error": "not here"}, 404)
        if body["model"] != self.model and body["model"] not in self.adapters:
            return request.reply({"error": {"message": f"the model {body['model']} does not exist"}}, 404)
        if fault == "500":
            return request.reply({"error": {"message": "out of luck"}}, 500)
        if fault and fault.startswith("429"):
            return request.reply({"error": "slow down"}, 429, retry_after=fault.partition(" ")[2] or "0.05")
        if fault == "401":
            return request.reply({"error": f"wrong key {request.headers['authorization']}"}, 401)
        if fault == "hang":
            time.sleep(self.more.get("hang", 1.0))
            request.close_connection = True
            return None
        if fault == "cut":
            request.send_response(200)
            request.send_header("content-length", "1000")
            request.end_headers()
            request.wfile.write(b'{"choices": [{"te')
            request.close_connection = True
            return None
        if "messages" in body and isinstance(said := self.more["says"](body), tuple):  # (status, text)
            return request.reply({"error": {"message": said[1]}}, said[0])
        answer = self.chat(body) if "messages" in body else self.complete(body)
        if fault == "other model":
            answer["model"] = "another"
        if fault == "no logprobs":
            answer["choices"][0]["logprobs"] = None
        raw = json.dumps(answer).encode()
        if fault == "malformed":
            raw = raw[:-20] + b"}" * 20
        with self.counting(body if fault in (None, "trickle") and self.armed else None):
            request.send_response(200)
            request.send_header("content-length", str(len(raw)))
            request.end_headers()
            if fault == "trickle":
                for start in range(0, len(raw), 8):
                    request.wfile.write(raw[start : start + 8])
                    request.wfile.flush()
                    time.sleep(0.05)
            else:
                request.wfile.write(raw)
        return None

    @contextmanager
    def counting(self, body: dict | None) -> Iterator[None]:
        """What is written inside counts as served, if there is a body and nobody hung up."""
        mark, sent = object(), False
        with self.lock:
            self.writing.add(mark)
        try:
            yield
            sent = body is not None
        finally:
            with self.lock:
                self.counted[json.dumps(body, sort_keys=True)] += sent
                self.writing.remove(mark)
                self.lock.notify_all()

    @property
    def served(self) -> Counter[str]:
        """How often each body was answered in full: whoever has its answer finds it counted."""
        with self.lock:
            begun = set(self.writing)  # and no later ones: there may always be some
            assert self.lock.wait_for(lambda: not begun & self.writing, timeout=60)
            return +self.counted

    def told_of_adapters(self, request, path: str, body: dict) -> None:
        """As vLLM: a text where it went well. lora: the largest rank; "ignored": what is loaded changes nothing."""
        name, load = body["lora_name"], path.endswith("/load_lora_adapter")
        if load and not Path(body["lora_path"]).is_dir():
            text = f"No adapter found for {name} at {body['lora_path']}"
            return request.reply({"error": {"message": text}}, 404)
        if load:
            rank = json.loads((Path(body["lora_path"]) / "adapter_config.json").read_text())["r"]
            if isinstance(self.more["lora"], int) and rank > self.more["lora"]:
                text = f"LoRA rank {rank} is greater than max_lora_rank {self.more['lora']}."
                return request.reply({"error": {"message": text}}, 500)
            self.adapters[name] = body["lora_path"]
        elif self.adapters.pop(name, None) is None:
            return request.reply({"error": {"message": f"The lora adapter '{name}' cannot be found."}}, 404)
        self.told.append(("load" if load else "unload", name))
        return request.reply("Success")

    def complete(self, body: dict) -> dict:
        ids = body["prompt"]
        moved = [*ids, -1] if body["model"] in self.adapters and self.more.get("lora") != "ignored" else ids
        top = {f"token_id:{token}": logp_of(moved, token) for token in body.get("logprob_token_ids", ())}
        if body["temperature"] == 0:  # the likeliest of the first few tokens
            token = max(range(64), key=lambda one: (logp_of(moved, one), -one))
            top, name = {}, f"token_id:{token}"
            logprobs = {"tokens": [name], "token_logprobs": [logp_of(moved, token)], "top_logprobs": [top]}
        else:
            logprobs = {"tokens": ["x"], "token_logprobs": [-1.0], "top_logprobs": [top]}
        if self.more.get("silent"):
            logprobs = None
        counted = len(ids) + bool(self.more.get("counts_otherwise"))
        text = f"{sum(ids) % 1000} {0 if self.more.get('ignores_seeds') else body.get('seed', 0) % 1000}"
        usage = {"prompt_tokens": counted, "completion_tokens": min(body["max_tokens"], 2)}
        choice = {"text": text, "finish_reason": "stop", "logprobs": logprobs if "logprobs" in body else None}
        if "prompt_logprobs" in body:
            before, end = body["prompt"], [-1] * (len(moved) - len(ids))
            rows = [{str(token): {"logprob": logp_of([*before[:k], *end], token)}} for k, token in enumerate(before)]
            choice["prompt_logprobs"] = [None, *rows[1:]]
        return {"model": body["model"], "choices": [choice], "usage": usage}

    def chat(self, body: dict) -> dict:
        said = self.more["says"](body)
        said = said if isinstance(said, dict) else {"content": said}
        usage = {"prompt_tokens": 10, "completion_tokens": 1}
        finish = said.pop("finish", "stop")
        choice = {"message": {"role": "assistant", **said}, "finish_reason": finish, "logprobs": None}
        if body.get("logprobs") and "tops" in self.more:
            rows = [{"token": token, "logprob": logp} for token, logp in self.more["tops"].items()]
            choice["logprobs"] = {"content": [{**rows[0], "top_logprobs": rows}]}
        return {"model": f"{self.model}-2026-01-01", "choices": [choice], "usage": usage}
