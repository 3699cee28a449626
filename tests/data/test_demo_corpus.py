"""The shipped demo corpus: whole, correctly split, well formed, and readable by its tokenizer."""

import contextlib
import hashlib
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import soundfile
from PIL import Image, ImageSequence
from tokenizers import Tokenizer

from xoron_core.contract import special_tokens
from xoron_core.contract.special_tokens import BOS, CLOSER_ALIASES, EOS, OPTIONAL_CLOSERS, UNPAIRED

CORPUS = Path(__file__).parents[2] / "xoron_core" / "data" / "demo"
CATEGORIES = ("conversation", "chain_of_thought", "tool_use", "code")
TAG = re.compile(r"<\|(/?)([a-z_:]+)\|>")
MAX_BYTES = 5_000_000
SAME_SENTENCE = 0.6


def rows(path: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (CORPUS / path).read_text(encoding="utf-8").splitlines()]


def texts(split: str) -> list[str]:
    return [row["text"] for category in CATEGORIES for row in rows(f"text/{category}/{split}.jsonl")]


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((CORPUS / "manifest.json").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(CORPUS / "tokenizer" / "tokenizer.json"))


def corpus_files() -> list[Path]:
    """The corpus without the autoencoder, which is trained on it afterwards."""
    return [path for path in CORPUS.rglob("*") if path.is_file() and path.parent.name != "autoencoder"]


