from __future__ import annotations

import importlib.util
import sys
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from prunebench.methods.base import MissingSignalError, Quadrant, Setting, Signal
from prunebench.methods.check import check_pruner, cost_of
from prunebench.methods.examples import example_pool
from prunebench.methods.meter import Cost
from prunebench.methods.surface.slim_sc import SlimSC, jaccard, thought_similarity, thoughts


def pool_of(*rows):
    ids = tuple(np.array(row, np.int64) for row in rows)
    texts = tuple(" ".join(map(str, row)) for row in rows)
    return replace(example_pool(len(rows)), signals={Signal.TOKEN_IDS: ids, Signal.TEXT: texts})


def texts_of(*texts):
    return replace(
        pool_of(*([1] for _ in texts)), signals={**pool_of(*([1] for _ in texts)).signals, Signal.TEXT: texts}
    )


def grams(ids, n):
    return {tuple(int(i) for i in ids[t : t + n]) for t in range(len(ids) - n + 1)}


def slow_jaccard(rows, n):
    sets = [grams(row, n) for row in rows]
    return np.array([[len(a & b) / len(a | b) if a | b else 1.0 for b in sets] for a in sets])


def slow_less_diverse(rows, n):
    """Plain re-computation of every mean over the remaining ones in every round."""
    similarity = slow_jaccard(rows, n)
    alive, scores, round_ = list(range(len(rows))), [float(len(rows))] * len(rows), 0
    while len(alive) > 1:
        pairs = [(a, b) for i, a in enumerate(alive) for b in alive[i + 1 :]]
        first, second = max(pairs, key=lambda pair: (similarity[pair], -pair[0], -pair[1]))
        mean = {a: np.mean([similarity[a, b] for b in alive if b != a]) for a in (first, second)}
        gone = first if mean[first] > mean[second] + 1e-9 else second
        scores[gone] = float(round_)
        alive.remove(gone)
        round_ += 1
    return scores


def test_jaccard_by_hand():
    # 1-grams {1,2,3} and {2,3,4}: 2 of 4. 2-grams {12,23} and {23,34}: 1 of 3. 4-grams: neither has any.
    rows = [np.array([1, 2, 3]), np.array([2, 3, 4])]
    assert jaccard(rows, 1)[0, 1] == 2 / 4
    assert jaccard(rows, 2)[0, 1] == 1 / 3
    assert jaccard(rows, 3)[0, 1] == 0.0
    assert jaccard(rows, 4).tolist() == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("top", [6, 151_936])
def test_jaccard_equals_plain_sets(n, top):
    generator = np.random.default_rng(n)
    words = generator.integers(0, top, 6)
    rows = [generator.choice(words, size) for size in (1, 2, 3, 9, 14, 30, 30)]
    assert np.array_equal(jaccard(rows, n), slow_jaccard(rows, n))


def test_the_redundant_member_of_the_nearest_pair_goes_first():
    # Round 0: 0 and 1 are the nearest pair (3 of 5). Both share one of six tokens with 2, but 1 shares 5 with 3 too.
    # Round 1: 2 and 3 (1 of 4); 2 shares 4 with 0 as well, so 2 goes.
    # Round 2: 0 and 3 share nothing; their means tie, and the later one goes. The last one left scores N.
    pool = pool_of([1, 2, 3, 4], [1, 2, 3, 5], [5, 6, 4], [7, 5])
    assert SlimSC(n=1, drop="less-diverse").score(pool).tolist() == [4.0, 0.0, 1.0, 2.0]


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_less_diverse_equals_the_slow_version(n, seed):
    generator = np.random.default_rng(seed)
    pool = pool_of(*(generator.integers(0, 5, size) for size in generator.integers(1, 15, 9)))
    assert SlimSC(n=n, drop="less-diverse").score(pool).tolist() == slow_less_diverse(pool.token_ids, n)


def test_random_drops_either_member_of_the_pair_equally_often():
    pool = pool_of([1, 2, 3], [1, 2, 3], [7, 8, 9])
    first = [int(SlimSC(n=1, seed=seed).score(pool).argmin()) for seed in range(400)]
    assert set(first) == {0, 1}
    assert abs(np.mean(first) - 0.5) < 0.125


