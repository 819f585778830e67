"""Files that are written atomically with fsync, and verified when they are read.

* :mod:`textgym.storage.files`: text, JSON, bytes, folders, and appended lines.
* :mod:`textgym.storage.digest`: the SHA-256 of a safetensors file, inside the file.
* :mod:`textgym.storage.tensors`: named tensors in a safetensors file with a digest.
* :mod:`textgym.storage.value_files`: nested values with tensors in them, in one such file.
* :mod:`textgym.storage.json_values`: conversion of values to and from JSON.
* :mod:`textgym.storage.lock`: one run per folder.

Reading never runs code from a file. Only the modules for tensors import torch.
"""
