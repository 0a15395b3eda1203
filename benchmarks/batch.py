"""``estimate_batch`` against the same arithmetic by hand in numpy. ``python -m benchmarks.batch``.

By hand means: the default edition's formulas over whole columns, for one provider's zone, without warnings, errors and
unknown values, with the coefficients of each model looked up once and gathered into the rows. Its figures are those of
``estimate_batch``: that is checked before anything is measured.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import ecoimpact
from benchmarks.measure import Action, Variant, ratios
from ecoimpact import engine, methodologies
from ecoimpact.types import CRITERIA

ROWS = 1_000_000
MODELS = ("gpt-4o-mini", "gpt-4o", "gpt-4.1", "gpt-4.1-mini", "gpt-5", "gpt-5-mini", "o3", "o4-mini")


def columns(rows: int) -> dict[str, Any]:
    """Requests to one provider: names as Arrow dictionaries, as Parquet has them, and counts as numpy arrays."""
    chance = np.random.default_rng(2026)
    output_tokens = chance.lognormal(5.5, 0.8, rows).astype(np.int64) + 1
    names = pa.DictionaryArray.from_arrays(pa.array(chance.integers(0, len(MODELS), rows), pa.int32()), list(MODELS))
    return {
        "provider": pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), ["openai"]),
        "model": names,
        "output_tokens": output_tokens,
        "input_tokens": chance.lognormal(6.5, 1.0, rows).astype(np.int64),
        "latency_s": 0.4 + output_tokens * chance.uniform(0.005, 0.02, rows),
    }


def by_hand(table: pa.Table) -> dict[str, Any]:
    """The figures of the default edition at both ends, and between them, in plain numpy."""
    names = table["model"].combine_chunks()
    code = names.indices.to_numpy()
    tokens = table["output_tokens"].to_numpy().astype(np.float64)
    latency_s = table["latency_s"].to_numpy()
    edition = engine.validate_methodology("ecologits")
    plans = [
        engine.plan(engine.catalog(), edition, provider="openai", models=(name,), zone=None, host=None)
        for name in names.dictionary.to_pylist()
    ]
    found: dict[str, Any] = {}
    for end, which, at in (("min", 0, "low"), ("max", 1, "high")):
        served = np.array([(plan.low, plan.high)[which] for plan in plans], np.float64).T[:7, code]
        kwh_per_token, s_per_token, first_token_s, kwh_per_s, gwp_per_s, adpe_per_s, pe_per_s = served
        pue, wue_l, grid_gwp, grid_adpe, grid_pe, grid_wue = getattr(plans[0], f"site_{at}")
        generation_s = np.minimum(tokens * s_per_token + first_token_s, latency_s)
        it_kwh = tokens * kwh_per_token + generation_s * kwh_per_s
        kwh = pue * it_kwh
        found[f"energy_kwh_{end}"] = found[f"usage_energy_kwh_{end}"] = kwh
        found[f"wcf_l_{end}"] = found[f"usage_wcf_l_{end}"] = it_kwh * (wue_l + pue * grid_wue)
        for name, grid, per_s in (
            ("gwp_kgco2eq", grid_gwp, gwp_per_s),
            ("adpe_kgsbeq", grid_adpe, adpe_per_s),
            ("pe_mj", grid_pe, pe_per_s),
        ):
            usage = found[f"usage_{name}_{end}"] = kwh * grid
            embodied = found[f"embodied_{name}_{end}"] = generation_s * per_s
            found[f"{name}_{end}"] = usage + embodied
    for c in CRITERIA:
        found[f"{c.suffix}_central"] = (found[f"{c.suffix}_min"] + found[f"{c.suffix}_max"]) / 2
    return found


def table(*, rows: int = ROWS, rounds: int = 9, progress: Callable[[str], object] = lambda _: None) -> str:
    """Millions of rows a second, and how long it takes against numpy by hand, as a Markdown table."""
    import pandas as pd
    import polars as pl

    given = columns(rows)
    arrow = pa.table(given)
    _check(arrow)
    frame = arrow.to_pandas()
    plain = {name: column.to_numpy() for name, column in frame.assign(provider="openai").items()}
    plain |= {"provider": "openai", "model": np.asarray(frame["model"], object)}
    texts = arrow.set_column(1, "model", pc.cast(arrow["model"], pa.string()))
    shapes: dict[str, Any] = {
        "Arrow, names as dictionaries": arrow,
        "Arrow, names as strings": texts,
        "polars": pl.from_arrow(arrow),
        "pandas, names as categories": pd.DataFrame(frame),
        "dict of numpy arrays, names as objects": plain,
    }
    editions = [name for name in methodologies.names() if name not in methodologies.ALIASES]
    work: dict[str, Action] = {name: _work(shape, "ecologits") for name, shape in shapes.items()}
    work |= {f"Arrow, `{name}`": _work(arrow, name) for name in editions}
    chosen: list[Action] = [lambda: by_hand(arrow)]

    def choose(action: Action) -> Variant:
        return Variant(lambda: chosen.append(action), chosen.pop)

    progress(f"{len(work)} variants, {rounds} rounds of {rows:,} rows")
    variants = {name: choose(action) for name, action in work.items()}
    found = ratios(lambda: chosen[-1](), variants, rounds=rounds, repeat=1)  # noqa: PLW0108 - the last one changes
    by_hand_s = next(iter(found.values())).baseline_s
    lines = ["| | million rows/s | time over numpy by hand |", "|---|---|---|"]
    lines.append(f"| numpy by hand, default edition | {rows / by_hand_s / 1e6:.1f} | 1 |")
    lines += [
        f"| {name} | {rows / (by_hand_s * r.median) / 1e6:.1f} | {r.median:.2f} ({r.p10:.2f} to {r.p90:.2f}) |"
        for name, r in found.items()
    ]
    return "\n".join([*lines, "", f"{rows:,} rows, one core, {len(MODELS)} models of one provider."])


def _work(shape: Any, methodology: str) -> Action:
    return lambda: ecoimpact.estimate_batch(shape, methodology=methodology)


def _check(arrow: pa.Table) -> None:
    ours = ecoimpact.estimate_batch(arrow)
    for name, column in by_hand(arrow).items():
        np.testing.assert_allclose(ours[name].to_numpy(), column, rtol=1e-12)


if __name__ == "__main__":
    print(table(progress=lambda text: print(text, file=sys.stderr, flush=True)))
