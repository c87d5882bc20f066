"""What can be known of a model before its weights are read: config, tokenizer, size, licence."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from overproof.clients.local_chat import Chat
from overproof.clients.local_model import Source, source_of
from overproof.clients.quiet import quiet_transformers
from overproof.clients.weights_licence import licence_of_weights
from overproof.config.lm_students import LmStudentConfig
from overproof.config.load import LoadedTextRecipe
from overproof.config.teacher import TeacherConfig
from overproof.errors import ModelError, OverproofError

__all__ = ["ModelFacts", "Shelf"]

WEIGHTS_HERE = ("local", "embedded")


@dataclass(frozen=True)
class ModelFacts:
    """A model without its weights.

    Attributes:
        name: as the recipe calls it.
        config: transformers' config; with ``layers`` of it left where it is to be pruned.
        generation_config: where it names the tokens that end an answer.
        tokenizer: with its chat template, if it has one.
        licences: as they are declared; none where nobody declares any.
    """

    name: str
    config: Any
    generation_config: Any
    tokenizer: Any
    licences: tuple[str, ...] = ()

    @property
    def text(self) -> Any:
        """The config of its language model."""
        return self.config.get_text_config()

    @property
    def rows(self) -> int:
        """Rows of the embedding, padding included."""
        return int(self.text.vocab_size)

    @property
    def context(self) -> int | None:
        """The longest chat in tokens, ``None`` for no limit."""
        longest = getattr(self.text, "max_position_embeddings", None)
        return longest if isinstance(longest, int) and longest > 0 else None

    @cached_property
    def chat(self) -> Chat:
        """The tokenizer with the bytes of its tokens."""
        return Chat(self.tokenizer)

    @cached_property
    def skeleton(self) -> Any:
        """The module without numbers."""
        from transformers import AutoModelForCausalLM

        with quiet_transformers(), torch.device("meta"):
            return AutoModelForCausalLM.from_config(self.config)

    @cached_property
    def parameters(self) -> int:
        """How many weights it has, tied ones counted once."""
        return sum(p.numel() for p in {id(p): p for p in self.skeleton.parameters()}.values())

    def pruned(self, layers: int) -> ModelFacts:
        """The same with ``layers`` layers."""
        import copy

        config = copy.deepcopy(self.config)
        text = config.get_text_config()
        if isinstance(getattr(text, "layer_types", None), list):
            text.layer_types = text.layer_types[:layers]
        text.num_hidden_layers = layers
        return replace(self, config=config)


@dataclass
class Shelf:
    """The models of a recipe, each read once.

    Args:
        loaded: the recipe.
    """

    loaded: LoadedTextRecipe
    _read: dict[Source, ModelFacts] = field(default_factory=dict)

    @cached_property
    def teacher(self) -> ModelFacts | None:
        """The teacher's, ``None`` where its weights are elsewhere or tell nothing."""
        config = self.loaded.recipe.teacher
        if config.kind not in WEIGHTS_HERE:
            return None
        try:
            return self._facts(config.model)
        except OverproofError:
            if config.kind == "local":
                raise
            return None  # a GGUF file that llama.cpp can run and transformers cannot read

    def base_of(self, config: LmStudentConfig) -> ModelFacts:
        """What a student begins with; of one that starts from another, that one's.

        Raises:
            ModelError: it cannot be read.
        """
        if config.start is not None:
            before = next(s for s in self.loaded.recipe.students if s.name == config.start)
            return self.base_of(before)
        if config.base == "teacher":
            if self.teacher is None:
                raise ModelError("base = 'teacher'", "the teacher's weights are not here")
            facts = self.teacher
        else:
            facts = self._facts(config.base)
        return facts if config.prune is None else facts.pruned(config.prune.layers)

    def _facts(self, model: str) -> ModelFacts:
        source = source_of(model)
        if source not in self._read:
            self._read[source] = _read(model, source)
        return self._read[source]


def _read(model: str, source: Source) -> ModelFacts:
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    files = {"revision": source.revision, "gguf_file": source.file}
    shared = {name: value for name, value in files.items() if value is not None}
    generation = None
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(source.place, **shared)
            tokenizer = AutoTokenizer.from_pretrained(source.place, **shared)
            if (Path(source.place) / "generation_config.json").is_file():
                generation = GenerationConfig.from_pretrained(source.place)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(
            f"{source.name} ({source.place})",
            f"cannot be read: {reason}",
            "name a directory with config.json and tokenizer.json, a GGUF file, or a model that "
            "`overproof models pull` fetched",
        ) from error
    found = licence_of_weights(TeacherConfig(kind="local", model=model))
    return ModelFacts(source.name, config, generation, tokenizer, tuple(found.names))