def test_random_depends_on_the_problem_and_the_seed_only():
    rows = [[1, 2, 3, i % 2] for i in range(20)]
    scores = SlimSC(seed=1).score(pool_of(*rows))
    assert np.array_equal(scores, SlimSC(seed=1).score(pool_of(*rows)))
    assert not np.array_equal(scores, SlimSC(seed=2).score(pool_of(*rows)))
    assert not np.array_equal(scores, SlimSC(seed=1).score(replace(pool_of(*rows), problem="other")))


def test_one_path_survives():
    assert SlimSC().score(pool_of([1, 2, 3])).tolist() == [1.0]


def test_configurations_and_quadrant():
    configurations = SlimSC.configurations(Setting(64, 512, 192, 6))
    kinds = [("jaccard", 1), ("jaccard", 2), ("jaccard", 3), ("tfidf", 2)]
    assert {(configuration.similarity, configuration.n, configuration.drop) for configuration in configurations} == {
        (*kind, drop) for kind in kinds for drop in ("random", "less-diverse")
    }
    assert SlimSC.quadrant() is Quadrant.I


@pytest.mark.parametrize("drop", ["random", "less-diverse"])
@pytest.mark.parametrize("similarity", ["jaccard", "tfidf"])
def test_the_scores_go_with_the_path_ids_in_any_order(similarity, drop):
    generator = np.random.default_rng(5)
    pool = replace(pool_of(*generator.integers(0, 4, (12, 5))), paths=generator.permutation(100)[:12])
    scores = SlimSC(n=2, drop=drop, similarity=similarity).score(pool)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(12)
        assert np.array_equal(SlimSC(n=2, drop=drop, similarity=similarity).score(pool.take(order)), scores[order])


def test_both_signals_are_needed_whatever_the_similarity():
    pool = pool_of([1, 2], [2, 3])
    for similarity in ("jaccard", "tfidf"):
        for gone in (Signal.TOKEN_IDS, Signal.TEXT):
            left = {signal: column for signal, column in pool.signals.items() if signal is not gone}
            with pytest.raises(MissingSignalError, match=gone.name):
                SlimSC(similarity=similarity).score(replace(pool, signals=left))


# --- thoughts ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Add 2. Wait, that is 3.", ["Add 2. ", "Wait, that is 3."]),
        ("wait wait, alternatively square it", ["wait wait, alternatively square it"]),
        ("a Hmm. b another way c", ["a ", "Hmm. b ", "another way c"]),
        ("waiting awaits nothing", ["waiting awaits nothing"]),
        ("x\n\nwait y", ["x\n\n", "wait y"]),
        ("", [""]),
        ("  wait", ["wait"]),
    ],
)
def test_thoughts_begin_at_marker_phrases(text, expected):
    assert thoughts(text) == expected


def test_the_similarity_is_the_mean_best_match_of_all_thoughts_of_both():
    vectors = {"a": [1, 0], "b": [0, 2], "c": [3, 4], "": [0, 0]}
    similarity = thought_similarity(
        [["a", "b"], ["c"], [""], [""]], lambda pieces: np.array([vectors[piece] for piece in pieces], float)
    )
    # a and c: 0.6; b and c: 0.8; the best for c is 0.8. A thought without a vector is like its own kind only.
    third = (0.6 + 0.8 + 0.8) / 3
    expected = [[1, third, 0, 0], [third, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert similarity == pytest.approx(np.array(expected))


def slow_tfidf(texts):
    """Plain dictionaries: smooth idf over the distinct thoughts, cosine by sums."""
    paths = [thoughts(text) for text in texts]
    documents = {piece: Counter(piece.lower().split()) for path in paths for piece in path}
    seen = Counter(word for words in documents.values() for word in words)
    idf = {word: 1 + np.log((1 + len(documents)) / (1 + count)) for word, count in seen.items()}

    def cosine(start, other):
        a, b = ({word: n * idf[word] for word, n in documents[piece].items()} for piece in (start, other))
        size = np.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values()))
        return sum(value * b.get(word, 0) for word, value in a.items()) / size

    def similarity(path, other):
        best = [max(cosine(thought, two) for two in to) for of, to in ((path, other), (other, path)) for thought in of]
        return sum(best) / len(best)

    return np.array([[similarity(path, other) for other in paths] for path in paths])


