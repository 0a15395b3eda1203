import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def _collections_are_quick() -> Iterator[None]:
    """Every test collects garbage; what the SDKs brought with them need not be looked at each time."""
    import anthropic
    import openai

    for module in (anthropic, openai):
        for name in ("OpenAI", "Anthropic"):
            if hasattr(module, name):
                with getattr(module, name)(api_key="test") as client:
                    assert client
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
