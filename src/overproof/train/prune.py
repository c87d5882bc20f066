"""Depth pruning: a smaller base made of some of a decoder's layers.

Minitron (arXiv 2407.14679) finds that a pruned model that is distilled on beats a fresh one by far,
and that dropping whole layers gives the fastest one of its size. Which layers matter is measured by
how little they change the hidden states (ShortGPT, arXiv 2403.03853).

Shapes: B sequences, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from overproof.errors import ConfigError, ModelError

__all__ = ["chosen", "layer_importance", "layers_of", "most_important", "prune_layers", "spaced"]


def layers_of(module: Any) -> torch.nn.ModuleList:
    """The decoder layers of a causal model.

    Raises:
        ModelError: the model keeps them elsewhere than Llama and its kin do.
    """
    layers = getattr(module.get_decoder(), "layers", None)
    if not isinstance(layers, torch.nn.ModuleList):
        raise ModelError(
            type(module).__name__,
            "keeps its layers in a way that is not known here, so that it cannot be pruned",
            "use a decoder of the Llama kind: Llama, Qwen, Mistral, Gemma, SmolLM, ...",
        )
    return layers


def spaced(n_layers: int, keep: int) -> tuple[int, ...]:
    """``keep`` of ``n_layers`` layers, evenly spaced, the first and the last among them.

    A single one is the first: it is the one that reads the embeddings.

    Raises:
        ConfigError: there are not so many.
    """
    _check_count(n_layers, keep)
    if keep == 1:
        return (0,)
    return tuple(round(i * (n_layers - 1) / (keep - 1)) for i in range(keep))


def most_important(importance: Sequence[float], keep: int) -> tuple[int, ...]:
    """The ``keep`` layers of the highest importance, in order of depth; ties go to the earlier.

    Raises:
        ConfigError: there are not so many.
    """
    _check_count(len(importance), keep)
    ranked = sorted(range(len(importance)), key=lambda i: (-importance[i], i))
    return tuple(sorted(ranked[:keep]))


def chosen(keep: Iterable[int], n_layers: int) -> tuple[int, ...]:
    """Layers that a recipe names, in order of depth.

    Raises:
        ConfigError: one is not there.
    """
    kept = tuple(sorted(set(keep)))
    if outside := [i for i in kept if not 0 <= i < n_layers]:
        raise ConfigError(
            f"prune.keep: layer {outside[0]}",
            f"is not there: the base has {n_layers} layers, 0 to {n_layers - 1}",
        )
    _check_count(n_layers, len(kept))
    return kept


def layer_importance(module: Any, batches: Iterable[Mapping[str, torch.Tensor]]) -> list[float]:
    """How much each layer changes the hidden states: 1 - cosine of what goes in and comes out.

    The mean over all tokens ("block influence", arXiv 2403.03853, section 2.2).

    Args:
        module: a causal model.
        batches: its inputs; ``attention_mask`` (B, T) says which tokens are padding.

    Raises:
        ConfigError: there are no tokens to measure with.
    """
    layers = layers_of(module)
    sums = torch.zeros(len(layers), dtype=torch.float64)
    counted_bt: list[torch.Tensor] = []

    def watcher(i: int) -> Any:
        def measure(_module: Any, args: Any, kwargs: Any, output: Any) -> None:
            before_btd = args[0] if args else kwargs["hidden_states"]
            after_btd = output[0] if isinstance(output, tuple) else output
            cosine_bt = torch.cosine_similarity(before_btd.double(), after_btd.double(), dim=-1)
            sums[i] += float((1.0 - cosine_bt)[counted_bt[0]].sum())

        return measure

    handles = [
        layer.register_forward_hook(watcher(i), with_kwargs=True) for i, layer in enumerate(layers)
    ]
    was_training, tokens = module.training, 0
    module.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                ids_bt = batch["input_ids"]
                mask_bt = batch.get("attention_mask", torch.ones_like(ids_bt)).bool()
                counted_bt[:] = [mask_bt]
                tokens += int(mask_bt.sum())
                module.base_model(**batch, use_cache=False)
    finally:
        module.train(was_training)
        for handle in handles:
            handle.remove()
    if tokens == 0:
        raise ConfigError(
            "prune.by = 'importance'",
            "has no training prompts to measure the layers with",
            "use prune.by = 'spaced'",
        )
    return (sums / tokens).tolist()


def prune_layers(module: Any, keep: Sequence[int]) -> None:
    """Drop every decoder layer but those named, in place; the module is a valid smaller one after.

    Layers are numbered anew (their caches are found by number), and what the config says of each
    layer, such as ``layer_types``, is cut too.

    Args:
        module: a causal model of the Llama kind, not wrapped.
        keep: layers to keep.

    Raises:
        ConfigError: a layer that is not there, or nothing would be dropped.
        ModelError: a model of another kind.
    """
    layers = layers_of(module)
    n_layers = len(layers)
    kept = chosen(keep, n_layers)
    decoder, config = module.get_decoder(), module.config.get_text_config()
    decoder.layers = torch.nn.ModuleList(layers[i] for i in kept)
    for number, layer in enumerate(decoder.layers):
        for part in layer.modules():
            if hasattr(part, "layer_idx"):
                part.layer_idx = number
    of_each = {
        name: [value[i] for i in kept]
        for name, value in vars(config).items()
        if ("layer" in name or "block" in name)
        and isinstance(value, list | tuple)
        and len(value) == n_layers
    }
    config.num_hidden_layers = len(kept)
    for name, values in of_each.items():
        setattr(config, name, values)


def _check_count(n_layers: int, keep: int) -> None:
    if not 1 <= keep <= n_layers:
        raise ConfigError(
            f"prune.layers = {keep}", f"cannot be had: the base has {n_layers} layers"
        )
    if keep == n_layers:
        raise ConfigError(
            f"prune.layers = {keep}",
            "prunes nothing: the base has exactly that many layers",
            "keep fewer, or take prune out",
        )
