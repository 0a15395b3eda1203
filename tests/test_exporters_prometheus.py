"""Prometheus: a real server scrapes both exporters, its sums equal the log, and every query of the dashboard has data."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import openai
import payloads as p
import pytest
import yaml
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families
from server import Received, Reply, Server, as_json, sse

import ecoimpact
from ecoimpact import Record
from ecoimpact.exporters import measures
from ecoimpact.exporters.metrics import FIGURES
from ecoimpact.exporters.otel import OTelExporter
from ecoimpact.exporters.prometheus import PrometheusExporter
from ecoimpact.records.reader import read_records

GRAFANA = Path(__file__).parents[1] / "docs" / "grafana"
HELPERS = str(Path(__file__).parent / "instrumentation")
LIMIT_S = 60
ASK: Any = {"model": p.MODEL, "messages": [{"role": "user", "content": "How does water boil?"}]}


def answer(request: Received) -> Reply:
    """Chat by whatever model is asked for; the model ``failing`` fails."""
    model = request.body["model"]
    if model == "failing":
        return as_json({"error": {"message": "no"}}, 400)
    if request.body.get("stream"):
        return sse(p.chat_chunks(usage=True), done=True)
    return as_json(p.chat() if model == p.MODEL else {**p.chat(), "model": model})


@pytest.fixture(autouse=True)
def _bare(server: Server) -> Iterator[None]:
    server.reset(answer)
    yield
    ecoimpact.uninstrument()


def use(client: openai.OpenAI) -> int:
    """Requests of every kind that the metrics tell apart; how many."""
    with ecoimpact.label(user="alice@example.org", feature="search"):
        client.chat.completions.create(**ASK)
        client.chat.completions.create(**{**ASK, "model": "gpt-4o"})
    list(client.chat.completions.create(**ASK, stream=True))
    client.chat.completions.create(**{**ASK, "model": "nobody-knows-this-one"})
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**{**ASK, "model": "failing"})
    return 5


class Sample(NamedTuple):
    name: str
    labels: dict[str, str]
    value: float


def samples(text: bytes | str) -> list[Sample]:
    text = text.decode("utf-8") if isinstance(text, bytes) else text
    families = text_string_to_metric_families(text)
    return [Sample(s.name, s.labels, s.value) for family in families for s in family.samples]


def total(found: list[Sample], name: str, **labels: str) -> float:
    return math.fsum(s.value for s in found if s.name == name and labels.items() <= s.labels.items())


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as response:
        content: bytes = response.read()
    return content


def until(true: Callable[[], Any], what: str) -> Any:
    """Wait for something that another process does."""
    deadline = time.monotonic() + LIMIT_S
    while not (found := true()):
        assert time.monotonic() < deadline, f"not in {LIMIT_S} s: {what}"
        threading.Event().wait(0.05)
    return found


def logged(records: list[dict[str, Any]], field: str, factor: float = 1.0) -> float:
    return math.fsum(record[field] * factor for record in records if record[field] is not None)


def expected_sums(records: list[dict[str, Any]]) -> dict[str, float]:
    """The sum of every counter that the log tells of."""
    sums = {
        "ecoimpact_requests_total": len(records),
        "ecoimpact_tokens_total": logged(records, "input_tokens") + logged(records, "output_tokens"),
        "ecoimpact_cost_usd_total": logged(records, "cost_usd"),
        "ecoimpact_requests_unestimated_total": sum(record["energy_kwh_min"] is None for record in records),
        "ecoimpact_requests_unpriced_total": sum(record["cost_usd"] is None for record in records),
        "gen_ai_client_operation_duration_seconds_sum": logged(records, "latency_s"),
        "gen_ai_client_operation_duration_seconds_count": len(records),
        "gen_ai_client_token_usage_sum": logged(records, "input_tokens") + logged(records, "output_tokens"),
    }
    for ends in FIGURES:
        field = next(criterion.suffix for criterion in ecoimpact.types.CRITERIA if criterion.key == ends.key)
        for metric, end in ((ends.low, "min"), (ends.central, "central"), (ends.high, "max")):
            sums[f"{metric.prometheus}_total"] = logged(records, f"{field}_{end}", ends.factor)
    return sums


# --- in one process -----------------------------------------------------------------------------------------------------


def test_what_is_shown_equals_the_log(client: openai.OpenAI, tmp_path: Path) -> None:
    exporter = PrometheusExporter(CollectorRegistry(), labels=["feature"])
    ecoimpact.instrument(log_dir=tmp_path, exporters=[exporter])
    number = use(client) + use(client)
    assert ecoimpact.flush(10)
    found = samples(generate_latest(exporter.registry))
    records = list(read_records(tmp_path))
    assert len(records) == number
    for name, value in expected_sums(records).items():
        assert value > 0, name
        assert total(found, name) == pytest.approx(value, rel=1e-9), name
    assert total(found, "ecoimpact_requests_total", label_feature="search") == 4
    assert total(found, "ecoimpact_requests_total", status="error") == 2
    assert "alice" not in generate_latest(exporter.registry).decode()


def test_names_and_labels_are_those_of_opentelemetrys_translation(client: openai.OpenAI) -> None:
    direct, translated = CollectorRegistry(), CollectorRegistry()
    provider = MeterProvider([PrometheusMetricReader(registry=translated)], shutdown_on_exit=False)
    exporters = [PrometheusExporter(direct, labels=["http.route"]), OTelExporter(provider, labels=["http.route"])]
    ecoimpact.instrument(exporters=exporters)
    with ecoimpact.label({"http.route": "/chat"}):
        use(client)
    assert ecoimpact.flush(10)

    def shown(registry: CollectorRegistry) -> set[tuple[Any, ...]]:
        """All but when it was and the scope, which only one of them tells."""
        return {
            (
                sample.name,
                sample.labels.get("le") and float(sample.labels["le"]),  # written in two ways
                frozenset(
                    (name, value)
                    for name, value in sample.labels.items()
                    if value and name != "le" and not name.startswith("otel_scope")
                ),
                sample.value,
            )
            for sample in samples(generate_latest(registry))
            if sample.name.startswith(("ecoimpact_", "gen_ai_")) and not sample.name.endswith("_created")
        }

    assert len(shown(direct)) > 50
    assert shown(direct) == shown(translated)


def test_hostile_names_are_escaped_and_bounded(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "MAX_VALUES", 20)
    exporter = PrometheusExporter(CollectorRegistry(), labels=["feature"])
    ecoimpact.instrument(exporters=[exporter])
    texts = ['"} 1\necoimpact_requests_total{x="', "\\", "a\u202eb", "\x1b[31m", "x" * 5_000, "<script>", "%s{}", "日本語"]
    for text in texts:
        with ecoimpact.label(feature=text):
            client.chat.completions.create(**{**ASK, "model": f"m-{text}"})
    for number in range(30):
        with ecoimpact.label(feature=f"f{number}"):
            client.chat.completions.create(**ASK)
    assert ecoimpact.flush(10)
    page = generate_latest(exporter.registry).decode()
    requests = [sample for sample in samples(page) if sample.name == "ecoimpact_requests_total"]
    assert math.fsum(sample.value for sample in requests) == len(texts) + 30
    features = {sample.labels["label_feature"] for sample in requests}
    assert len(features) == 20 + 1
    assert {"(other)", "<script>", "日本語", "\\", "[31m"} <= features
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_a_registry_takes_one_exporter() -> None:
    registry = CollectorRegistry()
    PrometheusExporter(registry)
    with pytest.raises(ValueError, match="Duplicated"):
        PrometheusExporter(registry)


def test_an_exporter_whose_registry_breaks_loses_its_own_records_alone(client: openai.OpenAI) -> None:
    exporter, others = PrometheusExporter(CollectorRegistry()), list[Record]()
    exporter._metrics.clear()
    before = ecoimpact.drops().get("exporter-error", 0)
    ecoimpact.instrument(exporters=[exporter, others.append])
    assert client.chat.completions.create(**ASK).choices[0].message.content == p.TEXT
    assert ecoimpact.flush(10)
    assert len(others) == 1
    assert ecoimpact.drops()["exporter-error"] == before + 1


def test_it_is_served_on_loopback_alone(client: openai.OpenAI) -> None:
    exporter = PrometheusExporter(CollectorRegistry())
    ecoimpact.instrument(exporters=[exporter])
    server, _ = exporter.serve(0)
    try:
        assert server.server_address[0] == "127.0.0.1"
        client.chat.completions.create(**ASK)
        assert ecoimpact.flush(10)
        found = samples(read(f"http://127.0.0.1:{server.server_port}/metrics"))
        assert total(found, "ecoimpact_requests_total") == 1
    finally:
        server.shutdown()
        server.server_close()


CANARIES = (
    "canary-prompt-7f3a",
    "canary-answer-91bc",
    "canary-key-55de",
    "canary-tool-c0ff",
    "canary-error-ab12",
    "canary-user",
)


def test_no_content_is_shown(server: Server) -> None:
    prompt, reply, key, tool, error, user = CANARIES

    def script(request: Received) -> Reply:
        if request.body["model"] == "failing":
            return as_json({"error": {"message": error}}, 400)
        calls = [{"id": "1", "type": "function", "function": {"name": tool, "arguments": json.dumps({"a": tool})}}]
        return as_json(p.chat(reply, tool_calls=calls))

    server.reset(script)
    exporter = PrometheusExporter(CollectorRegistry(), labels=["feature"])
    ecoimpact.instrument(exporters=[exporter])
    ask: Any = {"model": p.MODEL, "messages": [{"role": "user", "content": prompt}], "user": user}
    with (
        openai.OpenAI(api_key=key, base_url=f"{server.url}/{prompt}", max_retries=0) as client,
        ecoimpact.label(user=user, feature="search"),
    ):
        client.chat.completions.create(**ask)
        with pytest.raises(openai.BadRequestError, match=error):
            client.chat.completions.create(**{**ask, "model": "failing"})
    assert ecoimpact.flush(10)
    page = generate_latest(exporter.registry).decode()
    assert total(samples(page), "ecoimpact_requests_total") == 2
    assert "canary" not in page


# --- several processes --------------------------------------------------------------------------------------------------

APP = """
import sys
sys.path.insert(0, {helpers!r})
import openai, ecoimpact
import payloads as p
from prometheus_client import make_wsgi_app
from ecoimpact.exporters.prometheus import PrometheusExporter

