"""Text marked by transformers' own processors, and by ours, is found by the test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from long_runs import LONG
from scipy.stats import binom

from overproof.audit.radioactivity import Plan, watermark_test
from overproof.audit.watermarks.schemes import fresh_key, make_scheme
from overproof.errors import ConfigError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.slow
V = 128


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=V, n_positions=128, n_embd=16, n_layer=1, n_head=2,
                        bos_token_id=0, eos_token_id=None, pad_token_id=0)  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def generate(model: Any, config: Any, rows: int = 8, length: int = 60) -> list[list[int]]:
    torch.manual_seed(1)
    prompts = torch.randint(1, V, (rows, 4))
    with torch.no_grad():
        found = model.generate(
            prompts, do_sample=True, max_new_tokens=length, watermarking_config=config,
            attention_mask=torch.ones_like(prompts), pad_token_id=0,
        )  # fmt: skip
    return [row[4:] for row in found.tolist()]


@pytest.mark.parametrize("name", ["kgw", "kgw-selfhash", "unigram", "gumbel", "synthid"])
def test_marked_text_is_found(model: Any, name: str) -> None:
    from overproof.audit.watermarks.generate import marking

    scheme = make_scheme(name, V, **({"context_width": 2} if name == "kgw-selfhash" else {}))
    key = fresh_key(scheme)
    marked = generate(model, marking(scheme, key, bias=4.0))
    plan = Plan(alternates=99)
    finding = watermark_test(marked, scheme, key, plan=plan)
    assert finding.p == 1 / 100
    assert finding.p_values[1].value < 1e-3
    plain = watermark_test(generate(model, None), scheme, key, plan=plan)
    assert plain.p_values[1].value > 1e-4


def test_hits_are_those_of_transformers_detector(model: Any) -> None:
    from transformers import WatermarkDetector, WatermarkingConfig

    from overproof.audit.watermarks.pairs import unique_pairs

    scheme = make_scheme("kgw", V)
    key = fresh_key(scheme)
    settings = WatermarkingConfig(hashing_key=key)
    text = generate(model, settings, rows=1)[0]
    detector = WatermarkDetector(model.config, "cpu", settings, ignore_repeated_ngrams=True)
    theirs = detector(torch.tensor([text]), return_dict=True)
    pairs = unique_pairs([text], None, width=1, pad=None, vocabulary=V)
    assert scheme.hits(pairs, key).sum() == theirs.num_green_tokens[0]
    assert len(pairs) == theirs.num_tokens_scored[0]


@pytest.mark.parametrize("keys", [20, pytest.param(60, marks=LONG)])
def test_false_positives_on_templates_beside_transformers_detector(keys: int) -> None:
    """Nobody marked these texts; three frames are repeated over and over, under many keys."""
    from audit_templates import rejections

    ours, theirs, each = rejections(keys=keys, alternates=99, vocabulary=64)
    assert ours <= binom.ppf(0.9999, keys, 0.01)  # the rank is exact: one in a hundred
    assert theirs > 0.1 * keys  # the negative control: it must fail
    assert each <= theirs


def test_synthid_marks_a_context_once_in_a_text() -> None:
    """Where a context comes again, transformers samples as usual: `once` leaves that out."""
    from transformers import SynthIDTextWatermarkLogitsProcessor

    from overproof.audit.watermarks.pairs import unique_pairs

    scheme, rng = make_scheme("synthid", 5, ngram_len=3, depths=2), np.random.default_rng(0)
    text = rng.integers(0, 5, 120)
    keys = [70_000, 80_000]
    theirs = SynthIDTextWatermarkLogitsProcessor(3, keys, 1 << 16, 0, 1024, "cpu")
    mask = theirs.compute_context_repetition_mask(torch.tensor(text)[None])[0].numpy()
    windows = np.lib.stride_tricks.sliding_window_view(text, 3)[mask]
    pairs = unique_pairs([text.tolist()] * 2, None, width=2, pad=None, vocabulary=5, once=True)
    assert np.column_stack([pairs.contexts, pairs.tokens]).tolist() == windows.tolist()
    assert pairs.counts.tolist() == [2] * len(windows)
    assert len(windows) < 118
    assert scheme.width == 2


def test_gumbel_keeps_the_distribution_over_keys(model: Any) -> None:
    from overproof.audit.watermarks.generate import GumbelProcessor
    from overproof.audit.watermarks.gumbel import Gumbel

    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    rng = np.random.default_rng(0)
    scheme = Gumbel(4)
    counts = np.zeros(4)
    for _ in range(1000):
        key = scheme.draw(rng)
        assert isinstance(key, int)
        counts[int(GumbelProcessor(scheme, key)(torch.zeros((1, 3)), logits).argmax())] += 1
    assert np.abs(counts / 1000 - [0.5, 0.3, 0.15, 0.05]).max() < 0.05


def test_models_and_keys_that_do_not_fit_are_refused(model: Any) -> None:
    from overproof.audit.watermarks.generate import marking

    scheme = make_scheme("gumbel", V + 1)
    with pytest.raises(ConfigError, match="vocabulary"):
        generate(model, marking(scheme, fresh_key(scheme)), length=2)
    with pytest.raises(ConfigError, match="key"):
        marking(make_scheme("kgw", V), 15485863)
    kgw = make_scheme("kgw", V)
    with pytest.raises(ConfigError, match="CPU"):
        marking(kgw, fresh_key(kgw)).construct_processor(V, "cuda")
