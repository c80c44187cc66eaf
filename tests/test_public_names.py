import subprocess
import sys

import pytest

import miracle_lib as ml


@pytest.mark.parametrize("name", [name for name in ml.__all__ if name != "__version__"])
def test_every_public_name_resolves_and_is_documented(name):
    assert getattr(ml, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Heirarchy'"):
        _ = ml.Heirarchy


def test_importing_the_package_does_not_import_torch():
    code = "import sys, miracle_lib; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
