"""How far off the methodologies are: the goals of ``measured-2026``, and the benchmark that says so."""

from __future__ import annotations

import csv
import doctest
import math
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from benchmarks import accuracy
from benchmarks import fit_measured as fitting
from ecoimpact import methodologies
from ecoimpact.methodologies.measured_2026 import gpu_energy_wh_per_output_token

Scores = dict[str, dict[str, tuple[accuracy.Score, accuracy.Score | None]]]


@pytest.fixture(scope="module")
def found() -> list[dict[str, str]]:
    return fitting.measured()


@pytest.fixture(scope="module")
def scores(found: list[dict[str, str]]) -> Scores:
    return accuracy.scores(accuracy.text(found))


# --- the goals ----------------------------------------------------------------------------------------------------------


def test_models_that_the_fit_has_not_seen_are_within_a_fifth_in_the_median(scores: Scores) -> None:
    energy, latency = scores["measured-2026"]["all"]
    assert energy.rows == 334
    assert energy.median_error <= 0.20
    assert 0.85 <= energy.coverage <= 0.95
    assert latency is not None
    assert latency.median_error <= 0.20


def test_it_beats_the_editions_of_ecologits_on_every_gpu_and_architecture(scores: Scores) -> None:
    kinds = (", dense", ", mixture of experts", "state-space layers")
    groups = [group for group in scores["measured-2026"] if group.endswith(kinds)]
    assert len(groups) == 6
    for group in [*groups, "all"]:
        ours, _ = scores["measured-2026"][group]
        for other in ("ecologits-2025-09", "ecologits-0.11"):
            assert ours.median_error < scores[other][group][0].median_error, group
            assert abs(math.log(ours.bias)) < 0.5


def test_lengths_that_nobody_knows_cost_little(found: list[dict[str, str]]) -> None:
    rows = fitting.text_rows(found)
    errors = fitting.log_errors(rows, fitting.left_out(), "energy", **fitting.TYPICAL)
    assert np.median(np.abs(np.expm1(errors))) <= 0.20


def test_the_function_of_the_module_gives_what_the_fit_gives(found: list[dict[str, str]]) -> None:
    rows = fitting.text_rows(found)
    committed = fitting.fit(rows, rows.energy_uwh, fitting.priors("energy")).values
    fitted = fitting.predicted(committed, rows, **fitting.TYPICAL)
    for number in range(0, len(rows.family), 25):
        one = gpu_energy_wh_per_output_token(
            active_params_b=float(rows.active_params_b[number]),
            total_params_b=float(rows.total_params_b[number]),
            weight_bits=float(8 * rows.weight_bytes[number]),
            gpu=str(rows.gpu[number]),
            gpu_count=float(rows.gpu_count[number]),
            batch_size=float(rows.batch_size[number]),
            cache_bytes_per_token=None if math.isnan(cache := float(rows.cache_bytes_per_token[number])) else cache,
            state_bytes=float(rows.state_bytes[number]),
        )
        assert one.central * 1e6 == pytest.approx(fitted[number], rel=1e-3)


# --- the benchmark ------------------------------------------------------------------------------------------------------


def test_the_published_fits_are_found_again(found: list[dict[str, str]]) -> None:
    published = list(accuracy.published_fits(found))
    assert [round(fit.r2, 3) for fit in published] == [0.950, 0.735, 0.930]
    for fit in published:
        assert fit.found == pytest.approx(fit.published, rel=5e-3)


def test_every_methodology_is_judged(scores: Scores) -> None:
    assert set(scores) == set(methodologies.names()) - set(methodologies.ALIASES)
    for by_group in scores.values():
        assert all(math.isfinite(energy.median_error) and energy.rows > 0 for energy, _ in by_group.values())


def test_scores_of_a_known_error() -> None:
    told = np.array([1.0, 2.0, 4.0, 8.0])
    score = accuracy.score(told, told / 2, np.full(4, math.log(2) / 1.6))
    assert (score.rows, score.median_error, score.coverage) == (4, 1.0, 1.0)
    assert score.bias == pytest.approx(2)
    assert accuracy.score(told, told / 3, np.full(4, math.log(2) / 1.6)).coverage == 0
    assert math.isnan(accuracy.score(told, told, np.full(4, math.nan)).coverage)
    assert doctest.testmod(accuracy).failed == doctest.testmod(fitting).failed == 0


def test_measurements_of_ones_own(
    tmp_path: Path,
    found: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A file with models that the committed one does not have, without the older leaderboard."""
    own = [dict(row, model="acme/acme-70b") for row in found if "Llama-3.1-70B" in row["model"] and row["dataset"] == "v3"]
    path = tmp_path / "mine.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(own[0]))
        writer.writeheader()
        writer.writerows(own)
    monkeypatch.setattr(sys, "argv", ["benchmarks.accuracy", str(path)])
    accuracy.main()
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("| `measured-2026` |"))
    assert line.split(" | ")[1] == str(len(own))
    assert "published" not in printed
    path.write_text(path.read_text("utf-8").splitlines()[0] + "\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="no text rows"):
        accuracy.table(path)


def test_the_page_has_the_table_and_the_picture() -> None:
    page = accuracy.PAGE.read_text("utf-8")
    table = page[page.index("<!-- accuracy -->") : page.index("<!-- /accuracy -->")]
    for name in methodologies.names():
        if name not in methodologies.ALIASES:
            assert f"`{name}`" in table
    assert accuracy.PICTURE.name in page


def test_the_picture_is_a_drawing_of_its_own(found: list[dict[str, str]]) -> None:
    drawn = ET.fromstring(accuracy.PICTURE.read_text("utf-8"))  # noqa: S314 - our own file
    panels = drawn.findall("{http://www.w3.org/2000/svg}g")
    assert len(panels) == len(accuracy.predictors())
    points = panels[0].findall("{http://www.w3.org/2000/svg}circle")
    assert len(points) == len(accuracy.text(found))
    assert not any("script" in element.tag or "href" in element.attrib for element in drawn.iter())
