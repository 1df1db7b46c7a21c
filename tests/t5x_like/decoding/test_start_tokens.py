"""Decoders begin with their own token; what follows is what `transformers` says."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.hf import load_hf
from t5x_like import cli, load_run
from t5x_like.decoding import generate

BART = Path(__file__).parents[2] / "models" / "hf" / "fixtures" / "bart"


def test_barts_decoder_begins_with_its_end_token():
    model, params = load_hf(BART)
    expected = np.load(BART / "expected.npz")
    start_id = json.loads((BART / "config.json").read_text())["decoder_start_token_id"]
    assert start_id == 2
    prompts = [[int(i) for i in row if i] for row in expected["encoder_input_tokens"]]
    found = generate(
        model, params, prompts, max_new_tokens=8, bos_id=start_id, eos_id=None, batch_size=3
    )
    assert [one.tokens for one in found] == expected["tokens"][:, :8].tolist()
    # The start token decides what follows: 0 leads elsewhere.
    from_0 = generate(model, params, prompts, max_new_tokens=8, eos_id=None, batch_size=3)
    assert [one.tokens for one in from_0] != [one.tokens for one in found]


@pytest.mark.interop
def test_an_imported_gpt2_continues_the_end_of_the_text_before(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    source, out = tmp_path / "gpt2", tmp_path / "run"
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(["many hands make light work"], trainer)
    made.add_special_tokens(["<|endoftext|>"])
    size = made.get_vocab_size()
    end = size - 1
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=size, n_embd=32, n_head=2, n_layer=2, n_positions=64, bos_token_id=end,
        eos_token_id=end, initializer_range=0.3,
    )  # fmt: skip
    theirs = transformers.GPT2LMHeadModel(config).eval()
    theirs.save_pretrained(source)
    made.save(str(source / "tokenizer.json"))
    assert cli.main(["import-hf", str(source), f"--out={out}"]) == 0
    # The run needs nothing of the directory that it came from.
    shutil.rmtree(source)
    run = load_run(str(out))

    prompt = made.encode("many hands").ids
    with torch.no_grad():
        read = torch.tensor([[end, *prompt]])
        (row,) = theirs.generate(read, do_sample=False, max_new_tokens=12, pad_token_id=end)
        wanted = row[read.shape[1] :].tolist()
        other = theirs.generate(read[:, 1:], do_sample=False, max_new_tokens=12, pad_token_id=end)
        log_probs = theirs(read).logits.log_softmax(-1)[0]
    assert wanted != other[0, len(prompt) :].tolist()
    assert run.generate(["many hands"], temperature=0.0, max_new_tokens=12) == [
        made.decode(wanted[: wanted.index(end)] if end in wanted else wanted)
    ]
    # The end token counts where the task's targets have one.
    target = run.codec.encode_target("many hands")
    assert target[: len(prompt)] == prompt
    likely = [float(log_probs[i, token]) for i, token in enumerate(target)]
    np.testing.assert_allclose(run.score(targets=["many hands"]), [sum(likely)], rtol=1e-4)
