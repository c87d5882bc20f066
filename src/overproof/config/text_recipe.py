"""The recipe of a text task: prompts in, a dataset of chats out."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from overproof.config.filters import FilterConfig
from overproof.config.lm_students import (
    AnyLmStudent,
    DenseKdConfig,
    OnPolicyConfig,
    SampledKdConfig,
    SparseKdConfig,
)
from overproof.config.running import BaseRecipe
from overproof.config.section import Section
from overproof.config.synthesize import SynthesizeConfig
from overproof.config.text_certificate import TextCertificateConfig

__all__ = ["TextDataConfig", "TextRecipe", "TextTaskConfig"]


class TextDataConfig(Section):
    """``[data]``: the prompts. CSV, TSV, JSONL or Parquet, told by the file's ending.

    ``input`` names the column of prompts. ``messages`` names instead a column of chats: a list of
    ``{role, content}``; of user messages that follow one another, each is asked once the teacher
    has answered the one before. ``reference`` names a column of known right answers, hidden from
    the teacher. ``file = "ledger"`` takes imported prompts with their answers. Split by content
    hash into frozen pools: ``test`` and ``tune`` first, then up to ``train`` of what is left (all
    of it where unsaid).
    """

    file: str | None = None
    input: str = "text"
    messages: str | None = None
    reference: str | None = None
    encoding: str = "utf-8"
    train: int | None = Field(default=None, ge=1)
    tune: int = Field(default=0, ge=0)
    test: int = Field(default=0, ge=0)
    near_duplicate: float = Field(default=0.8, gt=0.0, le=1.0)


class TextTaskConfig(Section):
    """``[task]`` with ``kind = "text"``.

    ``system`` and ``prompt`` are sandboxed Jinja2 templates over ``input`` and the row's columns.
    ``answer``: plain ``text``; ``json`` that follows the JSON Schema in the file ``schema``; or
    ``tools``: calls of the functions in the file ``tools`` (a JSON list of name, description and
    parameters). ``samples`` answers are drawn for each prompt.
    """

    kind: Literal["text"]
    system: str = ""
    prompt: str = "{{ input }}"
    answer: Literal["text", "json", "tools"] = "text"
    json_schema: str | None = Field(default=None, alias="schema")
    tools: str | None = None
    tool_choice: str | None = None
    samples: int = Field(default=1, ge=1, le=1000)
    max_tokens: int = Field(default=1024, ge=1)
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    stop: tuple[str, ...] = ()
    seeds: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=200)

    @field_validator("prompt")
    @classmethod
    def _is_a_prompt(cls, prompt: str) -> str:
        if not prompt.strip():
            raise ValueError("is empty: '{{ input }}' asks the input as it is")
        return prompt

    @model_validator(mode="after")
    def _answer_has_what_it_needs(self) -> Self:
        if self.answer == "json" and not self.json_schema:
            raise ValueError("answer: 'json' needs schema, a file with a JSON Schema")
        if self.answer == "tools" and not self.tools:
            raise ValueError("answer: 'tools' needs tools, a file with a JSON list of functions")
        if self.json_schema and self.answer != "json":
            raise ValueError("schema: has no meaning without answer = 'json'")
        if self.tools and self.answer != "tools":
            raise ValueError("tools: has no meaning without answer = 'tools'")
        return self


class TextRecipe(BaseRecipe):
    """A whole recipe of a text task."""

    data: TextDataConfig = TextDataConfig()
    task: TextTaskConfig
    synthesize: tuple[SynthesizeConfig, ...] = ()
    filters: tuple[FilterConfig, ...] = ()
    students: tuple[AnyLmStudent, ...] = ()
    certificate: TextCertificateConfig = TextCertificateConfig()

    @model_validator(mode="after")
    def _task_decides_how_it_is_sampled(self) -> Self:
        for key in ("temperature", "top_p", "seed", "stop"):
            if key in self.teacher.body:
                named = "task.seeds" if key == "seed" else f"task.{key}"
                raise ValueError(f"teacher.body.{key} overrides the task: set {named} instead")
        return self

    @model_validator(mode="after")
    def _there_are_prompts(self) -> Self:
        if self.data.file is None and not self.synthesize:
            raise ValueError("data: needs a file of prompts, or a [[synthesize]] that makes some")
        if (self.data.file == "ledger") != (self.teacher.kind == "ledger"):
            raise ValueError(
                "data: file = 'ledger' and teacher.kind = 'ledger' go together: imported answers "
                "are taken as they are, and nobody is asked"
            )
        if self.teacher.kind == "ledger" and self.synthesize:
            raise ValueError("synthesize: there is no teacher to answer new prompts; take it out")
        return self

    @model_validator(mode="after")
    def _students_can_learn_from_this_teacher(self) -> Self:
        earlier: set[str] = set()
        for student in self.students:
            at = f"students.{student.name}"
            if student.name in earlier:
                raise ValueError(f"{at}: two students have this name")
            if student.start is not None and student.start not in earlier:
                raise ValueError(
                    f"{at}.start: no earlier student is called {student.start!r}; a student that "
                    "another one starts with comes before it"
                )
            earlier.add(student.name)
            local = self.teacher.kind == "local"
            if student.base == "teacher" and not local:
                raise ValueError(
                    f"{at}.base: the weights of a teacher of kind '{self.teacher.kind}' are not "
                    "here; use teacher.kind = 'local', or name the base"
                )
            if isinstance(student, DenseKdConfig | SampledKdConfig) and not local:
                raise ValueError(
                    f"{at}.method: '{student.method}' needs the teacher's weights "
                    "(teacher.kind = 'local'); 'sparse_kd' learns from top_logprobs, 'sft' from "
                    "text alone"
                )
            if isinstance(student, OnPolicyConfig) and self.teacher.kind not in ("local", "openai"):
                raise ValueError(
                    f"{at}.method: 'on_policy' needs a teacher that scores the student's text: "
                    "local weights, or a server with prompt_logprobs (kind = 'openai', such as "
                    "vLLM)"
                )
            if (
                isinstance(student, SparseKdConfig)
                and not local
                and self.teacher.kind != "ledger"
                and not self.task.top_logprobs
            ):
                raise ValueError(
                    f"{at}.method: 'sparse_kd' learns from log-probs, which nobody asks for: set "
                    "task.top_logprobs (20 is what many APIs give)"
                )
        return self
