"""No content, anywhere: marked words in everything a program says and hears, searched in every byte that comes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import payloads as p
import pytest
from server import Received, Reply, Server, as_json, sse

CANARIES = {
    name: f"canary-{name}-{number}f3a9"
    for number, name in enumerate(
        (
            "system",
            "prompt",
            "answer",
            "tool",
            "argument",
            "key",
            "organisation",
            "header",
            "error",
            "user",
            "metadata",
            "path",
        )
    )
}

PROGRAM = """
import json, logging, os, sys
import anthropic, boto3, openai
import ecoimpact

logging.basicConfig(level=logging.DEBUG, handlers=[logging.StreamHandler()])
noisy_ones = ("openai", "anthropic", "httpx", "httpcore", "httpx2", "httpcore2", "botocore")
for noisy in noisy_ones:  # not ours, and they do print content
    logging.getLogger(noisy).setLevel(logging.CRITICAL)
c = json.loads(sys.argv[2])

def broken(record):
    raise RuntimeError(c["error"])

ecoimpact.instrument(exporters=[broken], request_stream_usage=True)
gpt = openai.OpenAI(
    api_key=c["key"], organization=c["organisation"], base_url=f"{sys.argv[1]}/{c['path']}", max_retries=0,
    default_headers={"x-header": c["header"]},
)
claude = anthropic.Anthropic(api_key=c["key"], base_url=sys.argv[1], max_retries=0)
keys = {"aws_access_key_id": c["key"], "aws_secret_access_key": c["key"]}
bedrock = boto3.client("bedrock-runtime", "eu-west-3", endpoint_url=sys.argv[1], **keys)
tools = [{"type": "function", "function": {"name": c["tool"], "parameters": {"type": "object", "properties": {}}}}]
ask = {
    "model": "gpt-4o-mini", "tools": tools, "user": c["user"], "metadata": {"a": c["metadata"]},
    "messages": [{"role": "system", "content": c["system"]}, {"role": "user", "content": c["prompt"]}],
}
with ecoimpact.label(user=c["user"], feature="search"):
    answer = gpt.chat.completions.create(**ask)
    for chunk in gpt.chat.completions.create(**ask, stream=True):
        print(chunk.impacts if hasattr(chunk, "impacts") else "")
    next(iter(gpt.chat.completions.create(**ask, stream=True)))  # and leave
    gpt.chat.completions.with_raw_response.create(**ask)
    gpt.responses.create(model="gpt-4o-mini", input=c["prompt"], instructions=c["system"])
    claude.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=[{"role": "user", "content": c["prompt"]}])
    turn = {"role": "user", "content": [{"text": c["prompt"]}]}
    told = bedrock.converse(modelId="amazon.nova-lite-v1:0", system=[{"text": c["system"]}], messages=[turn])
    print(ecoimpact.impacts_of(told))
    drawn = bedrock.invoke_model(modelId="amazon.nova-lite-v1:0", body=json.dumps({"messages": [turn]}))
    assert c["answer"].encode() in drawn["body"].read()
    try:
        gpt.chat.completions.create(**{**ask, "model": "failing"})
    except openai.BadRequestError as error:
        assert c["error"] in str(error)
impacts = answer.impacts
print(impacts, repr(impacts), impacts.to_dict(), impacts.explain(), impacts._repr_html_())
print(ecoimpact.flush(30), ecoimpact.drops(), ecoimpact.impacts_of(answer).cost)
"""

COMMANDS = [
    "report",
    "report --by label:user --format json",
    "report --by endpoint --format csv",
    "report --format html --out report.html",
    "top --once",
    "tail",
    "tail --json",
    "export --format jsonl --out out.jsonl",
    "export --format csv --out out.csv",
    "export --format parquet --out out.parquet",
    "budget check --usd 1 --per user --fail-at 1000",
    "doctor",
    "prune --older-than 1 --dry-run",
    "prune --label feature=none --yes",
]


@pytest.fixture
def server() -> Server:
    def script(request: Received) -> Reply:
        body = request.body
        if request.path.startswith("/model/"):
            message = {"role": "assistant", "content": [{"text": CANARIES["answer"]}]}
            usage = {"inputTokens": 4, "outputTokens": 7, "totalTokens": 11}
            return as_json({"output": {"message": message}, "usage": usage}, 200, **{"x-amzn-requestid": "r-1"})
        if body["model"] == "failing":
            return as_json({"error": {"message": CANARIES["error"], "type": "invalid_request_error"}}, 400)
        if "responses" in request.path:
            return as_json(p.response(text=CANARIES["answer"]))
        if "messages" in request.path.rsplit("/", 1)[-1]:
            return as_json(p.message([{"type": "text", "text": CANARIES["answer"]}]))
        function = {"name": CANARIES["tool"], "arguments": json.dumps({"a": CANARIES["argument"]})}
        if body.get("stream"):
            return sse(p.chat_chunks(usage="stream_options" in body, words=[CANARIES["answer"], CANARIES["answer"]]))
        return as_json(p.chat(CANARIES["answer"], tool_calls=[{"id": "1", "type": "function", "function": function}]))

    server = Server()
    server.reset(script)
    return server


def test_no_byte_of_content_comes_out_anywhere(server: Server, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(tmp_path / "work"),
        "NO_PROXY": "127.0.0.1",
        "ECOIMPACT_LOG": "log",
        "ECOIMPACT_HASH_LABELS": "user",
        "ECOIMPACT_HASH_KEY": "canary-secret-of-hash",
    }

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path / "work", env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{command[:3]}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    try:
        arguments = [server.url.removesuffix("/v1"), json.dumps(CANARIES)]
        printed = run("ecoimpact", "run", "--label", "app=chat", str(program), *arguments)
    finally:
        server.close()
    assert "exporter-error" in printed
    printed += "".join(run("ecoimpact", *command.split()) for command in COMMANDS)
    written = {path: path.read_bytes() for path in tmp_path.joinpath("work").rglob("*") if path.is_file()}
    names = {path.name for path in written}
    assert {"index.sqlite", "report.html", "out.jsonl", "out.csv", "out.parquet"} <= names
    lines = [line for path, content in written.items() if path.parent.parent.name == "log" for line in content.splitlines()]
    records = [json.loads(line) for line in lines]
    assert len(records) == 9
    assert {record["status"] for record in records} == {"ok", "error", "abandoned"}
    assert {record["labels"]["feature"] for record in records} == {"search"}
    for canary in (*CANARIES.values(), "canary", environment["ECOIMPACT_HASH_KEY"]):
        assert canary not in printed
        for path, content in written.items():
            assert canary.encode() not in content, path.name
            assert canary.encode("utf-16-le") not in content, path.name
