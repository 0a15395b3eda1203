"""What each field of a record is: the one table behind the log, its readers and its documentation."""

from __future__ import annotations

from typing import Final, NamedTuple

from ecoimpact.types import CRITERIA, RECORD_PHASE_FIELDS, RECORD_SCHEMA


class Field(NamedTuple):
    """One field: ``type`` as in JSON Schema, ``unit`` where it has one, ``nullable`` where knowledge can be absent."""

    name: str
    type: str
    unit: str
    meaning: str
    nullable: bool = False

    @property
    def json_type(self) -> str:
        return f"{self.type} or null" if self.nullable else self.type


_ENDS: Final = (("min", "low end"), ("max", "high end"))
_CENTRAL: Final = ("central", "best value of the methodology, or the midpoint")


def _figures() -> tuple[Field, ...]:
    phases = (
        ("", "", "in total"),
        ("usage_", "usage", "of running the request"),
        ("embodied_", "embodied", "of making the hardware, this request's share"),
    )
    fields = []
    for prefix, phase, of in phases:
        for criterion in CRITERIA:
            name = f"{prefix}{criterion.suffix}"
            if phase and name not in RECORD_PHASE_FIELDS:
                continue
            for end, which in _ENDS if phase else (_ENDS[0], _CENTRAL, _ENDS[1]):
                meaning = f"{criterion.name} {of}, {which}"
                fields.append(Field(f"{name}_{end}", "number", criterion.unit, meaning, nullable=True))
    return tuple(fields)


FIELDS: Final[tuple[Field, ...]] = (
    Field(
        "schema", "integer", "", f"Version of this table, {RECORD_SCHEMA} now; it rises when a field changes its meaning"
    ),
    Field("id", "string", "", "Unique for each record"),
    Field("time", "string", "RFC 3339, UTC", "When the request began, to the microsecond"),
    Field(
        "provider",
        "string",
        "",
        "Who serves the request, such as `openai`; found from the host where an SDK talks to others",
    ),
    Field("endpoint", "string", "", "Kind of call: `chat.completions`, `responses`, `messages`, ..."),
    Field("request_model", "string", "", "Model as the program named it", nullable=True),
    Field("response_model", "string", "", "Model as the provider named it in the answer", nullable=True),
    Field("model", "string", "", "Model that the figures are for", nullable=True),
    Field("input_tokens", "integer", "tokens", "Prompt, cached part included", nullable=True),
    Field(
        "cached_input_tokens", "integer", "tokens", "Part of the prompt that came from the provider's cache", nullable=True
    ),
    Field("cache_write_tokens", "integer", "tokens", "Part of the prompt that was written to that cache", nullable=True),
    Field("output_tokens", "integer", "tokens", "All that was generated, reasoning included", nullable=True),
    Field("reasoning_tokens", "integer", "tokens", "Part of the output that was generated unseen", nullable=True),
    Field(
        "tokens_estimated",
        "boolean",
        "",
        "True when the provider sent no count, and it was estimated from the answer's length",
    ),
    Field(
        "service_tier",
        "string",
        "",
        "Tier that the provider served it in, such as `flex`; null for the ordinary one",
        nullable=True,
    ),
    Field("latency_s", "number", "s", "From sending the request to the end of its answer", nullable=True),
    Field("time_to_first_token_s", "number", "s", "From sending the request to the first streamed piece", nullable=True),
    Field("stream", "boolean", "", "Whether the answer was streamed"),
    Field("status", "string", "", "`ok`, `error`, `cancelled`, or `abandoned` (a stream that was not read to its end)"),
    Field("error_type", "string", "", "Class name of the exception; never its message", nullable=True),
    Field("zone", "string", "", "Electricity zone of the figures: ISO 3166 code, or `WOR` for the world", nullable=True),
    Field("methodology", "string", "", "Edition that the figures were computed with"),
    Field("data_version", "string", "", "Version of the tables that the figures were computed with"),
    *_figures(),
    Field(
        "cost_usd",
        "number",
        "USD",
        "Price of the request on its day, by list; needs the extra `cost`; of estimated tokens where they are",
        nullable=True,
    ),
    Field("price_version", "string", "", "Price table: package and version, or the day of its update", nullable=True),
    Field("warnings", "array of strings", "", "Codes of what makes the figures less certain"),
    Field("errors", "array of strings", "", "Codes of why there are no figures"),
    Field("labels", "object", "", "Labels that the program put on the request: text by name"),
)


def markdown_table() -> str:
    """The table of the documentation."""
    head = ["| field | type | unit | meaning |", "|---|---|---|---|"]
    return "\n".join([*head, *(f"| `{f.name}` | {f.json_type} | {f.unit} | {f.meaning} |" for f in FIELDS)])
