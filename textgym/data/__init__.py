"""Text data: files, rows, messages, words, and observations.

* :mod:`~textgym.data.files`: reading files (.txt, .jsonl, .csv, .tsv, .parquet) and hub data sets;
  :mod:`~textgym.data.csv_files` has the syntax of CSV.
* :mod:`~textgym.data.rows`: which column of a row is the prompt, and forms of other projects.
* :mod:`~textgym.data.messages`: conversations as lists of messages.
* :mod:`~textgym.data.words`: words of any script.
* :mod:`~textgym.data.observations`: the arrays that a policy sees.

Which rows are drawn, and when, is in :mod:`textgym.tasks.sources`.
"""
