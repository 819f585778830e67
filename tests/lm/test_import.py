from __future__ import annotations

import subprocess
import sys


def test_importing_the_package_imports_neither_torch_nor_transformers():
    code = "import sys, textgym.lm; print('torch' in sys.modules, 'transformers' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False", "False"]


def test_an_unknown_name_is_an_attribute_error():
    import textgym.lm

    assert not hasattr(textgym.lm, "nothing")
    assert "LanguageModel" in dir(textgym.lm)
