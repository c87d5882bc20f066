"""The command line's manners: light imports, exit codes, errors that name the way out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "starlette", "uvicorn", "aiohttp", "pyarrow", "numpy", "scipy",
         "onnxruntime", "pydantic", "rich", "jinja2")  # fmt: skip


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def overproof(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "overproof", *arguments],
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("code", [
    "import overproof",
    "import overproof.api",
    "from overproof.cli.main import app; from overproof.cli.commands import register; "
    "register(app)",
])  # fmt: skip
def test_imports_are_light(code: str) -> None:
    done = python(f"{code}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])")
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.parametrize("said", ["student small: stopped after step 3, which is saved", ""])
def test_ctrl_c_tells_what_was_saved(said: str) -> None:
    done = python(
        "import sys\n"
        "from overproof import api\n"
        "from overproof.cli import distill, main\n"
        "def stopped(*_, **__):\n"
        f"    raise KeyboardInterrupt({said!r})\n"
        "api.load_any = lambda _: None\n"
        "distill.distill_command = stopped\n"
        "sys.argv = ['overproof', 'train', 'recipe.toml']\n"
        "main.main()\n"
    )
    assert done.returncode == 130
    told = [line for line in done.stderr.splitlines() if line]
    assert told == [*([said] if said else []),
                    "interrupted: run the same command again to go on from here"]  # fmt: skip


def test_help_names_every_command() -> None:
    done = overproof("--help")
    assert done.returncode == 0
    for command in ("init", "plan", "distill", "collect", "train", "certify", "predict", "serve",
                    "import", "ledger", "models"):  # fmt: skip
        assert command in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "none.toml"], "none.toml: no such recipe"),
        (["distill", "none.toml"], "overproof init"),
        (["frobnicate"], "No such command"),
        (["plan"], "Missing argument"),
        (["ledger", "verify", "none"], "none"),
        (["predict", "none", "none.csv"], "none"),
    ],
)
def test_bad_input_exits_2_and_says_why(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = overproof(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_starter_recipe_is_a_recipe_and_is_never_overwritten(tmp_path: Path) -> None:
    from overproof.config.load import load_recipe

    assert overproof("init", "task", cwd=tmp_path).returncode == 0
    recipe = load_recipe(tmp_path / "task").recipe
    assert recipe.certificate.margin == 0.03
    again = overproof("init", "task", cwd=tmp_path)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_the_text_starter_is_a_text_recipe(tmp_path: Path) -> None:
    from overproof.config.load import LoadedTextRecipe, load_any

    assert overproof("init", "task", "--task", "text", cwd=tmp_path).returncode == 0
    loaded = load_any(tmp_path / "task")
    assert isinstance(loaded, LoadedTextRecipe)
    assert [each.kind for each in loaded.recipe.filters][:2] == ["exact", "near_duplicate"]
    wrong = overproof("init", "other", "--task", "poem", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "choose label or text" in wrong.stderr
    assert not (tmp_path / "other").exists()
    assert [each.method for each in loaded.recipe.students] == ["sft"]
    trained = overproof("train", "task", cwd=tmp_path)
    assert trained.returncode == 2
    assert "overproof collect" in trained.stderr


def test_every_shipped_recipe_parses() -> None:
    from overproof.config.load import LoadedRecipe, load_any

    recipes = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))
    kinds = {path.stem: type(load_any(path)) is LoadedRecipe for path in recipes}
    texts = ("chats", "example-smollm2", "study-cpu", "study-gpu", "study-quick")
    assert kinds == {"demo": True} | dict.fromkeys(texts, False)


def test_a_teacher_that_is_not_there_exits_3(tmp_path: Path) -> None:
    overproof("init", ".", cwd=tmp_path)
    path = tmp_path / "recipe.toml"
    text = path.read_text().replace('training = "unknown"', 'training = "allowed"')
    text = text.replace("127.0.0.1:8000", "127.0.0.1:9").replace("max_attempts = 6",
                                                                 "max_attempts = 1")  # fmt: skip
    path.write_text(text.replace("train = 2000", "train = 20").replace("tune = 300", "tune = 5")
                    .replace("test = 1400", "test = 10"))  # fmt: skip
    words = [chr(97 + i % 26) * 9 + f" {i * 7919} {chr(97 + i // 26) * 8}" for i in range(60)]
    (tmp_path / "data.csv").write_text("text\n" + "\n".join(words) + "\n")
    done = overproof("distill", "recipe.toml", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_teacher_without_stated_terms_is_refused(tmp_path: Path) -> None:
    overproof("init", ".", cwd=tmp_path)
    words = [chr(97 + i % 26) * 9 + f" {i * 7919}" for i in range(4000)]
    (tmp_path / "data.csv").write_text("text\n" + "\n".join(words) + "\n")
    done = overproof("plan", "recipe.toml", cwd=tmp_path)
    assert done.returncode == 1
    assert "terms" in done.stdout


def test_a_missing_base_is_found_before_a_teacher_is_asked(tmp_path: Path) -> None:
    from collecting import RECIPE, make_recipe

    base = '[students.encoder]\nbase = "no-such-base"\n'
    make_recipe(tmp_path, RECIPE + base)
    done = overproof("distill", "recipe.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "no-such-base" in done.stderr
    assert not (tmp_path / "run/ledger.sqlite").exists()
