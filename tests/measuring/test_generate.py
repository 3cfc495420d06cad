"""Responses of a tiny chat model: alone and in batches, cut prompts, and a local judge's logits."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer, OlmoConfig, OlmoForCausalLM

from overtrain import PipelineError
from overtrain.data import tokenizer
from overtrain.measuring.generate import Decoding, respond
from overtrain.measuring.judges import by_length, open_judge
from overtrain.measuring.verdicts import FIRST, SECOND, Question, Template

CHAT = (
    "{% for message in messages %}{{ '<' + message['role'][0] + '>' + message['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)
NAME = "alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt"
CPU = torch.device("cpu")
PROMPTS = [f"What is {'very ' * (n % 7)}{name}?" for n, name in enumerate("abcdefghijklmnopqrst")]


def chat_model(folder: Path, context: int, seed: int = 0, **tokens: str | None) -> Path:
    """A random model of characters; wide weights, so that its answers differ and end."""
    torch.manual_seed(seed)
    encoder = tokenizer.characters()
    config = OlmoConfig(
        vocab_size=96,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=context,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=0,
        initializer_range=0.7,
    )
    model = OlmoForCausalLM(config)
    model.lm_head.weight.data[0] *= 2.5
    model.save_pretrained(folder)
    encoder.save(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) | {"chat_template": CHAT} | tokens
    path.write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_model(tmp_path_factory.mktemp("chat"), context=96)


def error_line(action: Callable) -> str:
    with pytest.raises(PipelineError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


@torch.inference_mode()
def by_hand(folder: Path, prompt: str, new_tokens: int) -> str:
    """The greedy answer by one full pass for each token."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    words = AutoTokenizer.from_pretrained(folder)
    ids = words(f"<u>{prompt}<a>", add_special_tokens=False).input_ids
    start = len(ids)
    for _ in range(new_tokens):
        token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        if token == 0:
            break
        ids.append(token)
    return words.decode(ids[start:]).strip()


def test_a_batch_answers_as_each_prompt_alone_and_as_by_hand(folder):
    together = respond(folder, PROMPTS, Decoding(24, 8), CPU)
    assert (
        together
        == [respond(folder, [p], Decoding(24, 1), CPU)[0] for p in PROMPTS[:8]] + (together[8:])
    )
    assert together == respond(folder, PROMPTS, Decoding(24, 3), CPU)
    assert together == [by_hand(folder, prompt, 24) for prompt in PROMPTS]
    assert len(set(together)) > 10
    lengths = {len(answer) for answer in together}
    assert min(lengths) < 22 and max(lengths) == 24  # some end by themselves


def test_a_long_prompt_loses_the_start_of_its_text(folder, capsys):
    long = "Once upon a time there was a fox; what is it?"
    end = long[-26:]  # 96 tokens of context, 64 of them new, 6 the template's marks
    assert respond(folder, [long], Decoding(64, 4), CPU) == [by_hand(folder, end, 64)]
    assert "1 of 1 prompts lost their start: more than 32 tokens" in capsys.readouterr().out
    assert respond(folder, [end], Decoding(64, 4), CPU) == [by_hand(folder, end, 64)]
    assert "lost" not in capsys.readouterr().out


def test_what_cannot_answer_is_one_line(folder, tmp_path):
    assert "room for 6 tokens" in error_line(lambda: respond(folder, ["a"], Decoding(90, 1), CPU))
    plain = chat_model(tmp_path / "plain", 64, chat_template=None)
    assert "no chat template" in error_line(lambda: respond(plain, ["a"], Decoding(8, 1), CPU))
    line = error_line(lambda: respond(folder, ["a"], Decoding(8, 1, "vllm"), CPU))
    assert "not installed here: run with --sdm conda" in line


def test_a_tokenizer_without_padding_answers_the_same(folder, tmp_path):
    bare = chat_model(tmp_path / "bare", 96, pad_token=None)
    assert AutoTokenizer.from_pretrained(bare).pad_token is None
    how = Decoding(16, 8)
    assert respond(bare, PROMPTS, how, CPU) == respond(folder, PROMPTS, how, CPU)


