"""Train the demo tokenizer: byte-level BPE over the corpus's train split, every special token one id.

Usage: python -m tools.demo.train_tokenizer [CORPUS]
"""

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from xoron_core.contract.special_tokens import all_special_tokens

VOCABULARY = 2048
CORPUS = Path("xoron_core/data/demo")
TAG = re.compile("|".join(re.escape(token) for token in all_special_tokens()))
# GPT-2's split, but every digit alone (numbers are read digit by digit) and runs of line ends apart from indentation
SPLIT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\n+| +(?=\S)|\s+"


def train_texts(corpus: Path) -> Iterator[str]:
    """The train split's documents and pictures' captions, in the order of the files' names."""
    for path in sorted([*corpus.glob("pictures/train.jsonl"), *corpus.glob("text/*/train.jsonl")]):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            yield row["text"] if "text" in row else row["caption"]


def train(corpus: Path) -> Path:
    """Write `tokenizer/tokenizer.json` below the corpus and return its path."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one order of counting, so that ties fall the same way every time
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        show_progress=False,
        special_tokens=list(all_special_tokens()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    # the trainer reads text as it stands: without this, pieces of the tags would become merges
    plain = (piece for text in train_texts(corpus) for piece in TAG.split(text) if piece)
    tokenizer.train_from_iterator(plain, trainer)
    path = corpus / "tokenizer" / "tokenizer.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tokenizer.to_str(pretty=False) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    print(train(Path(sys.argv[1]) if len(sys.argv) > 1 else CORPUS))
