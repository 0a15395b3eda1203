"""Model sizes by provider and name, and the steps from a name to a size.

Rules of this file: the steps are taken from the surest to the least sure (exact, alias, normalised, family, size, price)
and each says so by a warning code. Up to ``normalised`` nothing is guessed: what is left of the name stands in the table.
``family`` leads to a listed member of the same line and tier, ``size`` reads what the name states, ``price`` what its list
price suggests. No step leads to another family, and a name that none of them knows is unknown.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Literal, NamedTuple

from ecoimpact.data.names import MAX_NAME_LENGTH, Form, base_spelling, copied, forms, plain_forms, spelling
from ecoimpact.data.notices import notice
from ecoimpact.data.providers import OWNERS, SERVES
from ecoimpact.data.tables import cite, number, rows, span
from ecoimpact.types import Deployment, ModelCard, ModelMatch, Notice

__all__ = ["MAX_NAME_LENGTH", "Found", "added_cards", "aliases", "cards", "find", "plain_forms"]

OPEN_WEIGHTS = "huggingface_hub"
"""The owner of models whose weights anybody may run; its names are ``organisation/name``."""

_WITH_WEIGHTS = (OPEN_WEIGHTS, "ollama")
_OWNERS = (*OWNERS, "ollama")  # its bare names ("llama3.2") mean the size of a tag: they count only where it is asked


class Found(NamedTuple):
    """A model, how its name led to it, and what there is to say about that."""

    card: ModelCard
    match: ModelMatch
    warnings: tuple[Notice, ...]


class _Entry(NamedTuple):
    row: tuple[str, ...]
    name: str
    step: Literal["exact", "alias", "family"]
    reason: str = ""


# --- the tables ---------------------------------------------------------------------------------------------------------


@cache
def _index() -> dict[str, dict[str, _Entry]]:
    """By owner: the entry of a name as it is written and, where that is free, in one spelling."""
    index: dict[str, dict[str, _Entry]] = {owner: {} for owner in _OWNERS}
    for row in (*rows("models"), *rows("models_added")):
        index[row[0]][row[1].lower()] = _Entry(row, row[1].lower(), "exact")
    for provider, alias, model, _ in rows("model_aliases"):
        index[provider][alias.lower()] = _Entry(index[provider][model.lower()].row, alias.lower(), "alias")
    for provider, name, model, step, reason, *_ in rows("model_names"):
        row = index[provider][model.lower()].row
        index[provider][name.lower()] = _Entry(row, name.lower(), "family" if step == "family" else "alias", reason)
    for names in index.values():
        for entry in tuple(names.values()):
            names.setdefault(spelling(entry.name), entry)
    return index


@cache
def _open_weights() -> dict[str, _Entry]:
    """Open weights by the spelling of their names without the organisation, where all that have it are of one size."""
    by_name: dict[str, _Entry | None] = {}
    for name, entry in _index()[OPEN_WEIGHTS].items():
        base = base_spelling(name)
        same = by_name.get(base, entry)
        by_name[base] = same if same is not None and same.row[2:5] == entry.row[2:5] else None
    return {name: entry for name, entry in by_name.items() if entry is not None}


@cache
def _lines() -> dict[tuple[str, tuple[str, str, str]], dict[int, _Entry]]:
    """By owner and line: the listed members by their minor versions, where they agree on the size."""
    from ecoimpact.data.families import member

    lines: dict[tuple[str, tuple[str, str, str]], dict[int, _Entry]] = {}
    for owner in OWNERS:
        entries = _open_weights() if owner == OPEN_WEIGHTS else _index()[owner]
        for entry in entries.values():
            place = member(base_spelling(entry.name))
            if place is not None and entry.step != "family":
                lines.setdefault((owner, place.line), {})[place.minor] = entry
    return {line: members for line, members in lines.items() if _agree(members)}


def _agree(members: dict[int, _Entry]) -> bool:
    from ecoimpact.data.families import MAX_SPREAD

    totals = [span(entry.row[3]).mean for entry in members.values()]
    return max(totals) <= MAX_SPREAD * min(totals)


def cards() -> Iterator[ModelCard]:
    """All models of the table that EcoLogits has too."""
    return map(_listed_card, rows("models"))


def added_cards() -> Iterator[ModelCard]:
    """All models that the package lists besides."""
    return map(_listed_card, rows("models_added"))


def aliases() -> dict[tuple[str, str], str]:
    """Second names of models that EcoLogits has too: (provider, alias) to the model's name."""
    return {(provider, alias): model for provider, alias, model, _ in rows("model_aliases")}