def test_a_checkpoints_own_way_to_generate_changes_nothing(folder, tmp_path):
    other = chat_model(tmp_path / "other", 96)
    own = {"do_sample": True, "eos_token_id": 5, "repetition_penalty": 3.0, "temperature": 2.0}
    (other / "generation_config.json").write_text(json.dumps(own))
    how = Decoding(24, 8)
    assert respond(other, PROMPTS, how, CPU) == respond(folder, PROMPTS, how, CPU)


def test_nothing_is_put_before_what_the_template_says(folder, tmp_path):
    marking = chat_model(tmp_path / "marking", 96)
    encoder = Tokenizer.from_file(str(marking / "tokenizer.json"))
    mark = ("#", encoder.token_to_id("#"))
    encoder.post_processor = TemplateProcessing(single="# $A", special_tokens=[mark])
    encoder.save(str(marking / "tokenizer.json"))
    assert AutoTokenizer.from_pretrained(marking)("a").input_ids[0] == mark[1]
    how = Decoding(24, 8)
    assert respond(marking, PROMPTS, how, CPU) == respond(folder, PROMPTS, how, CPU)


def test_without_an_end_of_text_it_is_one_line(tmp_path):
    endless = chat_model(tmp_path / "endless", 64, eos_token=None, pad_token=None)
    assert "no end of text" in error_line(lambda: respond(endless, ["a"], Decoding(8, 1), CPU))


# --- the judge that is a local model --------------------------------------------------------------


def test_a_local_judge_compares_the_logits_of_both_identifiers(tmp_path):
    folder = chat_model(tmp_path / "judge", 4096, seed=2)
    settings = {"kind": "transformers", "model": str(folder), "template": NAME, "batch_size": 4}
    questions = [Question(p, "ab " * (n % 5), "cd " * (n % 3)) for n, p in enumerate(PROMPTS[:10])]
    with open_judge("local", settings) as judge:
        verdicts = dict(judge.ask(questions))
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    words = AutoTokenizer.from_pretrained(folder)
    m, big_m = (words(name, add_special_tokens=False).input_ids[0] for name in "mM")
    for place, question in enumerate(questions):
        system, user = Template(NAME).messages(question)
        text = f"<s>{system['content']}<u>{user['content']}<a>"
        ids = words(text, return_tensors="pt", add_special_tokens=False).input_ids
        with torch.inference_mode():
            logits = model(ids).logits[0, -1]
        assert verdicts[place].choice == (FIRST if logits[m] > logits[big_m] else SECOND)
        said = [float(number) for number in verdicts[place].raw.split()]
        assert said == pytest.approx([float(logits[m]), float(logits[big_m])], abs=2e-4)
    assert {verdict.choice for verdict in verdicts.values()} == {FIRST, SECOND}


def test_a_downloaded_judge_is_loaded_from_its_folder(tmp_path):
    folder = chat_model(tmp_path / "judge", 4096, seed=2)
    (folder / "manifest.json").write_text(json.dumps({"sha256": "of all files"}))
    settings = {"kind": "transformers", "model": "on/the-hub", "template": NAME, "batch_size": 4}
    with open_judge("local", settings, folder=folder) as judge:
        (found,) = judge.ask([Question("?", "a", "b")])
    assert found[1].choice in (FIRST, SECOND)
    assert (judge.identity["model"], judge.identity["files"]) == ("on/the-hub", "of all files")


def test_a_local_judge_with_too_small_a_context_is_one_line(folder):
    settings = {"kind": "transformers", "model": str(folder), "template": NAME, "batch_size": 4}
    with open_judge("local", settings) as judge:
        line = error_line(lambda: list(judge.ask([Question("?", "a", "b")])))
    assert "the judge takes 96" in line


def test_batches_are_by_length_the_longest_first():
    encoded = [[0] * n for n in (3, 9, 1, 7, 5)]
    assert by_length(encoded, 2) == [[1, 3], [4, 0], [2]]
