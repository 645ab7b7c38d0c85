"""The word-and-number tokens of the embedded reasoner. Their order is frozen: ids are written into every store."""

from __future__ import annotations

from pathlib import Path

from prunebench.tasks.synthetic.family import BOX, BOX_END, CHECK, STEP_END, WAIT
from prunebench.tasks.synthetic.wording import FILLERS, HEDGE

PAD, BOS, EOS, UNKNOWN = "<pad>", "<bos>", "<eos>", "<unk>"
RESERVED = tuple(f"<reserved_{i}>" for i in range(76))
"""Spare ids for [STOP] tokens and whatever later methods append; never sampled, never trained on."""

WORDS = (
    STEP_END, "\n", WAIT, CHECK, "yes", "no", BOX, BOX_END, "plan", ":", ";", "=", "+", "-", "*", "^", "%", "(", ")",
    "a", "b", "e", "g", "p", "q", "x", "y", "mod", "find", "from", "less", "do", "bits", "bit",
    "recurrence", "power", "congruence", "program",
    "early", "late", "repeat", "square", "up", "down", "tool", "mental",
    "print", "```python", "```", "```output",
)  # fmt: skip
NUMBERS = tuple(str(n) for n in range(-60, 321))
VOCABULARY = (PAD, BOS, EOS, UNKNOWN, *WORDS, *NUMBERS, *RESERVED, *FILLERS, HEDGE)
"""The words of confident errors came later: they stand at the end, where four more spare ids were, so that all other
ids and the size are those of the first weights."""
IDS = {token: number for number, token in enumerate(VOCABULARY)}


def save_tokenizer(folder: Path, context: int = 1024) -> None:
    """Write an ordinary fast tokenizer (word level, tokens separated by single spaces) that ``AutoTokenizer`` loads."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.decoders import WordPiece
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(WordLevel(IDS, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = Split(Regex(" "), behavior="removed")
    tokenizer.decoder = WordPiece(prefix="\x00", cleanup=False)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
        model_max_length=context,
    ).save_pretrained(str(folder))
