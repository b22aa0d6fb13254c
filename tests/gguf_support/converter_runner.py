"""Run llama.cpp's converter, in an interpreter of its own: ``python converter_runner.py SOURCE < requests``.

Each line of the input is a JSON object: ``folder``, ``out``, ``type`` (f32, f16, bf16, q8_0) and ``vocabulary``: empty
to let the converter find it, ``none``, or the name of a byte-level pre-tokenizer. The converter tells these by a hash
of the ids that a published tokenizer gives, which no tokenizer trained in a test can have.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    source = Path(sys.argv[1])
    sys.path.insert(0, str(source / "gguf-py"))
    sys.path.insert(0, str(source))
    import convert_hf_to_gguf as program  # type: ignore[import-not-found]
    from conversion.base import TextModel  # type: ignore[import-not-found]

    find = TextModel.get_vocab_base_pre
    for line in sys.stdin:
        request = json.loads(line)
        name = request["vocabulary"]
        TextModel.get_vocab_base_pre = (lambda self, tokenizer, name=name: name) if name else find
        sys.argv = ["convert", request["folder"], "--outfile", request["out"], "--outtype", request["type"]]
        if name == "none":
            with _without_vocabulary(program, request["folder"]):
                program.main()
        else:
            program.main()


class _without_vocabulary:
    """The architecture's class with a vocabulary of numbers only, for as long as it is entered."""

    def __init__(self, program: object, folder: str) -> None:
        from conversion.base import TextModel  # type: ignore[import-not-found]

        self._base = TextModel
        config = json.loads((Path(folder) / "config.json").read_text())
        self._class = program.get_model_class(config["architectures"][0])  # type: ignore[attr-defined]

    def __enter__(self) -> None:
        self._before = self._class.__dict__.get("set_vocab")
        self._class.set_vocab = lambda model: model._set_vocab_none()

    def __exit__(self, *wrong: object) -> None:
        if self._before is None:
            del self._class.set_vocab
        else:
            self._class.set_vocab = self._before


if __name__ == "__main__":
    main()