def test_tfidf_equals_plain_dictionaries_and_drives_the_rounds():
    generator = np.random.default_rng(3)
    words = np.array(["x", "=", "2", "Wait", "alternatively", "y", "+", "sum"])
    texts = [" ".join(generator.choice(words, size)) for size in (3, 5, 9, 9, 14, 20)]
    expected = slow_tfidf(texts)
    method = SlimSC(similarity="tfidf", drop="less-diverse")
    assert np.allclose(method._similarity([], texts), expected, atol=1e-8)
    first, second = np.unravel_index((expected - 2 * np.eye(6)).argmax(), (6, 6))
    total = expected.sum(1)
    assert method.score(texts_of(*texts)).argmin() == (first if total[first] > total[second] + 1e-9 else second)


def test_tfidf_sees_a_thought_that_was_moved_where_ngrams_do_not():
    texts = ("try 2 wait try 3", "nothing else at all", "wait try 3 wait try 2 wait so", "other words here")
    scores = SlimSC(similarity="tfidf").score(texts_of(*texts))
    assert scores.argmin() in (0, 2)


def test_texts_without_words_are_all_alike():
    assert SlimSC(similarity="tfidf").score(texts_of("", " ", "")).max() == 3.0


def test_jaccard_and_tfidf_cost_nothing():
    assert all(cost_of(SlimSC(similarity=kind), example_pool()) == Cost() for kind in ("jaccard", "tfidf"))


# --- embedding ---


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    """A sentence-transformers folder: a sentence is the mean of its words' vectors, (1, 0), (0, 1) or (1, 1)."""
    if importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip("NOT TESTED: similarity 'embedding' needs sentence-transformers, which is not installed here")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"east": 0, "north": 1, "wait": 2}, unk_token="wait"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    weights = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    folder = tmp_path_factory.mktemp("embedder")
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights)]).save(str(folder))
    return str(folder)


def test_a_thought_is_the_mean_of_its_sentences_not_of_its_words(embedder):
    method = SlimSC(similarity="embedding", embedder=embedder)
    # Sentences (1, 0) and (0, 1) weigh the same, though the first has three words.
    vectors = method._embed(["east east east\nnorth", "north", ""])
    assert vectors[:2] == pytest.approx(np.array([[0.5, 0.5], [0, 1]]))
    texts = ["east east east\nnorth wait north", "north", "east"]
    assert thoughts(texts[0]) == ["east east east\nnorth ", "wait north"]
    a, b = np.array([0.5, 0.5]), np.array([0.5, 1.0])
    to_north = [a[1] / np.linalg.norm(a), b[1] / np.linalg.norm(b)]
    assert method._similarity([], texts)[0, 1] == pytest.approx((sum(to_north) + max(to_north)) / 3)
    assert method._similarity([], texts)[1, 2] == pytest.approx(0.0)


def test_embedding_drops_one_of_the_two_that_mean_the_same(embedder):
    method = SlimSC(similarity="embedding", embedder=embedder, drop="less-diverse")
    assert method.score(texts_of("east", "north", "north north north", "wait")).argmin() in (1, 2)
    assert check_pruner(method) is None


def test_an_embedder_is_charged_by_its_parameters(embedder):
    pool = example_pool()
    tokens = int(pool.lengths.sum())
    method = SlimSC(similarity="embedding", embedder=embedder)
    assert cost_of(method, pool) == Cost(reencoded_tokens=tokens, flops=2.0 * 6 * tokens, model_bytes=24)


def test_a_folder_that_is_not_there_is_named(embedder):
    for folder in ("", f"{embedder}/none"):
        with pytest.raises(ValueError, match=f"embedder = '{folder}' is no folder; give the local folder"):
            SlimSC(similarity="embedding", embedder=folder).score(texts_of("a", "b"))


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'prunebench\[embedding\]'"):
        SlimSC(similarity="embedding", embedder=".").score(texts_of("a", "b"))


def test_it_is_fast():
    generator = np.random.default_rng(0)
    pool = pool_of(*generator.integers(0, 400, (64, 128)))
    spent = []
    for _ in range(7):
        started = time.perf_counter()
        SlimSC(n=3, drop="less-diverse").score(pool)
        spent.append(time.perf_counter() - started)
    assert min(spent) < 0.02