exporter = PrometheusExporter()
ecoimpact.instrument(log_dir={log!r}, exporters=[exporter])
ASK = dict(model=p.MODEL, messages=[])
client = openai.OpenAI(api_key="test", base_url={url!r})
"""


def environment(counts: Path) -> dict[str, str]:
    counts.mkdir()
    scripts = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": scripts, "NO_PROXY": "127.0.0.1", "PROMETHEUS_MULTIPROC_DIR": str(counts)}


def write_app(tmp_path: Path, server: Server, body: str) -> Path:
    path = tmp_path / "app.py"
    head = APP.format(helpers=HELPERS, log=str(tmp_path / "log"), url=server.url)
    path.write_text(head + textwrap.dedent(body))
    return path


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_processes_share_their_counts(server: Server, tmp_path: Path) -> None:
    program = write_app(
        tmp_path,
        server,
        """
        import multiprocessing, os
        from prometheus_client import generate_latest

        def work(calls):
            own = openai.OpenAI(api_key="test", base_url=client.base_url)
            for _ in range(calls):
                own.chat.completions.create(**ASK)

        client.chat.completions.create(**ASK)
        assert ecoimpact.flush(30)
        processes = [multiprocessing.get_context("fork").Process(target=work, args=(calls,)) for calls in (1, 2, 3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0
        client.chat.completions.create(**ASK)
        assert ecoimpact.flush(30) and not ecoimpact.drops()
        print(generate_latest(exporter.registry).decode())
        """,
    )
    done = subprocess.run(
        [sys.executable, str(program)],
        env=environment(tmp_path / "counts"),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "counts").glob("counter_*.db"))) == 4
    check_against_log(samples(done.stdout), tmp_path / "log", 8)


def test_gunicorns_workers_answer_for_one_another(server: Server, tmp_path: Path) -> None:
    write_app(
        tmp_path,
        server,
        """
        import os
        metrics = make_wsgi_app(exporter.registry)

        def application(environ, start_response):
            if environ["PATH_INFO"] == "/metrics":
                return metrics(environ, start_response)
            client.chat.completions.create(**ASK)
            assert ecoimpact.flush(30)
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [str(os.getpid()).encode()]
        """,
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        descriptor = listener.fileno()
        with subprocess.Popen(
            ["gunicorn", "--bind", f"fd://{descriptor}", "--workers", "2", "--log-level", "warning", "app:application"],
            env=environment(tmp_path / "counts"),
            cwd=tmp_path,
            pass_fds=[descriptor],
        ) as gunicorn:
            try:
                pids: set[bytes] = set()
                asked = 0
                while len(pids) < 2:  # until both have answered
                    pids.add(read(f"{url}/ask"))
                    asked += 1
                    assert asked < 500
                pages = [samples(read(f"{url}/metrics")) for _ in range(4)]
            finally:
                gunicorn.send_signal(signal.SIGTERM)
                assert gunicorn.wait(LIMIT_S) == 0
    for page in pages:
        check_against_log(page, tmp_path / "log", asked)


def check_against_log(found: list[Sample], log: Path, number: int) -> None:
    records = list(read_records(log))
    assert len(records) == number
    for name, value in expected_sums(records).items():
        assert total(found, name) == pytest.approx(value, rel=1e-9), name


# --- a real server ------------------------------------------------------------------------------------------------------

CONFIG = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: prometheus
    static_configs: [{{targets: ["127.0.0.1:{prometheus}"]}}]
  - job_name: otel
    static_configs: [{{targets: ["127.0.0.1:{otel}"]}}]
"""
JOBS = ("prometheus", "otel")


class Scraped(NamedTuple):
    """A server that has scraped both exporters, and the log of the same requests."""

    url: str
    records: list[dict[str, Any]]

    def get(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        reply = json.loads(read(f"{self.url}/api/v1/{path}?{query}"))
        assert reply["status"] == "success"
        return reply["data"]

    def query(self, expression: str) -> list[float]:
        result = self.get("query", query=expression)["result"]
        return [float(series["value"][1]) for series in result]


@pytest.fixture(scope="module")
def scraped(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("needs the package prometheus: apt-get install prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    server.reset(answer)
    translated = CollectorRegistry()
    provider = MeterProvider([PrometheusMetricReader(registry=translated)], shutdown_on_exit=False)
    direct = PrometheusExporter(CollectorRegistry(), labels=["feature"])
    shown = [direct.serve(0)[0], start_http_server(0, "127.0.0.1", translated)[0]]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    ports = dict(zip(JOBS, (one.server_port for one in shown), strict=True))
    (folder / "prometheus.yml").write_text(CONFIG.format(rules=json.dumps(str(GRAFANA / "alerts.yml")), **ports))

    def fails_once(_: Record, failed: list[bool] = []) -> None:  # noqa: B006 - kept from call to call
        if not failed:
            failed.append(True)
            raise RuntimeError("so that a loss is shown")

    with (
        (folder / "output").open("w") as output,
        openai.OpenAI(api_key="test", base_url=server.url, max_retries=0) as client,
        subprocess.Popen(
            [
                *(binary, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
                *(f"--web.listen-address={address}", "--log.level=warn"),
            ],
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            ecoimpact.instrument(
                log_dir=folder / "log", exporters=[fails_once, direct, OTelExporter(provider, labels=["feature"])]
            )
            found = Scraped(f"http://{address}", [])
            until(lambda: is_up(found, process, folder), "a first look")
            requests = 0
            for _ in range(3):  # a rate needs a counter to be seen at several values
                requests += use(client)
                assert ecoimpact.flush(10)
                until(lambda: has_seen(found, requests), f"{requests} requests in Prometheus")  # noqa: B023
            found.records.extend(read_records(folder / "log"))
            ecoimpact.uninstrument()
            yield found
        finally:
            process.terminate()
            process.wait(LIMIT_S)
            for one in shown:
                one.shutdown()
                one.server_close()


def is_up(found: Scraped, process: subprocess.Popen[bytes], folder: Path) -> bool:
    assert process.poll() is None, (folder / "output").read_text()
    try:
        return all(found.query(f'ecoimpact_records_dropped_total{{job="{job}"}} == 0') for job in JOBS)
    except OSError:
        return False  # it is starting


def has_seen(found: Scraped, requests: int) -> bool:
    return all(found.query(f'sum(ecoimpact_requests_total{{job="{job}"}})') == [requests] for job in JOBS)


@pytest.mark.parametrize("job", JOBS)
def test_the_servers_sums_equal_the_log(scraped: Scraped, job: str) -> None:
    assert len(scraped.records) == 15
    for name, value in expected_sums(scraped.records).items():
        (found,) = scraped.query(f'sum({name}{{job="{job}"}})')
        assert found == pytest.approx(value, rel=1e-9), name
        assert value > 0
    by_model = logged([record for record in scraped.records if record["model"] == p.SNAPSHOT], "gwp_kgco2eq_central", 1000)
    (found,) = scraped.query(f'sum(ecoimpact_gwp_central_grams_total{{job="{job}", model="{p.SNAPSHOT}"}})')
    assert found == pytest.approx(by_model, rel=1e-9)
    searched = [record for record in scraped.records if record["labels"].get("feature") == "search"]
    (found,) = scraped.query(f'sum(ecoimpact_cost_usd_total{{job="{job}", label_feature="search"}})')
    assert found == pytest.approx(logged(searched, "cost_usd"), rel=1e-9)


METRIC = re.compile(r"\b((?:ecoimpact|gen_ai)_\w+_(?:total|bucket|sum|count))(\{)?")


def of_job(expression: str, job: str) -> str:
    """An expression over one of the two exporters."""
    return METRIC.sub(lambda match: f'{match[1]}{{job="{job}"' + ("," if match[2] else "}"), expression)


def dashboard() -> Any:
    return json.loads((GRAFANA / "dashboard.json").read_text("utf-8"))


def groupings() -> list[str]:
    (by,) = [variable for variable in dashboard()["templating"]["list"] if variable["name"] == "by"]
    options: list[str] = by["query"].split(",")
    return options


def panel_expressions() -> list[tuple[str, str]]:
    """Every expression of the dashboard with its variables filled in, by the title of its panel."""
    found = []
    for panel in dashboard()["panels"]:
        for one in panel["targets"]:
            for by in groupings() if "$by" in one["expr"] else [""]:
                filled = one["expr"].replace("$by", by).replace("$__rate_interval", "30s").replace("$__range", "1m")
                filled = filled.replace("$provider", ".*").replace("$model", ".*")
                assert "$" not in filled, filled
                found.append((panel["title"], filled))
    return found


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((GRAFANA / "alerts.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.parametrize("job", JOBS)
def test_every_query_of_the_dashboard_returns_data(scraped: Scraped, job: str) -> None:
    expressions = panel_expressions()
    assert len(expressions) > 30
    for title, expression in expressions:
        values = scraped.query(of_job(expression, job))
        assert values, f"{title}: {expression}"
        assert all(math.isfinite(value) for value in values), f"{title}: {expression}"
        assert sum(values) > 0, f"{title}: {expression}"
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
            assert match is not None
            selector = f'{match[1]}{{job="{job}"}}'
            assert scraped.get(f"label/{match[2]}/values", **{"match[]": selector})


@pytest.mark.parametrize("job", JOBS)
def test_every_alert_has_data_to_judge_and_the_server_takes_it(scraped: Scraped, job: str) -> None:
    for rule in alerts():
        left, threshold = re.fullmatch(r"(.*) > ([\d.]+)", rule["expr"]).groups()  # type: ignore[union-attr]
        values = scraped.query(of_job(left, job))
        assert values, rule["alert"]
        assert all(value >= 0 for value in values), rule["alert"]
        assert float(threshold) >= 0
    loaded = [rule for group in scraped.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in loaded} == {rule["alert"] for rule in alerts()}
    states = until(
        lambda: {
            rule["name"]: rule["state"]
            for group in scraped.get("rules")["groups"]
            for rule in group["rules"]
            if rule["health"] == "ok"
        },
        "rules are evaluated",
    )
    assert states["LLMRecordsLost"] == "firing"
    assert states["LLMImpactsUnknown"] == "pending", "of a quarter of the requests nobody knows the impact"


def test_the_band_is_around_its_central_value(scraped: Scraped) -> None:
    for ends in FIGURES:
        low, central, high = (f"sum({metric.prometheus}_total)" for metric in (ends.low, ends.central, ends.high))
        assert scraped.query(f"({low} < {central}) < {high}"), ends.key


# --- what cannot be run here is looked at -------------------------------------------------------------------------------


def test_the_dashboard_names_metrics_that_exist_and_hangs_together() -> None:
    exporter = PrometheusExporter(CollectorRegistry())
    known = {metric.prometheus for metric in exporter._measures.metrics}
    board = dashboard()
    texts = [expression for _, expression in panel_expressions()] + [rule["expr"] for rule in alerts()]
    named = {re.sub(r"_(total|bucket|sum|count)$", "", match[1]) for text in texts for match in METRIC.finditer(text)}
    assert named <= known
    for ends in FIGURES:
        if ends.key in ("energy", "gwp"):
            assert {ends.low.prometheus, ends.central.prometheus, ends.high.prometheus} <= named
    assert {"ecoimpact_cost_usd", "ecoimpact_wcf_central_liters", "ecoimpact_tokens"} <= named
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])
    assert {panel["type"] for panel in board["panels"]} == {"stat", "timeseries"}


COMPOSE_KEYS = {"image", "command", "environment", "volumes", "ports", "depends_on", "extra_hosts"}


def test_the_compose_file_is_of_known_keys_and_leads_to_files_that_are_there() -> None:
    compose = yaml.safe_load((GRAFANA / "compose.yaml").read_text("utf-8"))
    assert set(compose) == {"name", "services", "volumes"}
    services = compose["services"]
    for service in services.values():
        assert set(service) <= COMPOSE_KEYS
        assert re.fullmatch(r"[\w./-]+:v?\d[\w.-]*", service["image"]), "a version, not whatever is the latest"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert set(service.get("depends_on", ())) <= set(services)
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert (GRAFANA / source).exists() if source.startswith(".") else source in compose["volumes"]
    assert set(compose["volumes"]) == {"prometheus", "grafana"}


def test_collector_prometheus_and_grafana_are_wired_to_one_another() -> None:
    def load(name: str) -> Any:
        return yaml.safe_load((GRAFANA / name).read_text("utf-8"))

    compose, collector, prometheus = load("compose.yaml"), load("collector.yaml"), load("prometheus.yml")
    (pipeline,) = collector["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) == set(collector[kind])
    _, port = collector["exporters"]["prometheus"]["endpoint"].split(":")
    targets = [
        target for job in prometheus["scrape_configs"] for static in job["static_configs"] for target in static["targets"]
    ]
    assert f"collector:{port}" in targets
    assert "host.docker.internal:9464" in targets
    assert prometheus["rule_files"] == ["alerts.yml"]
    _, otlp = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].split(":")
    assert compose["services"]["collector"]["ports"] == [f"127.0.0.1:{otlp}:{otlp}"]
    (source,) = load("provisioning/datasources/ecoimpact.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (dashboards,) = load("provisioning/dashboards/ecoimpact.yaml")["providers"]
    mounted = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    assert any(path.startswith(dashboards["options"]["path"] + "/") for path in mounted)


def test_promtool_finds_nothing_wrong(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs the package prometheus: apt-get install prometheus")
    exporter = PrometheusExporter(CollectorRegistry())
    page = generate_latest(exporter.registry)
    for command, text in (
        (["check", "rules", str(GRAFANA / "alerts.yml")], b""),
        (["check", "config", "--syntax-only", str(GRAFANA / "prometheus.yml")], b""),
        (["check", "metrics"], page),
    ):
        done = subprocess.run([promtool, *command], input=text, capture_output=True, timeout=LIMIT_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
