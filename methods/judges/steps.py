"""How process reward models are spoken to: problem and steps as tokens, and where each step is graded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prunebench.methods.judges.checkpoint import Checkpoint, FormName
from prunebench.methods.pool import Pool


@dataclass(frozen=True)
class Form:
    """How one public family of process reward models is spoken to.

    ``mark``: the token behind every step. ``numbers``: token numbers that the family is read by; where there are none,
    tokens are looked up by their text. ``verified``: whether all this was compared with the released ``checkpoint``.
    """

    checkpoint: str
    mark: str
    numbers: Mapping[str, int]
    verified: bool


FORMS: Mapping[FormName, Form] = {
    "separator": Form("Qwen/Qwen2.5-Math-PRM-7B", "<extra_0>", {}, verified=False),
    "value": Form("Skywork/Skywork-o1-Open-PRM-Qwen-2.5-7B", "\n", {}, verified=False),
    "plus-minus": Form("RLHFlow/Llama3.1-8B-PRM-Deepseek-Data", "+", {}, verified=False),
    "step-tag": Form("peiyi9979/math-shepherd-mistral-7b-prm", "ки", {"ки": 12902, "+": 648, "-": 387}, verified=False),
}
"""The four forms. None was run on its released checkpoint: tokens, numbers and formats are those of public code."""

_SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."


@dataclass(frozen=True)
class Reading:
    """What the judge reads of one prefix: ``ids`` (tokens,), and ``places`` (steps,): where each step is graded."""

    ids: tuple[int, ...]
    places: tuple[int, ...]


class StepTokenizer:
    """Turns a problem and a prefix into tokens of the judge.

    Raises ValueError where its tokenizer lacks a token that the form needs.
    """

    def __init__(self, checkpoint: Checkpoint, form: FormName, step_end: str) -> None:
        self.source, self.form, self.step_end = checkpoint.source, form, step_end
        self.context, self.tokenizer = checkpoint.context, checkpoint.tokenizer()
        self.mark = self._token(FORMS[form].mark)
        self.answers = (self._token("-"), self._token("+")) if form in ("plus-minus", "step-tag") else ()

    def _token(self, text: str) -> int:
        ids = self._encode(text)
        number = FORMS[self.form].numbers.get(text)
        if len(ids) == 1 and ids[0] != self.tokenizer.unk_token_id and number in (None, ids[0]):
            return ids[0]
        unsure = "" if FORMS[self.form].verified else " (a form that was not verified on a released checkpoint)"
        which = "" if number is None else f" number {number}"
        raise ValueError(
            f"judge {self.source}: its tokenizer has no token {text!r}{which}, which the form '{self.form}'{unsure} "
            f"needs; give a checkpoint like {FORMS[self.form].checkpoint}, or name another form"
        )

    def distinct(self, pool: Pool) -> dict[str, Reading]:
        """The readings of the distinct texts of a pool, in an order that does not depend on that of its paths."""
        return {text: self._checked(pool, text) for text in sorted(set(pool.text))}

    def _checked(self, pool: Pool, text: str) -> Reading:
        reading = self.read(pool.prompt, text)
        if len(reading.ids) > self.context:
            raise ValueError(
                f"problem '{pool.problem}': problem and prefix are {len(reading.ids)} tokens for the judge "
                f"{self.source}, which reads {self.context}; check earlier or give a judge of longer context"
            )
        return reading

    def read(self, prompt: str, text: str) -> Reading:
        """The tokens of problem and prefix up to the last graded place."""
        if self.form in ("separator", "step-tag"):
            mark = FORMS[self.form].mark
            prompt, text = prompt.replace(mark, ""), text.replace(mark, "")
        steps = split_steps(text, self.step_end)
        chat = bool(getattr(self.tokenizer, "chat_template", None))
        said = [step.strip() for step in steps]
        if self.form == "step-tag":
            return self._tagged(prompt, said)
        if self.form == "value":
            return self._marked([(*self._start(), *self._encode(f"{prompt}\n"))], said)
        if self.form == "separator" and chat:
            answer = "".join(f"{step}{FORMS[self.form].mark}" for step in said)
            system = [{"role": "system", "content": _SYSTEM}]
            return self._marked([], self._rendered(system, [(prompt, answer)], FORMS[self.form].mark, len(steps)))
        if self.form == "plus-minus" and chat:
            said[0] = f"{prompt} {said[0]}"
            return self._marked([], self._rendered([], [(step, "\0") for step in said], "\0", len(steps)))
        return self._marked([(*self._start(), *self._encode(prompt))], steps)

    def _marked(self, before: Sequence[tuple[int, ...]], pieces: Sequence[str]) -> Reading:
        """``before``, then the pieces, each with a mark behind it; the grade of ``+`` is given one token before it."""
        ids = [token for part in before for token in part]
        places = []
        for piece in pieces:
            ids += [*self._encode(piece), self.mark]
            places.append(len(ids) - (2 if self.form == "plus-minus" else 1))
        return Reading(tuple(ids[: places[-1] + 1]), tuple(places))

    def _rendered(
        self, start: list[dict[str, str]], turns: Sequence[tuple[str, str]], mark: str, count: int
    ) -> list[str]:
        """The chat's text, cut at its marks; what stands behind the last one is left out."""
        talk = [{"role": role, "content": words} for turn in turns for role, words in zip(_ROLES, turn, strict=True)]
        pieces = str(self.tokenizer.apply_chat_template([*start, *talk], tokenize=False)).split(mark)[:-1]
        if len(pieces) != count:
            raise ValueError(
                f"judge {self.source}: its chat template shows {len(pieces)} of {count} steps; remove the template "
                "from the checkpoint to have it read plain text"
            )
        return pieces

    def _tagged(self, prompt: str, said: Sequence[str]) -> Reading:
        """One text, in which the tag is found by its number: its tokenizer treats the start of a text differently."""
        mark = FORMS[self.form].mark
        ids = [*self._start(), *self._encode(f"{prompt} " + "\n".join(f"{step} {mark}" for step in said))]
        places = [place for place, token in enumerate(ids) if token == self.mark]
        if len(places) != len(said):
            raise ValueError(
                f"judge {self.source}: {len(said)} steps, but {len(places)} tags '{mark}' among its tokens; "
                "give a checkpoint whose tokenizer keeps the tag apart"
            )
        return Reading(tuple(ids), tuple(places))

    def _start(self) -> tuple[int, ...]:
        first = self.tokenizer.bos_token_id
        return () if first is None else (int(first),)

    def _encode(self, text: str) -> list[int]:
        return [int(token) for token in self.tokenizer.encode(text, add_special_tokens=False)]


_ROLES = ("user", "assistant")


def split_steps(text: str, step_end: str) -> list[str]:
    """The steps with their ends; joined they are the text. One that says nothing belongs to the step before it."""
    *ended, rest = text.split(step_end)
    steps: list[str] = []
    for piece in [*(f"{piece}{step_end}" for piece in ended), rest]:
        if steps and not (_says(piece, step_end) and _says(steps[-1], step_end)):
            steps[-1] += piece
        else:
            steps.append(piece)
    return steps


def _says(piece: str, step_end: str) -> bool:
    return bool(piece.replace(step_end, "").strip())
