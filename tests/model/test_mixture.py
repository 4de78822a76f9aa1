import numpy as np
import pytest
from support.tables import TEXT

from pipeline.core.errors import UserError
from pipeline.dataset.dictionary import Dictionary
from pipeline.model.mixture import fit_weights, load_ngram, refit_weights, save_ngram
from pipeline.model.ngram import NgramModel
from pipeline.model.ngram_kernels import COUNT_GROUPS, mix_inputs, mix_rows, read

DICTIONARY = Dictionary.of(TEXT)
IDS = DICTIONARY.encode(TEXT).astype(np.uint8)
ORDER = 5
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.uniform(0.1, 1, ((ORDER + 1) * COUNT_GROUPS, 2)).astype(np.float32)


def model(ids=IDS[:300], order=ORDER):
    weights = WEIGHTS[: (order + 1) * COUNT_GROUPS]
    return NgramModel.fit(ids, vocab_size=len(DICTIONARY), order=order).with_weights(weights)


def reader_after(ngram, ids):
    states = ngram.trie.start()
    read(ngram.trie, np.asarray(ids, np.int64), states)
    return states


def test_mixed_logits_are_the_weighted_product_of_both():
    ngram, ids = model(), IDS[280:340].astype(np.int64)
    logits = RANDOM.normal(size=(len(ids), len(DICTIONARY))).astype(np.float32)
    mixed = logits.copy()
    mix_inputs(ngram.trie, ids, ngram.trie.start(), mixed)
    rows = np.array([[0, 1, len(ids)]])
    probs, groups = ngram.distributions(ids, rows)
    for at, group in enumerate(groups):
        own, other = WEIGHTS[group]
        wanted = own * logits[at] + other * np.log(np.maximum(probs[at], 1e-30))
        np.testing.assert_allclose(mixed[at], wanted, rtol=1e-5)


def test_a_prompt_read_at_once_or_in_pieces_leaves_the_same_reader():
    ngram, ids = model(), IDS[100:200].astype(np.int64)
    whole = reader_after(ngram, ids)
    pieces = ngram.trie.start()
    for at in range(0, len(ids), 7):
        read(ngram.trie, ids[at : at + 7], pieces)
    depth = whole[-1]
    assert pieces[-1] == depth
    assert pieces[:depth].tolist() == whole[:depth].tolist()


def test_what_precedes_and_what_follows_an_id_are_mixed_alike():
    ngram, ids = model(), IDS[280:340].astype(np.int64)
    logits = RANDOM.normal(size=(len(ids), len(DICTIONARY))).astype(np.float32)
    following, preceding = logits.copy(), logits.copy()
    mix_inputs(ngram.trie, ids, ngram.trie.start(), following)
    mix_rows(ngram.trie, np.append(ids[1:], 1), reader_after(ngram, ids[:1]), preceding)
    assert following.tobytes() == preceding.tobytes()


def test_fitted_weights_are_the_best():
    """No small change of a group's weights gives the labels a higher probability, apart from the prior."""
    positions, vocab, order = 4000, 6, 1
    network, ngram = (
        RANDOM.normal(size=(positions, vocab)).astype(np.float32),
        RANDOM.dirichlet(np.ones(vocab), positions),
    )
    groups = RANDOM.integers(0, 2, positions) * COUNT_GROUPS
    true = np.array([[0.9, 0.2], [0.3, 0.8]])[groups // COUNT_GROUPS]
    logits = true[:, :1] * network + true[:, 1:] * np.log(ngram)
    labels = (logits + RANDOM.gumbel(size=logits.shape)).argmax(axis=1)
    weights = fit_weights(network, ngram, groups, labels, order=order).reshape(order + 1, COUNT_GROUPS, 2)
    np.testing.assert_allclose(weights[:, 0], [[0.9, 0.2], [0.3, 0.8]], atol=0.1)
    assert weights[0, 1] == pytest.approx(weights[0, 0], abs=0.1)  # without evidence: those of its length


def test_without_positions_the_network_is_left_alone():
    nothing = np.zeros((0, 6), np.float32)
    weights = fit_weights(nothing, nothing.astype(float), np.zeros(0, int), np.zeros(0, int), order=2)
    assert weights.tolist() == [[1.0, 0.0]] * 3 * COUNT_GROUPS


@pytest.mark.parametrize("order", [1, 4, 14])
@pytest.mark.parametrize("ids", [IDS, IDS[:1], np.tile(IDS[:3], 400)])
def test_a_saved_model_is_the_same_when_loaded(order, ids, tmp_path):
    ngram = NgramModel.fit(ids, vocab_size=len(DICTIONARY), order=order)
    ngram = ngram.with_weights(RANDOM.uniform(size=((order + 1) * COUNT_GROUPS, 2)).astype(np.float32))
    save_ngram(ngram, tmp_path / "ngram.safetensors")
    loaded = load_ngram(tmp_path / "ngram.safetensors", vocab_size=len(DICTIONARY))
    assert (loaded.order, loaded.complete) == (order, True)
    for name, before, after in zip(ngram.trie._fields, ngram.trie, loaded.trie, strict=True):
        np.testing.assert_array_equal(before, after, err_msg=name)


def test_a_file_that_is_missing_or_of_another_vocabulary_is_one_line(tmp_path):
    file = tmp_path / "ngram.safetensors"
    with pytest.raises(UserError, match="no such file"):
        load_ngram(file, vocab_size=9)
    save_ngram(model(), file)
    with pytest.raises(UserError, match=f"holds a model of {len(DICTIONARY)} ids, allowed are the 9 of the dictionary"):
        load_ngram(file, vocab_size=9)


def test_a_damaged_file_is_one_line_or_a_sound_model(tmp_path):
    """Bytes are changed at random: what is loaded in spite of it must be readable without leaving the arrays."""
    file = tmp_path / "ngram.safetensors"
    save_ngram(model(), file)
    original = file.read_bytes()
    refused = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        damaged = bytearray(original)
        for at in random.integers(0, len(damaged), 3):
            damaged[at] = random.integers(0, 256)
        file.write_bytes(bytes(damaged))
        try:
            loaded = load_ngram(file, vocab_size=len(DICTIONARY))
        except UserError as error:
            assert str(error).startswith(str(file))  # noqa: PT017  most are refused, some changes do no harm
            refused += 1
            continue
        trie = loaded.trie
        assert trie.first.min() >= 1
        assert trie.first.max() == len(trie.symbols)
        assert trie.symbols.max() < len(DICTIONARY)
        loaded.distributions(IDS.astype(np.int64), np.array([[0, 1, 100]]))
    assert refused > 20


def test_a_refit_lowers_the_loss_and_changes_only_the_groups_that_occur():
    labels = RANDOM.integers(1, 6, 3000)
    network = RANDOM.normal(size=(3000, 6)).astype(np.float32)
    known = np.log(RANDOM.dirichlet(np.ones(6), 3000)).astype(np.float32)
    known[np.arange(3000), labels] += 1.0
    groups = RANDOM.integers(0, 3, 3000)

    def loss(weights):
        mixed = weights[groups, :1] * network + weights[groups, 1:] * known
        return (np.log(np.exp(mixed).sum(axis=1)) - mixed[np.arange(3000), labels]).mean()

    found = refit_weights(WEIGHTS, network, known, groups, labels)
    assert loss(found) < loss(WEIGHTS)
    assert (found[3:] == WEIGHTS[3:]).all()
    # Without evidence the prior stays.
    few = refit_weights(WEIGHTS, network[:1], known[:1], groups[:1], labels[:1])
    np.testing.assert_allclose(few, WEIGHTS, atol=0.5)
