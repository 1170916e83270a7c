"""What schemathesis makes and cannot send as it is made.

tests/service/api/test_schemathesis.py gives it this file.
"""

from typing import Any

import schemathesis
from schemathesis.hooks import HookContext

FORM = "multipart/form-data"


@schemathesis.hook
def filter_case(context: HookContext, case: schemathesis.Case[Any]) -> bool:
    """Without forms whose optional part `options` is an empty list or object.

    A form has none: the part is left out, and what is sent is another form, which is right.
    schemathesis knows, but not beside pictures: its validator takes no bytes.
    """
    if case.media_type != FORM or not isinstance(case.body, dict):
        return True
    options = case.body.get("options")
    return not isinstance(options, list | dict) or bool(options)
