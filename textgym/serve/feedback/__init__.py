"""The page on which people judge texts: one page, one decision.

* :mod:`textgym.serve.feedback.server`: the settings, and the server.
* :mod:`textgym.serve.feedback.app`: the addresses and their answers.
* :mod:`textgym.serve.feedback.forms`: posted forms as judgements, and judgements as forms.
* :mod:`textgym.serve.feedback.pieces`: words and their differences.
* :mod:`textgym.serve.feedback.guard`: who may send what: hosts, origins, sizes, headers.
* :mod:`textgym.serve.feedback.names`: signed cookies and links.
* :mod:`textgym.serve.feedback.languages`: English and Chinese.

Needs the extra ``web``. Nothing here imports torch.
"""
