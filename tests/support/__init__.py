"""What the tests share, a subject to each module. No test module imports another one, or `conftest`."""

import pkgutil

import pytest

# An assertion that fails in here shows its values, as it does in a test.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))
