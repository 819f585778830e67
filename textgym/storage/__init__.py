"""Files on disk: written atomically, forced to the disk, and checked when they are read.

* :mod:`textgym.storage.files`: text, JSON and appended lines; a failed write leaves the old file.
* :mod:`textgym.storage.digest`: a SHA-256 inside a safetensors file, over all of its bytes.
* :mod:`textgym.storage.tensors`: named tensors in a safetensors file with such a digest.
* :mod:`textgym.storage.value_files`: nested values with tensors in them, in one such file.
* :mod:`textgym.storage.json_values`: values as JSON can hold them.
* :mod:`textgym.storage.lock`: one run per folder.

Reading never runs code from a file. Only the modules about tensors import torch.
"""