def test_the_manifest_lists_every_file_with_its_hash(manifest: dict[str, Any]) -> None:
    found = {
        path.relative_to(CORPUS).as_posix(): {
            "size": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in corpus_files()
        if path.name != "manifest.json"
    }
    assert found == manifest["files"]
    assert sum(path.stat().st_size for path in corpus_files() if path.parent.name != "LICENSES") < MAX_BYTES


def test_the_manifest_counts_the_rows_of_every_split(manifest: dict[str, Any]) -> None:
    for folder, counts in manifest["splits"].items():
        present = {path.stem for path in (CORPUS / folder).glob("*.jsonl")}
        assert counts == {split: len(rows(f"{folder}/{split}.jsonl")) for split in present}
        for heldout, train in (("heldout", "train"), ("heldout_questions", "questions")):
            if train in counts:
                assert 0.04 < counts[heldout] / (counts[train] + counts[heldout]) < 0.15, (folder, train)


def test_pictures_are_small_rgb_without_metadata_and_each_is_used_once() -> None:
    named = [row["image"] for split in ("train", "heldout") for row in rows(f"pictures/{split}.jsonl")]
    present = {f"files/{path.name}" for path in (CORPUS / "pictures" / "files").iterdir()}
    assert len(named) == len(set(named))
    assert set(named) == present
    for name in named:
        with Image.open(CORPUS / "pictures" / name) as image:
            assert (image.size, image.mode) == ((64, 64), "RGB"), name
            assert not image.getexif(), name


def test_pictures_are_split_by_what_they_show() -> None:
    contents = []
    for split in ("train", "heldout"):
        names = [Path(row["image"]).stem for row in rows(f"pictures/{split}.jsonl")]
        contents.append({re.sub(r"-(3d|flat|cartoon|photo-\d+)$", "", name) for name in names})
    assert contents[0].isdisjoint(contents[1])


def test_clips_are_eight_differing_small_frames_without_metadata_and_each_is_used_once() -> None:
    named = [row["video"] for split in ("train", "heldout") for row in rows(f"clips/{split}.jsonl")]
    present = {f"files/{path.name}" for path in (CORPUS / "clips" / "files").iterdir()}
    assert len(named) == len(set(named)) > 200
    assert set(named) == present
    for name in named:
        with Image.open(CORPUS / "clips" / name) as clip:
            assert (clip.size, clip.n_frames, clip.info["loop"]) == ((64, 64), 8, 0), name
            assert not clip.getexif(), name
            frames = [frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(clip)]
        assert len(set(frames)) >= 6, name


def test_clips_are_split_by_what_they_show() -> None:
    contents = []
    for split in ("train", "heldout"):
        names = [Path(row["video"]).stem for row in rows(f"clips/{split}.jsonl")]
        contents.append({re.sub(r"-(anim|3d-.*|flat-.*)$", "", name) for name in names})
    assert contents[0].isdisjoint(contents[1])
    held_pictures = {re.sub(r"-(3d|flat|cartoon)\..*", "", row["image"]) for row in rows("pictures/heldout.jsonl")}
    assert not {f"files/{name}" for name in contents[0]} & held_pictures


def test_captions_tell_which_way_a_drawn_clip_moves() -> None:
    """The middle of what is darker than paper wanders, or its size changes, as the caption says."""
    directions = Counter(
        row["caption"].rsplit(" moves ")[-1] for row in rows("clips/train.jsonl") if " moves " in row["caption"]
    )
    for row in [*rows("clips/train.jsonl"), *rows("clips/heldout.jsonl")]:
        if Path(row["video"]).stem.endswith("-anim"):
            continue
        with Image.open(CORPUS / "clips" / row["video"]) as clip:
            boxes = [
                frame.convert("L").point(lambda value: 255 * (value < 230)).getbbox()
                for frame in ImageSequence.Iterator(clip)
            ]
        (left, top, right, bottom), (last_left, last_top, last_right, last_bottom) = boxes[0], boxes[-1]
        if row["caption"].endswith(("left", "right")):
            wandered = last_left + last_right - left - right
            assert abs(wandered) > 40, row
            assert (wandered > 0) == row["caption"].endswith("right"), row
        elif row["caption"].endswith((" up", " down")):
            wandered = last_top + last_bottom - top - bottom
            assert abs(wandered) > 40, row
            assert (wandered > 0) == row["caption"].endswith("down"), row
        elif row["caption"].endswith((" grows", " shrinks")):
            grown = (last_right - last_left) / (right - left)
            assert grown > 2 if row["caption"].endswith("grows") else grown < 0.5, row
    assert {directions[way] for way in ("to the left", "to the right", "up", "down")} == {8}


def question_rows(folder: str, split: str) -> list[dict[str, str]]:
    return rows(f"{folder}/{'questions' if split == 'train' else 'heldout_questions'}.jsonl")


@pytest.mark.parametrize(("folder", "key"), [("pictures", "image"), ("clips", "video")])
def test_questions_are_about_the_files_of_their_split(folder: str, key: str) -> None:
    for split in ("train", "heldout"):
        captions = {row[key]: row["caption"] for row in rows(f"{folder}/{split}.jsonl")}
        questions = question_rows(folder, split)
        assert {row[key] for row in questions} == captions.keys()
        for row in questions:
            assert row["question"].endswith("?")
            assert row["answer"].strip(" .") == row["answer"] != ""
            if row["question"] in (
                "What is this?",
                "What does the picture show?",
                "What is shown?",
                "What does it do?",
            ):
                assert row["answer"] in captions[row[key]], row


def test_most_answers_of_heldout_questions_are_given_in_train_and_no_single_one_rules() -> None:
    for folder in ("clips", "pictures"):
        known = {row["answer"] for row in question_rows(folder, "train")}
        heldout = Counter(row["answer"] for row in question_rows(folder, "heldout"))
        assert sum(count for answer, count in heldout.items() if answer in known) > 0.75 * heldout.total(), folder
        checks = Counter(row["answer"] for row in question_rows(folder, "train") if row["answer"] in ("yes", "no"))
        assert 0.4 < checks["yes"] / checks.total() < 0.6, folder


def test_speech_is_short_16_khz_mono_and_each_recording_is_used_once() -> None:
    spoken = [row for split in ("train", "heldout") for row in rows(f"speech/{split}.jsonl")]
    present = {f"files/{path.name}" for path in (CORPUS / "speech" / "files").iterdir()}
    assert len(spoken) == len({row["audio"] for row in spoken}) > 250
    assert {row["audio"] for row in spoken} == present
    for row in spoken:
        wave, sample_rate = soundfile.read(CORPUS / "speech" / row["audio"])
        assert (sample_rate, wave.ndim) == (16_000, 1), row
        duration_s = len(wave) / sample_rate
        assert 0.8 <= duration_s <= 3.25, row
        assert 7 <= len(row["text"]) / duration_s <= 22, row
        assert 0.2 < abs(wave).max() <= 1, row


def test_transcripts_are_sentences_of_spoken_words() -> None:
    for split in ("train", "heldout"):
        for row in rows(f"speech/{split}.jsonl"):
            assert re.fullmatch(r"[A-Z][A-Za-z',. -]*[.?!]", row["text"]), row
            assert row["speaker"].isalpha()


def test_no_heldout_sentence_is_nearly_said_in_train() -> None:
    train, heldout = (
        [set(re.findall(r"[\w']+", row["text"].lower())) for row in rows(f"speech/{split}.jsonl")]
        for split in ("train", "heldout")
    )
    copies = [(a, b) for a in heldout for b in train if len(a & b) >= SAME_SENTENCE * len(a | b)]
    assert copies == []


def user_turns(text: str) -> str:
    """What the document asks, without case and punctuation; a document without a user is its own question."""
    asked = "".join(re.findall(r"<\|user\|>(.*?)<\|/user\|>", text, re.DOTALL)) or text
    return " ".join(re.findall(r"\w+", asked.lower()))


@pytest.mark.parametrize("category", CATEGORIES)
def test_no_document_stands_twice_and_no_heldout_text_in_train(category: str) -> None:
    train = [row["text"] for row in rows(f"text/{category}/train.jsonl")]
    heldout = [row["text"] for row in rows(f"text/{category}/heldout.jsonl")]
    assert len({*train, *heldout}) == len(train) + len(heldout)


@pytest.mark.parametrize("category", ["conversation", "chain_of_thought", "tool_use"])
def test_no_heldout_question_is_asked_in_train(category: str) -> None:
    asked = {user_turns(row["text"]) for row in rows(f"text/{category}/train.jsonl")}
    heldout = [user_turns(row["text"]) for row in rows(f"text/{category}/heldout.jsonl")]
    assert [question for question in heldout if question in asked] == []


def test_words_and_functions_are_split_by_name() -> None:
    def names(split: str) -> set[str]:
        code = [row["text"] for row in rows(f"text/code/{split}.jsonl") if '"""' in row["text"]]
        functions = {
            f"def {name.strip('_')}" for text in code for name in re.findall(r"^def (\w+)", text, re.MULTILINE)
        }
        words = {name for text in texts(split) for name in re.findall(r"^(\w+) \((?:noun|verb|ad)", text, re.MULTILINE)}
        return functions | words

    assert len(names("heldout")) > 20
    assert names("train").isdisjoint(names("heldout"))


def assert_blocks_close(text: str) -> None:
    """Every closing tag closes the innermost open block; only `no_error` may be closed by the block around it."""
    open_blocks: list[str] = []
    for slash, name in TAG.findall(text):
        if not slash:
            if name not in UNPAIRED and name not in special_tokens.MARKERS:
                open_blocks.append(name)
            continue
        while open_blocks and open_blocks[-1] in OPTIONAL_CLOSERS and open_blocks[-1] != name:
            open_blocks.pop()
        innermost = open_blocks.pop()
        assert name in (innermost, CLOSER_ALIASES.get(innermost)), f"{innermost} is closed by {name} in {text}"
    assert set(open_blocks) <= OPTIONAL_CLOSERS, text


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_documents_are_well_formed(split: str) -> None:
    known = set(special_tokens.all_special_tokens())
    for text in texts(split):
        assert text.startswith(BOS)
        assert text.endswith(EOS)
        assert text.count(BOS) == text.count(EOS) == 1
        assert {match.group() for match in TAG.finditer(text)} <= known
        assert_blocks_close(text)


def test_train_has_every_block_that_text_may_weigh() -> None:
    seen = {name for text in texts("train") for slash, name in TAG.findall(text) if not slash}
    assert {name for names in special_tokens.GROUPS.values() for name in names} <= seen
    assert {*special_tokens.FIM_AND_FILES} - {"diff_del"} <= seen


def test_results_are_what_the_programs_print() -> None:
    pairs = re.compile(
        r"<\|code\|><\|lang:python\|>\n(.*?)\n<\|/code\|>\n\n<\|exec\|>.*?<\|exec_result\|>\n(.*?)\n<\|/exec_result\|>"
        r"|<\|jupyter_code\|>\n(.*?)\n<\|/jupyter_code\|>\n<\|jupyter_output\|>(.*?)<\|/jupyter_output\|>",
        re.DOTALL,
    )
    programs = [
        match.groups() for split in ("train", "heldout") for text in texts(split) for match in pairs.finditer(text)
    ]
    assert len(programs) > 100
    for script, result, cell, output in programs:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(script or cell, {"__name__": "__main__"})
        assert printed.getvalue().rstrip("\n") == (result or output)


def test_tool_calls_name_an_available_tool_and_its_parameters() -> None:
    calls = 0
    for split in ("train", "heldout"):
        for row in rows(f"text/tool_use/{split}.jsonl"):
            text = row["text"]
            for body in re.findall(r"<\|tool_call\|>(\{.*?\})<\|/tool_call\|>", text):
                call = json.loads(body)
                listed = re.search(r"<\|available_tools\|>\n(.*?)\n<\|/available_tools\|>", text, re.DOTALL)
                assert listed is not None
                tools = {tool["name"]: tool["parameters"] for tool in json.loads(listed[1])}
                assert tools[call["name"]].keys() == call["arguments"].keys()
                calls += 1
            assert all(json.loads(body) for body in re.findall(r"<\|tool_result\|>(.*?)<\|/tool_result\|>", text))
    assert calls > 50


def test_every_special_token_is_one_id_in_the_order_of_the_contract(tokenizer: Tokenizer) -> None:
    tokens = special_tokens.all_special_tokens()
    assert len(tokens) == len(set(tokens))
    assert [tokenizer.token_to_id(token) for token in tokens] == list(range(len(tokens))), "rebuild the demo corpus"
    assert (tokenizer.get_vocab_size(), tokens[:3]) == (2048, (special_tokens.PAD, BOS, EOS))
    text = " and\n".join(tokens)
    ids = tokenizer.encode(text).ids
    assert [number for number in ids if number < len(tokens)] == list(range(len(tokens)))
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "  two  spaces \n\n\ttab\r\n",
        "na\u00efve caf\u00e9 \u2014 \u201cquoted\u201d",
        "\u65e5\u672c\u8a9e \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0939\u093f\u0928\u094d\u0926\u0940",
        "\U0001f40d\U0001f469\u200d\U0001f680",
        "x\u0000y\u00a0z\u0301",
        "def f(a, b):\n    return a ** 2 // b  # 3.14",
        "<|not_a_token|> <| |>",
    ],
)
def test_the_tokenizer_loses_nothing(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_the_tokenizer_loses_nothing_of_the_corpus(tokenizer: Tokenizer) -> None:
    for text in texts("heldout"):
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_the_unigram_distribution_of_train_is_far_from_trivial(tokenizer: Tokenizer) -> None:
    counts = Counter(number for text in texts("train")[::5] for number in tokenizer.encode(text).ids)
    assert len(counts) > 1_200
    assert counts.most_common(1)[0][1] < 0.1 * sum(counts.values())


def test_every_source_and_licence_is_attributed(manifest: dict[str, Any]) -> None:
    attribution = (CORPUS.parents[2] / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for source in manifest["sources"]:
        name = "WordNet" if source["name"] == "wordnet-base" else source["name"]
        assert name in attribution
    licences = {path.name.split("-")[0] for path in (CORPUS / "LICENSES").iterdir()}
    assert licences == {
        "asterisk", "chatterbot", "emojibase", "fluent", "noto", "pocketsphinx", "python", "wordnet",
    }  # fmt: skip
