"""Options, rows and a server for measuring the speed of every registered reward.

Rewards that need options have an entry in :data:`OPTIONS`, and :func:`rows_for` makes rows with
every column that a built-in reward reads.
"""

from __future__ import annotations

import inspect
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from textgym.errors import SettingsError
from textgym.lm.loading.files import no_progress_bars
from textgym.registry import REWARDS
from textgym.tasks import Row, make_task
from textgym.tokenization import TINY_DIR, load_tokenizer

TASKS = ("TextGen/Sentiment-v0", "TextGen/Story-v0", "TextGen/Summarize-v0")
"""The tasks whose rows and right answers are the texts, by turns."""

PROGRAMS = 8
"""Programs that `unit_tests` runs: each takes a good part of a second."""


class Texts(NamedTuple):
    """N texts, with all columns that a reward may read."""

    prompts: list[str]
    completions: list[str]
    columns: dict[str, list[Any]]

    def part(self, start: int, stop: int) -> Texts:
        """The texts from one place to another."""
        cut = slice(start, stop)
        columns = {name: values[cut] for name, values in self.columns.items()}
        return Texts(self.prompts[cut], self.completions[cut], columns)


class Workshop:
    """Resources of some rewards: a server, and checkpoints.

    Args:
        folder: Where checkpoints are written.
        server: A fake server of scores.
        device: Device of the models.
    """

    def __init__(self, folder: Path, server: ScoreServer, device: str) -> None:
        self.folder = folder
        self.server = server
        self.device = device

    def classifier(self, labels: int) -> str:
        """A sequence classifier of the built-in model's size, with random weights."""
        folder = self.folder / f"classifier-{labels}"
        if not folder.exists():
            config = AutoConfig.from_pretrained(
                TINY_DIR, num_labels=labels, dtype="float32", pad_token_id=0
            )
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
            with no_progress_bars():
                model.save_pretrained(folder)
            AutoTokenizer.from_pretrained(TINY_DIR).save_pretrained(folder)
        return str(folder)


Options = Callable[[Workshop], dict[str, Any]]


_INTENTS = {"praise": ["superb", "great", "lovely", "good"], "story": ["gave", "went", "took"]}

OPTIONS: Mapping[str, Options] = {
    "cider": lambda shop: {"corpus": prose(1000, 1).columns["reference"]},
    "length": lambda shop: {"target": 20},
    "regex": lambda shop: {"pattern": r"\b(?:overall|gave)\b.*\.$"},
    "intent": lambda shop: {"classifier": _INTENTS},
    "classifier": lambda shop: {"model": shop.classifier(2), "label": 1},
    "reward_model": lambda shop: {"model": shop.classifier(1)},
    "http": lambda shop: {"url": shop.server.url},
    "judge": lambda shop: {
        "model": "fake", "base_url": f"{shop.server.url}/v1", "api_key_env": None
    },
}  # fmt: skip
"""The options of rewards that need some, and a corpus for CIDEr. Others have their defaults."""


def options_of(name: str, shop: Workshop) -> dict[str, Any]:
    """The options of a reward, with the device of its model if it has one.

    Raises:
        SettingsError: If it needs options and has no entry in `OPTIONS`.
    """
    parameters = inspect.signature(REWARDS.get(name)).parameters
    given = OPTIONS[name](shop) if name in OPTIONS else {}
    if "device" in parameters:
        given["device"] = shop.device
    needed = [key for key, each in parameters.items() if each.default is each.empty]
    if missing := [key for key in needed if key not in given]:
        raise SettingsError(
            f"the reward {name!r} needs {', '.join(missing)}; add an entry to OPTIONS in "
            "benchmarks/studies/reward_cases.py"
        )
    return given


def rows_for(name: str, count: int, seed: int) -> Texts:
    """Rows with texts to judge by a reward: programs for `unit_tests`, prose for all others."""
    return programs(min(count, PROGRAMS), seed) if name == "unit_tests" else prose(count, seed)


def prose(count: int, seed: int) -> Texts:
    """Texts of the tasks by turns, all different, each on a row whose reference is another text.

    The text is the right answer to another prompt of its task: fluent, of the usual length, and
    sharing some words with the reference, like a policy's text.
    """
    rng = np.random.default_rng(seed)
    tasks = [make_task(task) for task in TASKS]
    tokenizer = load_tokenizer()
    seen: set[str] = set()
    prompts: list[str] = []
    completions: list[str] = []
    rows: list[Row] = []
    while len(rows) < count:
        task = tasks[len(rows) % len(tasks)]
        row, text = task.sample(rng), task.oracle(task.sample(rng))
        if text in seen or row["prompt"] in seen:
            continue
        seen |= {text, row["prompt"]}
        prompts.append(row["prompt"])
        completions.append(text)
        rows.append(row)
    references = [row["reference"] for row in rows]
    words = [sorted(set(re.findall(r"[a-z]{4,}", text.lower()))) for text in references]
    columns = {
        "reference": references,
        "keywords": [found[:4] for found in words],
        "concepts": [found[:4] for found in words],
        "table": [[[f"entry {k}", word] for k, word in enumerate(found[:8])] for found in words],
        "intent": ["praise" if "subject" in row else "story" for row in rows],
        "completion_ids": [tokenizer.encode(text) for text in completions],
    }
    return Texts(prompts, completions, columns)


def programs(count: int, seed: int) -> Texts:
    """Right answers of TextGen/Code-v0, with two tests each."""
    rng = np.random.default_rng(seed)
    task = make_task("TextGen/Code-v0")
    rows = [task.sample(rng) for _ in range(count)]
    return Texts(
        [row["prompt"] for row in rows],
        [task.oracle(row) for row in rows],
        {"tests": [row["tests"][:2] for row in rows], "entry_point": ["f"] * count},
    )


class ScoreServer(ThreadingHTTPServer):
    """A local server of scores: every text gets 0.5.

    It answers `http` and `judge` immediately, and below ``/slow/SECONDS`` after that time.
    """

    request_queue_size = 64  # More connections than that at once wait for a second.
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> ScoreServer:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # Otherwise each answer waits for an acknowledgement.

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if match := re.fullmatch(r"/slow/([0-9.]+)", self.path):
            time.sleep(float(match[1]))
        answer: dict[str, Any]
        if "messages" in body:
            ticket = re.findall(r"Score ([0-9a-f]+): N", body["messages"][0]["content"])[-1]
            said = {"role": "assistant", "content": f"Score {ticket}: 5"}
            answer = {"choices": [{"finish_reason": "stop", "message": said}]}
        else:
            answer = {"scores": [0.5] * len(body["completions"])}
        raw = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args: Any) -> None:
        """Log nothing."""