def _listed_card(row: tuple[str, ...]) -> ModelCard:
    card = _card(row)
    return _as_published(card, None, [Form(card.name.lower(), "", "plain")])


def _card(row: tuple[str, ...]) -> ModelCard:
    provider, name, architecture, total, active, tokens_per_s, first_token_s, warnings, key, evidence, *reasoning = row
    deployment = Deployment(number(tokens_per_s), number(first_token_s)) if tokens_per_s or first_token_s else None
    source = f"{key} {evidence}".strip()
    return ModelCard(
        provider=provider,
        name=name,
        active_params_b=span(active),
        total_params_b=span(total),
        deployment=deployment,
        architecture=architecture,
        warnings=tuple(warnings.split()),
        source=f"{reasoning[0]}: {cite(source)}" if reasoning and reasoning[0] else source,
    )


# --- the steps ----------------------------------------------------------------------------------------------------------


def find(provider: str | None, name: str) -> Found | None:
    """The model that a provider serves under a name; without a provider, the first owner of the name.

    >>> find("openai", "gpt-4o-mini").match.step
    'exact'
    >>> str(find("bedrock", "us.anthropic.claude-haiku-4-5-20251001-v1:0").match)
    'anthropic/claude-haiku-4-5-20251001 (normalised)'
    >>> str(find("openai", "gpt-5.6-mini").match), str(find("ollama", "llama3.1:8b").match)
    ('openai/gpt-5.4-mini (family)', 'huggingface_hub/llama3.1:8b (size)')
    >>> find("openai", "gpt-4o-maxi")
    """
    if len(name) > MAX_NAME_LENGTH:
        return None
    written = forms(name)
    certain = [form for form in written if form.kind != "dated"]
    for step in (_listed, _rounded, _dated, _member, _sized, _priced):
        if found := step(provider, name, written if step in (_dated, _member) else certain):
            return found._replace(card=_as_published(found.card, provider, written))
    return None


def _listed(provider: str | None, name: str, written: list[Form]) -> Found | None:
    """A name of the tables, as it is written or in a plainer form."""
    for rank, form in enumerate(written):
        expected = _expected(provider, form.vendor)
        for owner in dict.fromkeys((*expected, *OWNERS)):
            if entry := _entry(owner, form.text):
                plain = not rank and form.text == entry.name
                return _found(entry, provider, name, None if plain else form.text, owner in expected)
    return None


def _entry(owner: str, text: str) -> _Entry | None:
    names = _index()[owner]
    entry = names.get(text) or names.get(spelling(text))
    # Anybody may copy open weights: whose copy it is tells no model from another.
    return entry or (_open_weights().get(spelling(copied(text))) if owner == OPEN_WEIGHTS else None)


def _rounded(provider: str | None, name: str, written: list[Form]) -> Found | None:
    """A model with open weights whose name says how they are rounded."""
    from ecoimpact.data.precision import without_quantisation

    for form in written:
        if entry := _entry(OPEN_WEIGHTS, without_quantisation(form.text)):
            return _found(entry, provider, name, form.text, OPEN_WEIGHTS in _expected(provider, form.vendor))
    return None


def _as_published(card: ModelCard, provider: str | None, written: list[Form]) -> ModelCard:
    """With the bits of a weight and what a request keeps in memory, where the name or the maker's publication tells."""
    if card.provider not in _WITH_WEIGHTS:
        return card
    from ecoimpact.data import architecture, precision

    kept = architecture.memory((*(form.text for form in written), card.name))
    known = precision.find(card.name, written, provider, is_open=card.provider == OPEN_WEIGHTS)
    if known is None:
        return card if kept is None else replace(card, memory=kept)
    return replace(card, memory=kept, weight_bits=known.weight_bits, weight_bits_source=known.source)


# Mistral's four digits tell one generation from another, of another size; elsewhere they are the day of a snapshot.
_DATES_ARE_GENERATIONS = ("mistralai",)


def _dated(provider: str | None, name: str, written: list[Form]) -> Found | None:
    """A snapshot or a preview of a listed model, of a day that is not listed."""
    for form in itertools.chain.from_iterable(map(_undated, written)):
        expected = _expected(provider, form.vendor)
        for owner in dict.fromkeys((*expected, *OWNERS)):
            entry = _entry(owner, form.text)
            if entry and owner not in _DATES_ARE_GENERATIONS:
                return _relative(entry, provider, name, owner in expected)
    return None


