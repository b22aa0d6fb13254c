"""A place of work of the soak: a recipe beside its sources, which may be damaged, and the output that it is to give."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alloyd.jobs import MergeSpec

LINEAR: Final = "".join(f"- {{model: tune-{n}, parameters: {{weight: 0.5}}}}\n" for n in (0, 1))
SPARSE: Final = LINEAR.replace("weight: 0.5", "weight: 0.5, density: 0.4")
SLERP: Final = "parameters: {t: 0.3}\nmodels:\n- model: tune-0\n- model: tune-1\n"
RECIPES: Final = {
    "linear": ("tiny", f"merge_method: linear\ndtype: bfloat16\nmodels:\n{LINEAR}"),
    "slerp": ("tiny", f"merge_method: slerp\nbase_model: tune-0\ndtype: bfloat16\n{SLERP}"),
    "ties": ("tiny", f"merge_method: ties\nbase_model: base\ndtype: bfloat16\nmodels:\n{SPARSE}"),
    "dare": ("tiny", f"merge_method: dare_ties\nbase_model: base\ndtype: float32\nmodels:\n{SPARSE}"),
    "long": ("10M", f"merge_method: dare_ties\nbase_model: base\ndtype: bfloat16\nmodels:\n{SPARSE}"),
}
"""Which family of models a recipe merges, and its text. ``long`` has many blocks, the others one a tensor."""
FLIPPED: Final = "~"
"""Behind a recipe's name: the same recipe after :func:`flip` on its model ``tune-1``."""


def digests(folder: Path) -> dict[str, str]:
    """A digest of every file, whatever its name."""
    return {
        str(each.relative_to(folder)): hashlib.blake2b(each.read_bytes(), digest_size=16).hexdigest()
        for each in sorted(folder.rglob("*"))
        if each.is_file()
    }


@dataclass(frozen=True, slots=True)
class Bench:
    """One order's folder: ``recipe.yaml``, links to the models it names, and ``out``."""

    folder: Path
    recipe: str
    models: Path

    @classmethod
    def make(cls, folder: Path, recipe: str, families: Path) -> Bench:
        family, text = RECIPES[recipe]
        folder.mkdir()
        (folder / "recipe.yaml").write_text(text)
        made = cls(folder, recipe, families / family)
        for model in ("base", "tune-0", "tune-1"):
            (folder / model).symlink_to(made.models / model)
        return made

    @property
    def file(self) -> Path:
        return self.folder / "recipe.yaml"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def staging(self) -> Path:
        return self.folder / ".out.partial"

    def spec(self, *, force: bool = False) -> MergeSpec:
        """The merge of this bench, of one thread."""
        text, name = self.file.read_text(), self.file.name
        return MergeSpec(text, str(self.folder), str(self.out), threads=1, force=force, recipe_name=name)

    def own(self) -> Path:
        """A copy of the model ``tune-1`` in place of the link to the one that all share."""
        model = self.folder / "tune-1"
        if model.is_symlink():
            model.unlink()
            shutil.copytree(self.models / "tune-1", model)
        return model

    def mend(self) -> None:
        """The shared model again."""
        model = self.folder / "tune-1"
        shutil.rmtree(model, ignore_errors=True)
        model.symlink_to(self.models / "tune-1")


# What may happen to a model.


def weights(folder: Path) -> Path:
    """The first file of weights of a checkpoint."""
    return min(folder.glob("*.safetensors"))


def flip(model: Path) -> None:
    """Change a byte of a weight: the result is another sound model."""
    with weights(model).open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        (byte,) = file.read(1)
        file.seek(-100, os.SEEK_END)
        file.write(bytes([byte ^ 0x10]))


def shorten(model: Path) -> None:
    file = weights(model)
    os.truncate(file, file.stat().st_size // 2)


def empty(model: Path) -> None:
    os.truncate(weights(model), 0)


def garble(model: Path) -> None:
    with weights(model).open("r+b") as file:
        file.write(b"\xff" * 8)


def lose(model: Path) -> None:
    weights(model).unlink()


def remove(model: Path) -> None:
    """Away with it, in one step."""
    model.rename(model.with_name("away"))
    shutil.rmtree(model.with_name("away"))


DAMAGES: Final[dict[Callable[[Path], None], str]] = {
    shorten: "E_HEADER",
    empty: "E_HEADER",
    garble: "E_HEADER",
    lose: "E_SOURCE_NOT_FOUND",
    remove: "E_SOURCE_NOT_FOUND",
}
"""What makes a model unusable, and how a job that finds it so fails."""


# What may happen to what a job has staged.


def leave(staging: Path, _: random.Random) -> None:
    """Nothing."""


def delete(staging: Path, _: random.Random) -> None:
    """In one step: a job that publishes it at this moment has it, whole, or has not."""
    away = staging.with_name("away")
    try:
        staging.rename(away)
    except FileNotFoundError:
        return
    shutil.rmtree(away)


def rot(staging: Path, chance: random.Random) -> None:
    """Change a byte in each file that was staged, the journal too."""
    for file in [each for each in staging.rglob("*") if each.is_file() and each.stat().st_size]:
        with file.open("r+b") as opened:
            place = chance.randrange(file.stat().st_size)
            opened.seek(place)
            (byte,) = opened.read(1)
            opened.seek(place)
            opened.write(bytes([byte ^ 1]))


def meddle(staging: Path, how: Callable[[Path, random.Random], None], chance: random.Random) -> None:
    """Do that to what is staged, if no process still writes it and it is not about to be published."""
    try:
        with (staging / ".alloyd" / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not (staging / ".alloyd" / "sealed").exists():
                how(staging, chance)
    except (FileNotFoundError, BlockingIOError):
        return


def damage_output(out: Path, chance: random.Random) -> str:
    """Damage a merged model; the code with which its verification fails."""
    how = chance.choice((flip, shorten, lose, "readme"))
    if callable(how):
        how(out)
        return {flip: "E_DIGEST", shorten: "E_HEADER", lose: "E_SOURCE_NOT_FOUND"}[how]
    with (out / "README.md").open("ab") as file:
        file.write(b"!")
    return "E_DIGEST"
