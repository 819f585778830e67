"""Human feedback on texts: the store of judgements, their exchange, and their quality.

* :mod:`textgym.feedback.items`: things to judge, judgements, and the values that they may have.
* :mod:`textgym.feedback.store`: the store, an append-only SQLite file for several processes.
* :mod:`textgym.feedback.views`: judgements as rows for training.
* :mod:`textgym.feedback.candidates`: texts to judge, from files and samples.
* :mod:`textgym.feedback.exchange`: export and import as JSONL.
* :mod:`textgym.feedback.agreement`, :mod:`textgym.feedback.annotators`: quality.

Nothing here imports torch. The page is in :mod:`textgym.serve.feedback`.
"""

from textgym.feedback.items import Item, Judgement, Kind, NewItem
from textgym.feedback.store import Shown, Store

__all__ = ["Item", "Judgement", "Kind", "NewItem", "Shown", "Store"]
