"""N-grams of texts: a Kneser-Ney trigram model, and the divergence of two samples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise


class Trigrams:
    """An interpolated Kneser-Ney trigram model (Chen and Goodman 1999, section 2.7).

    Args:
        texts: Token ids of the texts to learn from.
        vocabulary: Number of ids; one more is for the ends of texts.
        discount: The number that is subtracted from every count.
    """

    def __init__(
        self, texts: Sequence[Sequence[int]], vocabulary: int, discount: float = 0.75
    ) -> None:
        self.end = vocabulary
        self.discount = discount
        # By order: the count of a sequence, or of the different tokens before it; and for each
        # context the sum of these counts, and the number of sequences that begin with it.
        counts: Counter[tuple[int, ...]] = Counter()
        for text in texts:
            counts.update(self.grams(text))
        self.counts: list[Counter[tuple[int, ...]]] = [counts]
        for _ in range(2):
            self.counts.append(Counter(gram[1:] for gram in self.counts[-1]))
        self.sums: list[Counter[tuple[int, ...]]] = []
        self.kinds: list[Counter[tuple[int, ...]]] = []
        for table in self.counts:
            sums: Counter[tuple[int, ...]] = Counter()
            for gram, count in table.items():
                sums[gram[:-1]] += count
            self.sums.append(sums)
            self.kinds.append(Counter(gram[:-1] for gram in table))

    def grams(self, text: Sequence[int]) -> list[tuple[int, int, int]]:
        """The trigrams of a text, its end included."""
        padded = [self.end, self.end, *text, self.end]
        return list(zip(padded, padded[1:], padded[2:], strict=False))

    def probability(self, gram: tuple[int, ...]) -> float:
        """Probability of the last token after the others."""
        if not gram:
            return 1 / (self.end + 1)
        order = 3 - len(gram)
        total = self.sums[order][gram[:-1]]
        shorter = self.probability(gram[1:])
        if not total:
            return shorter
        kept = max(self.counts[order][gram] - self.discount, 0.0)
        return (kept + self.discount * self.kinds[order][gram[:-1]] * shorter) / total

    def log_likelihood(self, text: Sequence[int]) -> float:
        """Log-likelihood in nats per token, the end included."""
        grams = self.grams(text)
        return sum(math.log(self.probability(gram)) for gram in grams) / len(grams)


def divergence(one: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> float:
    """Jensen-Shannon divergence of the bigrams of texts, in bits: 0 if equal, at most 1."""
    shares = []
    for texts in (one, other):
        counts = Counter(pair for text in texts for pair in pairwise(text))
        shares.append({pair: count / counts.total() for pair, count in counts.items()})
    total = 0.0
    for pair in shares[0].keys() | shares[1].keys():
        p, q = (share.get(pair, 0.0) for share in shares)
        total += sum(each * math.log2(2 * each / (p + q)) for each in (p, q) if each)
    return total / 2
