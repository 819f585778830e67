"""The training of ``textgym/tiny``: :mod:`~textgym.pretrain.train`, and its model card."""
