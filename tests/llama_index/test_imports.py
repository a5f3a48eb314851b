"""What `import llama_index_hermes` costs and offers."""

from __future__ import annotations

import doctest
import subprocess
import sys

import llama_index_hermes
from llama_index_hermes import HermesLLM
from tests.support.places import ROOT


def test_import_and_construction_load_no_model_library():
    program = (
        "import sys; from llama_index_hermes import HermesLLM; HermesLLM(model='tiny-hermes').metadata; "
        "print([name for name in ('torch', 'transformers', 'langchain', 'langchain_core') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_examples_of_the_manual():
    (manual,) = doctest.DocTestFinder(recurse=False).find(HermesLLM, "HermesLLM", globs={})
    assert len(manual.examples) > 20
    assert doctest.DocTestRunner().run(manual).failed == 0


def test_public_names_exist():
    assert all(hasattr(llama_index_hermes, name) for name in llama_index_hermes.__all__)
    assert llama_index_hermes.__version__