def _undated(form: Form) -> Iterator[Form]:
    if form.kind == "dated":
        yield form
    for word in ("-preview", "-exp", "-experimental"):
        if form.text.endswith(word):
            yield form._replace(text=form.text.removesuffix(word))
    yield form._replace(text=f"{form.text}-preview")


def _member(provider: str | None, name: str, written: list[Form]) -> Found | None:
    """A newer minor version of a listed line: the nearest older member stands in."""
    from ecoimpact.data.families import member

    for form in written:
        expected = _expected(provider, form.vendor)
        place = member(spelling(form.text))
        open_place = member(base_spelling(form.text))
        for owner in dict.fromkeys((*expected, *OWNERS)):
            here = open_place if owner == OPEN_WEIGHTS else place
            members = _lines().get((owner, here.line)) if here else None
            older = [minor for minor in members or () if here and minor <= here.minor]
            if members and older:
                return _relative(members[max(older)], provider, name, owner in expected)
    return None


def _sized(provider: str | None, name: str, written: list[Form]) -> Found | None:
    """The size that the name of an open model states."""
    from ecoimpact.data import sizes

    plain = [form for form in written if form.kind == "plain"]
    plainest = plain[-1]
    is_open = "/" in plainest.text or sizes.is_open(plainest.text) or _runs_open_weights(provider)
    if not is_open and plainest.vendor not in ("ollama", OPEN_WEIGHTS):
        return None
    for form in reversed(plain):
        size = sizes.size(form.text)
        if size is None:
            continue
        text = form.text if is_open else plain[0].text  # without its prefix the name would say less
        card = ModelCard(
            provider=OPEN_WEIGHTS,
            name=text,
            active_params_b=size.active_params_b,
            total_params_b=size.total_params_b,
            architecture="dense" if size.active_params_b == size.total_params_b else "moe",
            source="the name of the model",
        )
        stated = f"{name!r} states {size.total_params_b:.4g} billion parameters"
        warning = notice("model-size-from-name", f"{stated}, {size.assumed}" if size.assumed else stated)
        return Found(card, ModelMatch(name, card.provider, card.name, "size"), (warning,))
    return None


def _runs_open_weights(provider: str | None) -> bool:
    """Whether a provider runs models of all makers; one that is not listed is somebody's own host."""
    return provider is not None and (provider == OPEN_WEIGHTS or OPEN_WEIGHTS in SERVES.get(provider, (OPEN_WEIGHTS,)))


def _priced(provider: str | None, name: str, written: list[Form]) -> Found | None:
    """The size that the list price suggests."""
    from ecoimpact.data import prices

    found = prices.priced(provider, [(form.text, form.vendor) for form in written])
    if found is None:
        return None
    card = ModelCard(
        provider=found.provider,
        name=found.name,
        active_params_b=found.active_params_b,
        total_params_b=found.total_params_b,
        architecture="moe",
        warnings=("model-arch-not-released",),
        source="genai-prices-0.2.3",
    )
    warning = notice("model-size-from-price", f"{found.name!r} at {found.usd_per_mtok:.3g} USD per million tokens")
    return Found(card, ModelMatch(name, card.provider, card.name, "price"), (warning,))


# --- what is found ------------------------------------------------------------------------------------------------------


def _expected(provider: str | None, vendor: str) -> tuple[str, ...]:
    serves = SERVES.get(provider or "", OWNERS)
    return tuple(owner for owner in (provider, vendor, *serves) if owner in _OWNERS)


def _found(entry: _Entry, provider: str | None, name: str, form: str | None, expected: bool) -> Found:
    if entry.step == "family":
        return _relative(entry, provider, name, expected)
    card = _card(entry.row)
    warnings = []
    if form is not None:
        warnings.append(notice("model-name-normalised", f"{name!r} was read as {form!r}"))
    warnings += _elsewhere(card, provider, expected)
    match = ModelMatch(name, card.provider, card.name, "normalised" if form is not None else entry.step)
    return Found(card, match, tuple(warnings))


def _relative(entry: _Entry, provider: str | None, name: str, expected: bool) -> Found:
    card = _card(entry.row)
    reason = f" ({entry.reason})" if entry.reason else ""
    warnings = [
        notice("model-family", f"{card.name!r} stands in for {name!r}{reason}"),
        *_elsewhere(card, provider, expected),
    ]
    return Found(card, ModelMatch(name, card.provider, card.name, "family"), tuple(warnings))


def _elsewhere(card: ModelCard, provider: str | None, expected: bool) -> list[Notice]:
    if provider is None or expected:
        return []
    return [notice("model-other-provider", f"{card.name!r} is one of {card.provider!r}, not of {provider!r}")]
